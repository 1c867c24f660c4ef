"""Our heads as TorchScript: what detectron2's own tests ask of its classes."""

from __future__ import annotations

import pytest
import torch
from detectron2.export import scripting_with_instances
from detectron2.export.torchscript_patch import patch_builtin_len
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from made_up_data import METHOD_SETTINGS, made_up_batch, made_up_statistics, small_config
from torch import Tensor, nn

from balms_seg.methods import METHODS
from balms_seg.modeling import LongTailedBoxPredictor, prepare_model

K = 5
FIELDS = {"proposal_boxes": Boxes, "objectness_logits": Tensor, "pred_boxes": Boxes}
FIELDS |= {"scores": Tensor, "pred_classes": Tensor, "pred_masks": Tensor}
# Of the others, too, a trace is made, but TorchScript does not compile their probabilities.
NOT_COMPILED = {"post_hoc_logit_adjustment", "bags", "logn"}


def predictor(name: str) -> LongTailedBoxPredictor:
    settings = METHODS[name].Settings(**METHOD_SETTINGS.get(name, {}))
    method = METHODS[name](K, has_background=True, settings=settings)
    method.prepare(made_up_statistics(K))
    transform = Box2BoxTransform((10.0, 10.0, 5.0, 5.0))
    return LongTailedBoxPredictor(4, method=method, box2box_transform=transform, num_classes=K)


class Scores(nn.Module):
    """The scores of one image's proposals."""

    def __init__(self, predictor: LongTailedBoxPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, logits: Tensor, boxes: Tensor) -> tuple[Tensor, ...]:
        instances = Instances((10, 10), proposal_boxes=Boxes(boxes))
        return tuple(self.predictor.predict_probs((logits, logits), [instances, instances]))


@pytest.mark.parametrize("name", list(METHODS))
def test_a_trace_takes_another_number_of_proposals(name: str) -> None:
    scores = Scores(predictor(name)).eval()
    columns = scores.predictor.method.num_columns
    with torch.no_grad(), patch_builtin_len():
        traced = torch.jit.trace(scores, (torch.randn(20, columns), torch.rand(10, 4)))
        for number in (5, 20):
            given = torch.randn(2 * number, columns), torch.rand(number, 4)
            torch.testing.assert_close(traced(*given), scores(*given))


class Classification(nn.Module):
    """From features of boxes to their scores and deltas."""

    def __init__(self, predictor: LongTailedBoxPredictor) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.predictor(features)
        return self.predictor.method.probabilities(logits), deltas


@pytest.mark.slow
@pytest.mark.parametrize("name", list(METHODS))
def test_torch_export_takes_the_box_predictor_for_any_number_of_boxes(name: str) -> None:
    model = Classification(predictor(name)).eval()
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(model, (torch.randn(7, 4),), dynamic_shapes=shapes)
    for number in (3, 20):
        features = torch.randn(number, 4)
        torch.testing.assert_close(program.module()(features), model(features))


@pytest.mark.parametrize("name", sorted(METHODS.keys() - NOT_COMPILED))
def test_scores_can_be_compiled(name: str) -> None:
    own, logits = predictor(name).method.eval(), torch.randn(3, predictor(name).method.num_columns)
    own.__class__ = type("Scoring", (type(own),), {"forward": type(own).probabilities})
    torch.testing.assert_close(torch.jit.script(own)(logits), own.probabilities(logits))


@pytest.mark.parametrize("thresholds", [[], [0.0, 1.0, 0.0]])
def test_a_whole_detector_can_be_compiled(thresholds: list[float]) -> None:
    settings = {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_softmax"}
    settings |= {"MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0, "TEST.DETECTIONS_PER_IMAGE": 100}
    torch.manual_seed(0)
    cfg = small_config({**settings, "MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS": thresholds})
    model = prepare_model(build_model(cfg), made_up_statistics()).eval()
    inputs = [{"image": sample["image"]} for sample in made_up_batch(1)]
    with torch.no_grad():
        expected = model.inference(inputs, do_postprocess=False)[0]
        found = scripting_with_instances(model, FIELDS).inference(inputs, do_postprocess=False)[0]
    assert len(expected) > 0
    assert (1 in expected.pred_classes) != bool(thresholds)
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    torch.testing.assert_close(found.pred_masks, expected.pred_masks)
    assert torch.equal(found.pred_classes, expected.pred_classes)
