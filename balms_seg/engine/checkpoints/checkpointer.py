"""Checkpoints that are written whole, verified when read, and whose mismatches are said aloud."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import Detectron2Handler
from torch import Tensor, nn

from balms_seg.distributed import on_main_process
from balms_seg.durable_files import write_whole
from balms_seg.engine.checkpoints import checksum
from balms_seg.engine.checkpoints.find import (
    LAST_CHECKPOINT,
    has_checkpoints,
    saved_runs,
)
from balms_seg.engine.checkpoints.read_file import (
    DamagedCheckpointError,
    RefusedCheckpointError,
    read_checkpoint,
)
from balms_seg.engine.weight_average import CHECKPOINT_KEY
from balms_seg.modeling.classifier_init import CLASSIFIER_WEIGHTS
from balms_seg.wording import agreeing, counted

RAW_KEY = "raw_model"  # the weights that train, where "model" holds their average

_PERIODIC = re.compile(r"model_\d{7}\.pth")


class LongTailedCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer with atomic, verified files and clear errors.

    Under "model" is what gets evaluated: the moving average where there is one, with the weights
    that train under `RAW_KEY`. So whatever else reads the file gets the scores of results.json.

    Attributes:
        absent_parameters: of the model, which the last checkpoint loaded did not fill; all of them
            before any was loaded.
        other_classifiers: name -> the columns in that checkpoint and in the model, of the
            classifiers that it did not fill because these differ.
        record: plain values that go into every checkpoint.
        loaded_record: likewise, of the last checkpoint loaded.
        loaded_from: path or address of the weights that `resume_or_load` took.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, keep: int = 0, **checkpointables: Any
    ) -> None:
        """As detectron2's.

        Args:
            model: as there.
            save_dir: as there.
            keep: how many of the periodic checkpoints stay, the newest; 0: all.
            **checkpointables: as there.
        """
        super().__init__(model, save_dir, **checkpointables)
        self._keep = keep
        self._resumes = False
        self.absent_parameters = [name for name, _ in self.model.named_parameters()]
        self.other_classifiers: dict[str, tuple[int, int]] = {}
        self.record: dict[str, Any] = {}
        self.loaded_record: dict[str, Any] = {}
        self.loaded_from = ""

    def save(self, name: str, *, tag: bool = True, **kwargs: Any) -> None:
        """Write `name`.pth; a process that dies meanwhile leaves what was there.

        Args:
            name: without the ending.
            tag: make it the one that --resume takes.
            **kwargs: further entries.

        Raises:
            OSError: the disk is full.
            TypeError: there is something in it that would not load again.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict()}
        content |= {key: item.state_dict() for key, item in self.checkpointables.items()}
        if CHECKPOINT_KEY in content:
            content |= {RAW_KEY: content["model"], "model": content[CHECKPOINT_KEY]["model"]}
        content |= self.record | kwargs
        content[checksum.KEY] = checksum.checksum(content)
        final = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", final)
        write_whole(final, partial(torch.save, content))
        if tag:
            self.tag_last_checkpoint(final.name)
        self._remove_old()

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write down which checkpoint --resume takes."""
        tag = Path(self.save_dir) / LAST_CHECKPOINT
        write_whole(tag, lambda file: file.write(last_filename_basename.encode()))

    def _remove_old(self) -> None:
        periodic = sorted(p for p in Path(self.save_dir).iterdir() if _PERIODIC.fullmatch(p.name))
        for path in periodic[: -self._keep] if self._keep else []:
            path.unlink(missing_ok=True)

    def has_checkpoint(self) -> bool:
        """Whether a run has left checkpoints in the folder, whole or not."""
        return has_checkpoints(self.save_dir)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last whole checkpoint of the folder, or load the weights of `path`.

        Raises:
            RuntimeError: there are checkpoints, but none of them can be read.
            ConnectionError: `path` is an address from which nothing could be downloaded.
            FileNotFoundError: `path` leads nowhere.
        """
        self._resumes = resume and self.has_checkpoint()
        if self._resumes:
            self.loaded_from = on_main_process(self._whole_checkpoint)
            return self.load(self.loaded_from)
        self.loaded_from = path
        local = path.partition("?")[0]  # detectron2 takes options after a question mark
        if local and "://" not in local and not Path(local).is_file():
            raise FileNotFoundError(
                f"MODEL.WEIGHTS is {local}, but there is no such file; give the path of a "
                "checkpoint, or an address."
            )
        try:
            return self.load(path, checkpointables=[])
        except URLError as error:
            address = path.replace("detectron2://", Detectron2Handler.S3_DETECTRON2_PREFIX)
            raise ConnectionError(
                f"MODEL.WEIGHTS is {path}, which could not be downloaded ({error.reason}). "
                f"Download {address} where there is a network, copy the file to this machine, and "
                "give its path: MODEL.WEIGHTS FILE."
            ) from error

    def require_all_parameters(self, remedy: str) -> None:
        """Stop where the last checkpoint loaded left parameters as they were drawn.

        Args:
            remedy: what to do, unless it held a backbone alone.

        Raises:
            RuntimeError: it did.
        """
        absent = self.absent_parameters
        if not absent:
            return
        filled = {name for name, _ in self.model.named_parameters()}.difference(absent)
        if not self.other_classifiers and all(name.startswith("backbone.") for name in filled):
            remedy = "It fills the backbone alone: give the weights of a model that was trained."
        raise RuntimeError(
            f"The model would use {len(absent)} parameters at their random initialisation, for "
            f"example {', '.join(absent[:3])}: the checkpoint lacks them or has them in another "
            f"shape. {remedy}"
        )

    def _whole_checkpoint(self) -> str:
        problems = []
        for run in saved_runs(self.save_dir):
            try:
                read_checkpoint(run.path)
            except (DamagedCheckpointError, RefusedCheckpointError) as error:
                self.logger.warning("%s Going back to the one before it.", error)
                problems.append(f"{run.path.name} is damaged")
            else:
                self.logger.info("Going on after iteration %d, from %s.", run.iteration, run.path)
                return str(run.path)
        raise RuntimeError(
            f"No checkpoint in {self.save_dir} can be gone on from "
            f"({', '.join(problems) or 'none holds the state of a run'}). Bring one back, or start "
            "anew with --overwrite, which moves what is there aside."
        )

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read_checkpoint(filename, super()._load_file)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        self.loaded_record = {
            key: value for key, value in checkpoint.items() if not key.endswith("model")
        }
        if self._resumes and "trainer" in self.checkpointables and RAW_KEY in checkpoint:
            checkpoint["model"] = checkpoint[RAW_KEY]
        checkpoint.pop(RAW_KEY, None)
        is_backbone_only = checkpoint.get("matching_heuristics", False)
        incompatible = super()._load_model(checkpoint)
        wrong_shapes = {
            name: (theirs, ours) for name, theirs, ours in incompatible.incorrect_shapes
        }
        missing = {*incompatible.missing_keys, *wrong_shapes}
        names = [name for name, _ in self.model.named_parameters()]
        self.absent_parameters = [name for name in names if name in missing]
        if not is_backbone_only:
            _refuse_other_architecture(names, self.absent_parameters)
        self.other_classifiers = {
            name.removesuffix(".weight"): (theirs[0], ours[0])
            for name, (theirs, ours) in wrong_shapes.items()
            if name.endswith(CLASSIFIER_WEIGHTS)
        }
        for name, columns in self.other_classifiers.items():
            self.logger.warning(
                "The checkpoint's classifier %s has %d columns, the model's %d (another "
                "method or other classes): it is not loaded and starts from initialisation.",
                name,
                *columns,
            )
        return incompatible


