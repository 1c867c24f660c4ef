"""Registering data sets and the metadata that come with them."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("detectron2")

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from small_sets import coco_style, lvis_style, new_name, write_set

from balms_seg.config import add_balms_config
from balms_seg.data import (
    get_metadata,
    load_dataset_dicts,
    register_from_config,
    register_long_tailed_instances,
)
from balms_seg.data.images.image_sets import register_images


def registered(tmp_path: Path, content: dict | None = None) -> str:
    name = new_name()
    path = write_set(tmp_path, content or lvis_style())
    register_long_tailed_instances(name, path, tmp_path / "images")
    return name


def test_registered_set_is_read_by_detectron2(tmp_path: Path) -> None:
    name = registered(tmp_path)
    records = DatasetCatalog.get(name)
    assert [len(record["annotations"]) for record in records] == [2, 1, 0]
    assert all(os.path.isfile(record["file_name"]) for record in records)


def test_registering_reads_nothing(tmp_path: Path) -> None:
    name = new_name()
    register_long_tailed_instances(name, tmp_path / "later.json", tmp_path)
    assert MetadataCatalog.get(name).json_file == str(tmp_path / "later.json")
    with pytest.raises(FileNotFoundError, match=r"later\.json"):
        MetadataCatalog.get(name).get("thing_classes")


def test_metadata_are_there_before_the_annotations_were_loaded(tmp_path: Path) -> None:
    metadata = MetadataCatalog.get(registered(tmp_path))
    assert metadata.get("thing_classes") == ["cat", "dog"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert metadata.evaluator_type == "lvis"
    assert metadata.class_frequency == ["f", "r"]
    assert metadata.class_image_count == [
        {"id": 3, "image_count": 2, "instance_count": 2},
        {"id": 7, "image_count": 1, "instance_count": 1},
    ]


def test_metadata_of_a_coco_style_set(tmp_path: Path) -> None:
    metadata = get_metadata(registered(tmp_path, coco_style()))
    assert metadata.evaluator_type == "long_tailed"
    assert metadata.class_frequency is None
    assert metadata.class_image_count is None


def test_metadata_can_be_listed_copied_and_pickled(tmp_path: Path) -> None:
    metadata = MetadataCatalog.get(registered(tmp_path))
    assert metadata.as_dict()["thing_classes"] == ["cat", "dog"]
    assert pickle.loads(pickle.dumps(metadata)).thing_classes == ["cat", "dog"]
    assert copy.deepcopy(metadata).image_root == str(tmp_path / "images")


def test_unknown_metadata_key_is_an_attribute_error(tmp_path: Path) -> None:
    metadata = MetadataCatalog.get(registered(tmp_path))
    assert metadata.get("nothing", 5) == 5


def test_metadata_that_were_given_win(tmp_path: Path) -> None:
    name = new_name()
    path = write_set(tmp_path, lvis_style())
    register_long_tailed_instances(
        name, path, tmp_path / "images", metadata={"thing_classes": ["Cat", "Dog"]}
    )
    DatasetCatalog.get(name)
    assert MetadataCatalog.get(name).thing_classes == ["Cat", "Dog"]


def test_same_name_and_files_twice_is_fine_also_written_differently(tmp_path: Path) -> None:
    name = registered(tmp_path)
    register_long_tailed_instances(
        name, f"{tmp_path}/images/../annotations.json", f"{tmp_path}/images/"
    )
    assert len(DatasetCatalog.get(name)) == 3


def test_same_name_with_other_files_is_an_error(tmp_path: Path) -> None:
    name = registered(tmp_path)
    with pytest.raises(ValueError, match=rf"{name}.*annotations\.json.*other\.json.*another name"):
        register_long_tailed_instances(name, tmp_path / "other.json", tmp_path / "images")


@pytest.mark.parametrize("of_images", [False, True])
def test_a_set_that_was_removed_is_registered_anew(of_images: bool, tmp_path: Path) -> None:
    name = new_name()
    register = partial(register_images, name, str(tmp_path))
    if not of_images:
        path = write_set(tmp_path, lvis_style())
        register = partial(register_long_tailed_instances, name, path, tmp_path / "images")
    for _ in range(2):
        register()
        assert name in DatasetCatalog
        assert MetadataCatalog.get(name).get("image_root")
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    DatasetCatalog.register(name, list)  # somebody else's by now
    with pytest.raises(ValueError, match=f"'{name}' is taken"):
        register()


def test_names_of_detectron2_are_taken(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'lvis_v1_train' is taken .* use another name"):
        register_long_tailed_instances("lvis_v1_train", tmp_path / "a.json", tmp_path)


def test_sets_are_registered_from_the_command_line(tmp_path: Path) -> None:
    cfg = get_cfg()
    add_balms_config(cfg)
    name, path = new_name(), write_set(tmp_path, lvis_style())
    cfg.merge_from_list(["DATASETS.REGISTER", f"[['{name}', '{path}', '{tmp_path}/images']]"])
    register_from_config(cfg)
    assert len(DatasetCatalog.get(name)) == 3


@pytest.mark.parametrize("entry", [["name", "json"], ["name", "json", 3]])
def test_entry_of_another_form(entry: list) -> None:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.DATASETS.REGISTER = [entry]
    with pytest.raises(ValueError, match=r"DATASETS.REGISTER holds .*\[name, json file, image"):
        register_from_config(cfg)


def test_set_that_is_not_registered(tmp_path: Path) -> None:
    with pytest.raises(
        KeyError, match=r"lvis_v1_tran.* is not registered.*lvis_v1_train.*REGISTER"
    ):
        load_dataset_dicts("lvis_v1_tran")


BUILTIN = """
import json, sys
from detectron2.data import DatasetCatalog, MetadataCatalog
from balms_seg.data import load_dataset_dicts
records = load_dataset_dicts(sys.argv[1])
metadata = MetadataCatalog.get(sys.argv[1])
print(json.dumps([len(records), records[0]["file_name"], metadata.class_frequency[:2],
                  metadata.thing_classes[:2], len(metadata.class_image_count)]))
"""


def run_builtin(root: Path, name: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "DETECTRON2_DATASETS": str(root)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILTIN, name],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.slow
def test_builtin_json_that_is_missing_names_the_variable(tmp_path: Path) -> None:
    result = run_builtin(tmp_path, "lvis_v1_train")
    assert "DETECTRON2_DATASETS is " + str(tmp_path) in result.stderr
    assert "datasets/README.md" in result.stderr


@pytest.mark.slow
def test_builtin_name_with_another_json(tmp_path: Path) -> None:
    (tmp_path / "lvis").mkdir()
    (tmp_path / "lvis" / "lvis_v1_train.json").write_text(json.dumps(lvis_style()))
    result = run_builtin(tmp_path, "lvis_v1_train")
    assert "has 2 categories, but 'lvis_v1_train' has 1203" in result.stderr


@pytest.mark.data
def test_builtin_lvis_name_is_read_with_groups_and_counts(
    tmp_path: Path, shared_data: Path
) -> None:
    (tmp_path / "lvis").mkdir()
    (tmp_path / "lvis" / "lvis_v0.5_val.json").symlink_to(shared_data / "lvis_v0.5_val_100.json")
    result = run_builtin(tmp_path, "lvis_v0.5_val")
    assert json.loads(result.stdout.splitlines()[-1]) == [
        100,
        f"{tmp_path}/coco/val2017/000000006460.jpg",
        ["r", "c"],
        ["acorn", "aerosol_can"],
        1230,
    ]
