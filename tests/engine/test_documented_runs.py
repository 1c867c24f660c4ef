"""The documents' command lines about detectors run as written, or say what is absent."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from documented_commands import DOCUMENTS, ROOT, commands_of, start
from made_up_data import TRAIN_CLASSES, VAL_CLASSES, write_annotated_images
from runs import run_training

NO_GPU = r"--num-gpus is \d but CUDA is not available; use --num-gpus 0"
NO_LVIS = "detectron2 expects 'lvis_v1_val' there because DETECTRON2_DATASETS is"
# Documents whose commands need no more than what `reader` makes; those on images, on a method of
# one's own and on benchmarks are run by tests beside what they are about.
RUN = ["README.md", "docs/own_data.md", "docs/evaluation.md", "docs/balms.md"]
RUN += ["docs/classification.md", *(name for name in DOCUMENTS if name.endswith(".sh"))]
ELSEWHERE = ("make", "pip", "export", "tools/benchmarks/", "tools/install_detectron2.py")


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of somebody who has data, and runs behind them."""
    for name, classes in (("train", TRAIN_CLASSES), ("val", VAL_CLASSES)):
        write_annotated_images(tmp_path / f"{name}_images", classes)
        (tmp_path / f"{name}_images.json").rename(tmp_path / f"{name}.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "no_data"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(tmp_path / "val_images", tmp_path / "new_photos")
    sets = [
        [f"earlier_{n}", str(tmp_path / f"{n}.json"), str(tmp_path / f"{n}_images")]
        for n in ("train", "val")
    ]
    data = {
        "DATASETS.REGISTER": sets,
        "DATASETS.TRAIN": ("earlier_train",),
        "DATASETS.TEST": ("earlier_val",),
    }
    run_training(data, tmp_path / "output" / "my_data")
    seeds = [f"{name}_seed{k}" for name in ("softmax", "balanced_softmax") for k in (1, 2)]
    for name in ("a", "b", "softmax", "balanced_softmax", "held_out", *seeds):
        shutil.copytree(tmp_path / "output" / "my_data", tmp_path / "output" / name)
    found = tmp_path / "output" / "my_data" / "inference" / "lvis_instances_results.json"
    shutil.copy(found, tmp_path / "results.json")
    yield tmp_path
    names = [name for name in DatasetCatalog.list() if name.startswith(("my_", "earlier_"))]
    for name in names:  # the next reader's lie elsewhere
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.mark.slow
@pytest.mark.parametrize("document", RUN)
def test_every_command_runs_or_says_what_is_absent(document: str, reader: Path) -> None:
    for command in commands_of(document):
        if command[0] in ELSEWHERE or command[1].startswith(ELSEWHERE):
            continue
        text, expected = shlex.join(command), ""
        if "--dataset lvis" in text:
            expected = NO_LVIS
        elif re.search("--num-gpus [1-9]", text):
            expected = NO_GPU
        if expected:
            with pytest.raises(SystemExit, match=expected):
                start(command)
        else:
            start(command)
