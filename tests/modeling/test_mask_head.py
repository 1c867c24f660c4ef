"""The mask head of cosines. R objects, D features, K classes."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from made_up_data import made_up_batch, small_config

from balms_seg.modeling.mask_head import CosineConv


def test_a_pixel_is_the_scaled_cosine_of_its_features_plus_the_bias() -> None:
    layer = CosineConv(4, 3, scale=7.0)
    layer.bias.data = torch.tensor([0.0, 1.0, -2.0])
    features = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    found = layer(features)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in found.shape)).tolist():
        r, k, i, j = index
        pixel, weight = features[r, :, i, j], layer.weight[k, :, 0, 0]
        cosine = pixel @ weight / (pixel.norm() * weight.norm())
        torch.testing.assert_close(found[r, k, i, j], 7.0 * cosine + layer.bias[k])


def test_autocast_leaves_cosines_in_float32() -> None:
    layer, features = CosineConv(4, 3, scale=20.0), torch.randn(1, 4, 2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(features), layer(features.float()))
        assert layer(features).dtype == torch.float32


@pytest.mark.parametrize("is_agnostic", [False, True])
def test_a_detector_learns_with_it_and_its_masks_do_not_know_the_weights_lengths(
    is_agnostic: bool,
) -> None:
    settings = {
        "MODEL.MASK_ON": True,
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax",
        "MODEL.ROI_MASK_HEAD.NAME": "CosineMaskHead",
        "MODEL.ROI_MASK_HEAD.COSINE_SCALE": 16.0,
        "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK": is_agnostic,
    }
    model = build_model(small_config(settings))
    predictor = model.roi_heads.mask_head.predictor
    assert predictor.scale == 16.0
    with EventStorage():
        model.train()(made_up_batch())["loss_mask"].backward()
    assert predictor.weight.grad.abs().sum() > 0
    features = torch.randn(1, predictor.in_channels, 2, 2)
    before = predictor(features)
    predictor.weight.data *= 3
    torch.testing.assert_close(predictor(features), before)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ROI_MASK_HEAD\.COSINE_SCALE is 0.0; expected a number"):
        small_config({"MODEL.ROI_MASK_HEAD.COSINE_SCALE": 0.0})
