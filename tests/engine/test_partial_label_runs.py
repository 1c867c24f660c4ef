"""MODEL.PARTIAL_LABELS from an annotation file to the loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_up_data import write_data_sets
from meta_runs import DECOUPLED
from runs import build_trainer, run_training

from balms_seg.engine import load_config
from balms_seg.model_zoo import get_config_file


def first_loss(folder: Path, *, is_partial: bool, absent: str) -> float:
    """Classification loss of the first iteration; `absent`: the classes in neg_category_ids."""
    folder.mkdir()
    settings = write_data_sets(folder) | {"DATASETS.TEST": ()}
    file = folder / "train.json"
    content = json.loads(file.read_text())
    ids = [category["id"] for category in content["categories"]]
    for image in content["images"]:
        own = {a["category_id"] for a in content["annotations"] if a["image_id"] == image["id"]}
        image["neg_category_ids"] = [c for c in ids if c not in own] if absent == "all" else []
        image["not_exhaustive_category_ids"] = []
    file.write_text(json.dumps(content))
    run_training(
        {
            **settings,
            "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax",
            "MODEL.PARTIAL_LABELS": is_partial,
            "SOLVER.MAX_ITER": 1,
        },
        folder / "run",
    )
    metrics = (folder / "run" / "metrics.json").read_text().splitlines()
    return json.loads(metrics[-1])["loss_cls"]


def test_classes_that_nobody_looked_for_leave_the_loss_where_labels_are_partial(
    tmp_path: Path,
) -> None:
    complete = first_loss(tmp_path / "complete", is_partial=False, absent="none")
    all_known = first_loss(tmp_path / "known", is_partial=True, absent="all")
    partial = first_loss(tmp_path / "partial", is_partial=True, absent="none")
    assert all_known == complete
    assert partial < 0.9 * complete


def test_partial_labels_that_nothing_reads_are_refused(data: dict, tmp_path: Path) -> None:
    base, partial = get_config_file("toy/base.yaml"), ("MODEL.PARTIAL_LABELS", "True")
    with pytest.raises(ValueError, match="PARTIAL_LABELS is True, which detectors"):
        load_config(base, ["MODEL.ROI_HEADS.NAME", "StandardROIHeads", *partial])
    with pytest.raises(ValueError, match="PARTIAL_LABELS is True, but an image that is classified"):
        load_config("classification/base.yaml", partial)
    settings = {**data, **DECOUPLED, "META.LEARN": "weights", "MODEL.PARTIAL_LABELS": True}
    with pytest.raises(ValueError, match="PARTIAL_LABELS is True, but META.SOURCE feature_bank"):
        build_trainer({**settings, "META.SOURCE": "feature_bank"}, tmp_path)
