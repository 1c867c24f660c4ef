"""Sizes that a json leaves out come from the headers of the images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from PIL import Image
from small_sets import changed, lvis_style, write_set

from balms_seg.annotations import AnnotationError
from balms_seg.data.instances.dataset_dicts import load_annotations
from balms_seg.evaluation import load_ground_truth


def without_sizes(folder: Path) -> Path:
    content = changed(lvis_style(), "images", 0, width=None)
    content["images"][1].update(width=None, height=None)
    content["images"][2]["height"] = []
    return write_set(folder, content)


def test_every_image_has_its_size(tmp_path: Path) -> None:
    path = without_sizes(tmp_path)
    (tmp_path / "whole.json").write_text(json.dumps(lvis_style()))
    expected = load_annotations(tmp_path / "whole.json", tmp_path / "images")
    assert load_annotations(path, tmp_path / "images") == list(expected)


def test_masks_can_be_evaluated(tmp_path: Path) -> None:
    truth = load_ground_truth(without_sizes(tmp_path), image_root=str(tmp_path / "images"))
    assert set(truth.image_sizes) == {(16, 20)}
    assert load_ground_truth(without_sizes(tmp_path)).image_sizes == (None, None, None)


def test_sizes_are_those_of_files_that_lie_elsewhere(tmp_path: Path) -> None:
    path = without_sizes(tmp_path)
    (tmp_path / "images").rename(tmp_path / "moved")
    (tmp_path / "images").mkdir()
    (tmp_path / "moved").rename(tmp_path / "images" / "below")
    folder = str(tmp_path / "images")
    truth = load_ground_truth(path, image_root=folder, match_file_names="basename")
    assert set(truth.image_sizes) == {(16, 20)}
    with pytest.raises(AnnotationError, match="without a file to read them from"):
        load_ground_truth(path, image_root=folder)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = without_sizes(tmp_path)
    (tmp_path / "images" / "a.png").unlink()
    (tmp_path / "images" / "b.png").write_text("no image")
    with pytest.raises(AnnotationError, match="2 images in .* without width and height.*a.png"):
        load_annotations(path, tmp_path / "images")


def test_images_of_known_size_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an image was opened")

    path = write_set(tmp_path, lvis_style())
    monkeypatch.setattr(Image, "open", refuse)
    assert len(load_annotations(path, tmp_path / "images")) == 3
