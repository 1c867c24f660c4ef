"""What --resume goes on from, after every fault that leaves a folder half written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from balms_seg.engine.checkpoints import LongTailedCheckpointer
from balms_seg.engine.checkpoints.find import saved_runs


class State:
    """What a trainer puts into a checkpoint."""

    value = 0

    def state_dict(self) -> dict:
        return {"value": self.value}

    def load_state_dict(self, state: dict) -> None:
        self.value = state["value"]


def checkpointer(folder: Path, **options: object) -> LongTailedCheckpointer:
    return LongTailedCheckpointer(nn.Linear(2, 1), str(folder), trainer=State(), **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the checkpoints of iterations 9, 19 and 29."""
    writer = checkpointer(tmp_path)
    for iteration in (9, 19, 29):
        writer.checkpointables["trainer"].value = iteration
        writer.save(f"model_{iteration:07d}", iteration=iteration)
    return tmp_path


def resumed_value(folder: Path) -> int:
    reader = checkpointer(folder)
    assert reader.has_checkpoint()
    reader.resume_or_load("")
    return reader.checkpointables["trainer"].value


def test_last_checkpoint_names_the_one_to_take(folder: Path) -> None:
    assert resumed_value(folder) == 29
    (folder / "last_checkpoint").write_text("model_0000009.pth")  # by hand
    assert resumed_value(folder) == 9


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"model_0000039.pth", b"..", b"\0", None])
def test_a_broken_last_checkpoint_gives_way_to_the_highest_iteration(
    content: bytes | None, folder: Path, log: pytest.LogCaptureFixture
) -> None:
    if content is None:
        (folder / "last_checkpoint").unlink()
    else:
        (folder / "last_checkpoint").write_bytes(content)
    assert resumed_value(folder) == 29
    assert "model_0000029.pth" in log.text
    assert content is None or "the highest iteration" in log.text


def flip_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    weight = torch.load(path)["model"]["weight"].numpy().tobytes()
    content[content.index(weight) + 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize("damage", [flip_weight, cut, Path.unlink])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(
    damage: object, folder: Path, log: pytest.LogCaptureFixture
) -> None:
    damage(folder / "model_0000029.pth")
    assert resumed_value(folder) == 19
    assert damage is Path.unlink or "Going back to the one before it" in log.text.replace(
        "going", "Going"
    )


def test_without_a_whole_checkpoint_nothing_starts(folder: Path) -> None:
    for path in folder.glob("*.pth"):
        flip_weight(path)
    with pytest.raises(RuntimeError, match="can be gone on from .*damaged.*--overwrite"):
        resumed_value(folder)


def test_weights_alone_are_nothing_to_resume(folder: Path) -> None:
    torch.save({"model": {}}, folder / "pretrained.pth")
    assert [run.iteration for run in saved_runs(folder)] == [29, 19, 9]


def test_an_empty_folder_starts_from_the_weights(tmp_path: Path) -> None:
    reader = checkpointer(tmp_path)
    assert not reader.has_checkpoint()
    reader.resume_or_load("")
    assert reader.checkpointables["trainer"].value == 0


def test_the_last_ones_stay_and_those_with_names(tmp_path: Path) -> None:
    writer = checkpointer(tmp_path, keep=2)
    writer.save("model_best", tag=False, iteration=1)
    for iteration in range(5):
        writer.save(f"model_{iteration:07d}", iteration=iteration)
    again = checkpointer(tmp_path, keep=2)  # a resumed run knows of the earlier ones as well
    again.save("model_0000005", iteration=5)
    again.save("model_final", iteration=5)
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == [
        "model_0000004.pth",
        "model_0000005.pth",
        "model_best.pth",
        "model_final.pth",
    ]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
