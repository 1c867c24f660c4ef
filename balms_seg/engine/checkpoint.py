"""Checkpoints that are written whole, and whose mismatches are said aloud."""

from __future__ import annotations

import _codecs
import os
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from numpy._core import multiarray
from torch import nn

from balms_seg.engine.weight_average import CHECKPOINT_KEY
from balms_seg.modeling.classifier_init import CLASSIFIER_WEIGHTS

# Older checkpoints, the authors' among them, hold numpy values; torch refuses those unless told.
_NUMPY_GLOBALS = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
    *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(
        (multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct")
        for core in ("core", "_core")
    ),
    _codecs.encode,  # bytes of arrays pickled under protocol 2
]


class LongTailedCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer with atomic writes and clear errors.

    Attributes:
        absent_parameters: of the model, which the last checkpoint loaded did not fill; all of them
            before any was loaded.
    """

    def __init__(self, model: nn.Module, save_dir: str = "", **checkpointables: Any) -> None:
        """As detectron2's."""
        super().__init__(model, save_dir, **checkpointables)
        self._resumes = False
        self.absent_parameters = [name for name, _ in self.model.named_parameters()]

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth beside its final place and move it there, so that none is truncated."""
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        final = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", final)
        torch.save(content | kwargs, final + ".partial")
        os.replace(final + ".partial", final)
        self.tag_last_checkpoint(os.path.basename(final))

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            with torch.serialization.safe_globals(_NUMPY_GLOBALS):
                return super()._load_file(filename)
        except Exception as error:  # torch, zipfile and pickle raise a dozen kinds
            size = os.path.getsize(filename) if os.path.isfile(filename) else 0
            raise RuntimeError(
                f"Checkpoint {filename} ({size} bytes) cannot be read: {error}. It may be "
                "truncated; use an earlier one (name it in OUTPUT_DIR/last_checkpoint to resume "
                "from it)."
            ) from error

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """As detectron2's."""
        self._resumes = resume and self.has_checkpoint()
        return super().resume_or_load(path, resume=resume)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        average = checkpoint.get(CHECKPOINT_KEY)
        if average and not (self._resumes and CHECKPOINT_KEY in self.checkpointables):
            self.logger.info("The checkpoint's averaged weights are taken (SOLVER.EMA_DECAY).")
            checkpoint["model"] = average["model"]
        is_backbone_only = checkpoint.get("matching_heuristics", False)
        parameters = dict(self.model.named_parameters())
        incompatible = super()._load_model(checkpoint)
        wrong_shapes = {
            name: (theirs, ours) for name, theirs, ours in incompatible.incorrect_shapes
        }
        absent = [
            name for name in parameters if name in {*incompatible.missing_keys, *wrong_shapes}
        ]
        trunk = [name for name in parameters if not _is_of_classifier(name)]
        absent_trunk = [name for name in absent if not _is_of_classifier(name)]
        # An FPN may be new to a backbone; a backbone with layers missing is another one.
        absent_backbone = [name for name in absent if name.startswith("backbone.bottom_up.")]
        is_other = len(absent_backbone) > 0 or len(absent_trunk) > len(trunk) / 2
        if is_other and not is_backbone_only:
            raise RuntimeError(
                f"The checkpoint is of another architecture: {len(absent_trunk)} of the model's "
                f"{len(trunk)} parameters outside the classifier are missing in it or of "
                f"another shape, for example {', '.join([*absent_backbone, *absent_trunk][:3])}. "
                "Use the configuration that it was trained with."
            )
        for name, (theirs, ours) in wrong_shapes.items():
            if name.endswith(CLASSIFIER_WEIGHTS):
                self.logger.warning(
                    "The checkpoint's classifier %s has %d columns, the model's %d (another "
                    "method or other classes): it is not loaded and starts from initialisation.",
                    name.removesuffix(".weight"),
                    theirs[0],
                    ours[0],
                )
        self.absent_parameters = absent
        return incompatible


def _is_of_classifier(parameter: str) -> bool:
    """Whether a parameter is of the box predictor, of those of a cascade, or of whole images'."""
    return "box_predictor." in parameter or parameter.startswith("classifier.")
