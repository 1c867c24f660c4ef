"""How a batch is shared out among processes changes neither losses nor what is learned."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from gloo_ranks import gloo_rank
from made_up_data import write_annotated_images
from meta_runs import BANK, DECOUPLED, RATES, WEIGHTS
from runs import build_trainer

from balms_seg.engine.launch import _create_local_group

NUM_ITERATIONS = 20
RTOL = 1e-4
SHOWN = ((0, 1), (0, 2), (0,), (0, 1), (0,), (0,), (1, 2), (0,), (0, 1), (0,))
BATCH = {
    "SOLVER.IMS_PER_BATCH": 8,
    "SOLVER.MAX_ITER": NUM_ITERATIONS,
    "SOLVER.BASE_LR": 0.05,
    "META.BLOCK": 16,
    "META.LOOKAHEAD": 2,
    "META.LR": 0.02,
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
}


class Record(HookBase):
    """Loss and learned values of each iteration."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.values: list[torch.Tensor] = []

    def after_step(self) -> None:
        if comm.is_main_process():
            self.losses.append(self.trainer.storage.latest()["loss_cls"][0])
        meta = self.trainer._trainer.meta
        if meta is not None:
            self.values.append(meta.learner.values())


def train(settings: dict, output: Path) -> dict[str, torch.Tensor]:
    trainer, record = build_trainer(settings, output), Record()
    trainer.register_hooks([record])
    trainer.train()
    model = trainer.checkpointer.model.state_dict()
    return {
        "losses": torch.tensor(record.losses, dtype=torch.float64),
        "values": torch.stack(record.values) if record.values else torch.empty(0),
        "weight": model["roi_heads.box_predictor.cls_score.weight"],
    }


def train_on_rank(rank: int, settings: dict, folder: str) -> None:
    with gloo_rank(rank, folder):
        _create_local_group(2)
        torch.save(train(settings, Path(folder) / "two"), f"{folder}/{rank}.pth")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [DECOUPLED, WEIGHTS, RATES, {**WEIGHTS, **BANK}],
    ids=["decoupled", "weights", "rates", "bank"],
)
def test_one_process_and_two_train_alike(settings: dict, tmp_path: Path) -> None:
    write_annotated_images(tmp_path / "train", SHOWN)
    name = f"ranks_{tmp_path.name}"
    entry = [name, str(tmp_path / "train.json"), str(tmp_path / "train")]
    settings = {
        **settings,
        **BATCH,
        "DATASETS.REGISTER": [entry],
        "DATASETS.TRAIN": (name,),
        "SEED": 3,
    }
    one = train(settings, tmp_path / "one")
    torch.multiprocessing.spawn(train_on_rank, (settings, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in range(2))

    assert len(one["losses"]) == NUM_ITERATIONS
    assert one["losses"][-1] < one["losses"][0]
    torch.testing.assert_close(first["losses"], one["losses"], rtol=RTOL, atol=0)
    torch.testing.assert_close(first["values"], one["values"], rtol=RTOL, atol=0)
    torch.testing.assert_close(first["weight"], one["weight"], rtol=10 * RTOL, atol=RTOL / 10)
    for key in ("values", "weight"):  # the ranks of a job agree bit for bit
        assert torch.equal(first[key], second[key])
    if settings.get("META.LR") and len(one["values"]):
        assert (one["values"][-1] - one["values"][0]).abs().max() > 0.01
