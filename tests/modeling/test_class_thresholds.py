import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from balms_seg import add_balms_config, check_config, model_zoo


def config(**settings: object) -> CfgNode:
    cfg = get_cfg()
    add_balms_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("toy/base.yaml"))
    cfg.merge_from_list([part for pair in settings.items() for part in pair])
    return cfg


@pytest.mark.parametrize("heads", ["LongTailedROIHeads", "CascadeLongTailedROIHeads"])
def test_detections_below_their_classs_threshold_are_left_out(heads: str) -> None:
    settings = {
        "MODEL.ROI_HEADS.NAME": heads,
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax",
        "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True,
        "MODEL.ROI_HEADS.NUM_CLASSES": 4,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.DEVICE": "cpu",
    }
    thresholds = [0.0, 0.21, 0.19, 1.0]
    found = []
    for extra in ({}, {"MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS": thresholds}):
        torch.manual_seed(0)
        model = build_model(config(**settings, **extra)).eval()
        image = (torch.arange(3 * 64 * 64) % 251).reshape(3, 64, 64).float()
        with torch.no_grad():
            found.append(model([{"image": image, "height": 64, "width": 64}])[0]["instances"])
    everything, kept = found
    expected = everything.scores >= torch.tensor(thresholds)[everything.pred_classes]
    assert 0 < expected.sum() < len(everything)
    torch.testing.assert_close(kept.scores, everything.scores[expected])
    torch.testing.assert_close(kept.pred_masks, everything.pred_masks[expected])


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 0.5, 0.5, 1.5]])
def test_another_number_of_thresholds_and_shares_above_one_are_refused(
    thresholds: list[float],
) -> None:
    cfg = config(
        **{
            "MODEL.ROI_HEADS.NUM_CLASSES": 4,
            "MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS": thresholds,
        }
    )
    with pytest.raises(ValueError, match="CLASS_THRESHOLDS has"):
        check_config(cfg)


@pytest.mark.parametrize("number", [3, 5])
def test_heads_with_thresholds_of_another_data_set_are_not_built(number: int) -> None:
    cfg = config(
        **{
            "MODEL.ROI_HEADS.NUM_CLASSES": 4,
            "MODEL.ROI_BOX_HEAD.CLASSIFIER": "softmax",
            "MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS": [0.5] * number,
            "MODEL.DEVICE": "cpu",
        }
    )
    with pytest.raises(ValueError, match=f"each of 4 classes, or none, but got {number}"):
        build_model(cfg)
