"""An image classifier as one graph that torch runs without this package."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from balms_seg.durable_files import write_whole
from balms_seg.modeling.image_classifier import ImageClassifier

CLASSES_FILE = "classes.json"


class _Probabilities(nn.Module):
    """(B, 3, SIZE, SIZE) uint8 RGB to (B, K) probabilities."""

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.probabilities(images)


def export_classifier(
    model: ImageClassifier, class_names: Sequence[str], size: int, path: str | Path
) -> None:
    """Write a program that `torch.export.load` reads, with the classes inside.

    Its input is (B, 3, size, size) uint8 RGB, for any B, as images are after the central crop;
    its output (B, K) probabilities. Read back:

        classes = {"classes.json": ""}
        program = torch.export.load(path, extra_files=classes).module()
        names = json.loads(classes["classes.json"])

    Args:
        model: with its weights loaded; left in evaluation mode.
        class_names: K names.
        size: INPUT.IMAGES.SIZE.
        path: ending in .pt2.
    """
    example = torch.zeros(2, 3, size, size, dtype=torch.uint8, device=model.device)
    batch = {"images": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(
            _Probabilities(model.eval()), (example,), dynamic_shapes=batch
        )
    names = json.dumps(list(class_names), ensure_ascii=False)
    inside = {CLASSES_FILE: names}
    write_whole(path, lambda file: torch.export.save(program, file, extra_files=inside))
