"""What a checkpoint keeps of a run besides its weights, hooks and iteration."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from balms_seg.engine.batch_size import set_learning_rates
from balms_seg.engine.optimizer import settings_kept

if TYPE_CHECKING:
    from detectron2.engine import DefaultTrainer

logger = logging.getLogger(__name__)


def state_of(trainer: DefaultTrainer) -> dict[str, Any]:
    """The optimiser's state, the seed, and the position in the data, where the loader has one."""
    step = trainer._trainer
    state = {"_trainer": step.state_dict(), "seed": step.seed}
    if hasattr(step.data_loader, "state_dict"):
        state["data_loader"] = step.data_loader.state_dict()
    return state


def restore_state(trainer: DefaultTrainer, state: Mapping[str, Any]) -> None:
    """Restore what `state_of` returned, in place; the optimiser's settings stay."""
    step = trainer._trainer
    if "_trainer" in state:
        with settings_kept(step.optimizer):
            step.load_state_dict(state["_trainer"])
        set_learning_rates(step.optimizer, trainer.scheduler)
    if "data_loader" in state and hasattr(step.data_loader, "load_state_dict"):
        step.data_loader.load_state_dict(state["data_loader"])
    else:
        logger.warning(
            "The checkpoint has no stream position, or the loader takes none: the draws may differ "
            "from those of a run without interruption."
        )
    if "seed" in state:
        step.seed = state["seed"]
        trainer.cfg = trainer.cfg.clone()  # so that results name the seed in use
        trainer.cfg.defrost()
        trainer.cfg.SEED = state["seed"]
        trainer.cfg.freeze()
