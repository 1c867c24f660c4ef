"""One training step: the only place that runs a model with gradients."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from balms_seg.engine.mixed_precision import autocast
from balms_seg.modeling import keyed_sampling
from balms_seg.modeling.unfilled_norms import REMEDY, has_unfilled_norms
from balms_seg.sampling import position_seed, positions_of

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def data_parallel(model: nn.Module) -> nn.Module:
    """The model, whose gradients are averaged over the processes if there are several."""
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    device_ids = [comm.get_local_rank()] if device.type == "cuda" else None
    # The ranks' buffers are equal at the start, and what keeps them so is the methods' own sums.
    # Newer versions of torch deprecate the first name in favour of the second.
    names = inspect.signature(DistributedDataParallel).parameters
    keep_own = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    options: dict[str, Any] = {"device_ids": device_ids, keep_own: False}
    return DistributedDataParallel(model, **options)


class TrainingStep(SimpleTrainer):
    """detectron2's SimpleTrainer with keyed randomness, and mixed precision on any device.

    Whatever a forward pass draws is a function of the run's seed and of the batch's stream
    positions, so a resumed run repeats an uninterrupted one.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict[str, Any]]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int,
        mixed_precision: torch.dtype | None = None,
    ) -> None:
        """Prepare the step.

        Args:
            model: takes a batch, returns a dict of scalar losses.
            data_loader: yields batches of dataset dicts that carry "stream_position".
            optimizer: of the model's parameters.
            seed: the run's seed.
            mixed_precision: float16, whose loss is scaled, or bfloat16; None: no mixed precision.
        """
        super().__init__(model, data_loader, optimizer)
        self.seed = seed
        self._said: set[str] = set()
        device_type = next(model.parameters()).device.type
        self._autocast = autocast(device_type, mixed_precision)
        is_scaled = mixed_precision == torch.float16
        self.grad_scaler = torch.amp.GradScaler(device_type, enabled=is_scaled)

    def run_step(self) -> None:
        """Load a batch, and take one optimiser step on the sum of its losses."""
        batch, data_time = self._next_batch()
        losses = self._forward(self.model, batch, self.seed)

        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self._write_metrics(losses, data_time)  # raises on NaN, before any weight has changed
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def losses(self, batch: list[dict[str, Any]]) -> Any:
        """What a forward pass makes of a batch, with gradients; takes no step."""
        return self._forward(self.model, batch, self.seed)

    def _next_batch(self) -> tuple[list[dict[str, Any]], float]:
        """The next batch and the seconds that it took."""
        assert self.model.training, "the model was left in eval mode"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        if isinstance(batch, list) and any("ignored_regions" in record for record in batch):
            self._warn_once(
                "The mapper leaves ignored_regions (`ignore` in the annotations) to nobody: what "
                "lies on them is trained on as background. balms_seg.data.instances.mapper."
                "InstanceMapper takes them into account."
            )
        return batch, time.perf_counter() - start

    def _forward(
        self, forward: Callable[[list[dict[str, Any]]], Result], batch: list[dict], seed: int
    ) -> Result:
        """Run something on a batch, its random numbers keyed by seed and stream positions."""
        positions = self._positions_of(batch)
        if positions is not None:
            torch.manual_seed(position_seed(seed, positions[0], "step"))
        try:
            with self._keyed_sampling(batch, seed), self._autocast:
                return forward(batch)
        except FloatingPointError as error:  # detectron2's RPN, on proposals that are not finite
            raise self._stopped(str(error)) from error

    def _keyed_sampling(self, batch: list[dict], seed: int) -> AbstractContextManager[Any]:
        """What forward passes draw is keyed by the batch's stream positions, where it has them."""
        positions = self._positions_of(batch)
        if positions is None:
            return nullcontext()
        return keyed_sampling(seed, positions, iteration=self.iter)

    def _positions_of(self, batch: list[dict]) -> list[int] | None:
        try:
            return positions_of(batch)
        except (KeyError, TypeError):  # of a loader of one's own
            self._warn_once(
                "The batches carry no stream_position: draws are not keyed, and a resumed run "
                "does not repeat an uninterrupted one. balms_seg.data.build_train_loader gives "
                "batches that do."
            )
            return None

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            logger.warning(text)
        self._said.add(text)

    def _write_metrics(
        self, loss_dict: Mapping[str, Tensor], data_time: float, *args: Any, **kwargs: Any
    ) -> None:
        try:
            super()._write_metrics(loss_dict, data_time, *args, **kwargs)
        except FloatingPointError as error:
            values = {name: loss.item() for name, loss in loss_dict.items()}
            culprits = [name for name, value in values.items() if not abs(value) < float("inf")]
            origin = ", ".join(culprits) if culprits else "a loss of another rank"
            raise self._stopped(
                f"{origin} is not finite (losses of rank {comm.get_rank()}: {values})."
            ) from error

    def _stopped(self, reason: str) -> FloatingPointError:
        learning_rate = max(group["lr"] for group in self.optimizer.param_groups)
        advice = (
            f"The learning rate was {learning_rate:g}; lower SOLVER.BASE_LR, "
            "lengthen SOLVER.WARMUP_ITERS or enable SOLVER.CLIP_GRADIENTS."
        )
        if has_unfilled_norms(self.model):
            advice = f"FrozenBN without pretrained weights {REMEDY}."
        return FloatingPointError(
            f"Training stopped at iteration {self.iter}: {reason} The weights of this iteration "
            f"were not written. {advice}"
        )

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's and the loss scaler's state."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
