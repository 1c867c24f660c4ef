"""The small backbone's levels, and what it says about widths that it cannot build."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from detectron2.utils.events import EventStorage
from made_up_data import made_up_batch, small_config


def test_levels_halve_in_size_from_stride_four_on() -> None:
    backbone = build_backbone(
        small_config(
            {"MODEL.SMALL_RESNET.WIDTHS": [4, 6, 8, 6], "MODEL.SMALL_RESNET.BLOCKS": [1, 2, 1, 1]}
        )
    )
    shapes = {
        name: tuple(level.shape) for name, level in backbone(torch.zeros(2, 3, 64, 32)).items()
    }
    assert shapes == {
        "p2": (2, 8, 16, 8),
        "p3": (2, 8, 8, 4),
        "p4": (2, 8, 4, 2),
        "p5": (2, 8, 2, 1),
    }
    strides = {name: shape.stride for name, shape in backbone.output_shape().items()}
    assert strides == {"p2": 4, "p3": 8, "p4": 16, "p5": 32}


def test_as_many_widths_as_block_counts_are_expected() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.SMALL_RESNET\.WIDTHS has 2 stages but BLOCKS"):
        build_backbone(small_config({"MODEL.SMALL_RESNET.WIDTHS": [4, 6]}))


def test_equal_widths_are_refused_with_the_key() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.SMALL_RESNET\.WIDTHS is \[6, 8, 8\]"):
        build_backbone(small_config({"MODEL.SMALL_RESNET.WIDTHS": [6, 8, 8]}))


def test_whatever_is_trained_gets_a_gradient() -> None:
    """Data-parallel training stops at the first parameter that does not."""
    model = build_model(small_config({"MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax"}))
    with EventStorage():
        sum(model.train()(made_up_batch()).values()).backward()
    parameters = dict(model.named_parameters())
    assert {name for name, p in parameters.items() if p.requires_grad and p.grad is None} == set()
    frozen = {name for name, p in parameters.items() if not p.requires_grad}
    assert frozen == {name for name in parameters if "fpn_output4" in name}  # p2, p3 are used