def _refuse_other_architecture(names: list[str], absent: list[str]) -> None:
    trunk = [name for name in names if not _is_of_classifier(name)]
    absent_trunk = [name for name in absent if not _is_of_classifier(name)]
    # An FPN may be new to a backbone; a backbone with layers missing is another one.
    absent_backbone = [name for name in absent if name.startswith("backbone.bottom_up.")]
    if absent_backbone or len(absent_trunk) > len(trunk) / 2:
        raise RuntimeError(
            f"The checkpoint is of another architecture: {len(absent_trunk)} of the model's "
            f"{len(trunk)} parameters outside the classifier "
            f"{agreeing(len(absent_trunk), 'is', 'are')} missing in it or of another shape, for "
            f"example {', '.join([*absent_backbone, *absent_trunk][:3])}. Use the configuration "
            "that it was trained with."
        )


def _is_of_classifier(parameter: str) -> bool:
    """Whether a parameter is of the box predictor, of those of a cascade, or of whole images'."""
    return "box_predictor." in parameter or parameter.startswith("classifier.")


def require_finite(model: nn.Module) -> None:
    """Stop where weights or running statistics have diverged: what they predict means nothing.

    Raises:
        FloatingPointError: some hold nan or infinity; names them.
    """
    weights: dict[str, Tensor] = dict(model.named_parameters())
    weights |= {name: value for name, value in model.named_buffers() if "running_" in name}
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise FloatingPointError(
            f"Expected finite weights, but {counted(len(broken), 'tensor')} of the model "
            f"{agreeing(len(broken), 'holds', 'hold')} nan or "
            f"infinity, for example {', '.join(broken[:3])}: the training has diverged, or the "
            "checkpoint is damaged. Use an earlier checkpoint."
        )
