"""The box predictor that serves every method.

Legend: R proposals of all images of the batch, D features, K foreground classes, C columns of the
classifier; gt_classes in [0, K], K is background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, cat
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from detectron2.modeling.roi_heads.fast_rcnn import (
    _log_classification_stats as log_classification_statistics,
)
from detectron2.structures import Instances  # at run time: TorchScript reads the annotations
from torch import Tensor, nn

from balms_seg.declared_keys import require_our_keys
from balms_seg.methods import LossContext, Method, build_method
from balms_seg.methods.calibration import ScoreCalibration
from balms_seg.modeling.classifier_layer import BOX_COSINE_SCALE, build_classifier
from balms_seg.modeling.cosine_classifier import CosineClassifier
from balms_seg.modeling.loss_context import TrainingSchedule, build_context, row_losses
from balms_seg.modeling.own_losses import refuse_own_losses
from balms_seg.modeling.partial_labels import columns_of
from balms_seg.modeling.scaled_linear import ScaledLinear

if TYPE_CHECKING:
    from collections.abc import Callable

    from detectron2.config import CfgNode

    from balms_seg.class_statistics import ClassStatistics


class BoxPredictions(tuple):
    """Logits and box deltas, as detectron2 hands them on, with the features that they are of."""

    features: Tensor


class LongTailedBoxPredictor(FastRCNNOutputLayers):
    """detectron2's box predictor with the classification of a `Method`.

    Box regression, inference and test-time augmentation stay detectron2's. So do the parameters'
    names (`cls_score`, `bbox_pred`): its checkpoints and those of the authors' release load where
    the number of columns agrees.
    """

    if TYPE_CHECKING:  # TorchScript cannot resolve these
        cls_score: Any  # a linear classifier, of cosines, or with learned scales
        method: Method

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        method: Method,
        layer: str = "auto",
        cosine_scale: float = BOX_COSINE_SCALE,
        learn_scales: bool = False,
        calibrate: Callable[[ClassStatistics], ScoreCalibration] | None = None,
        schedule: TrainingSchedule | None = None,
        **kwargs: Any,
    ) -> None:
        """Build the two layers.

        Args:
            input_shape: shape of the box features.
            method: decides the classifier's columns, its loss and its probabilities.
            layer: of the classifier: "linear", "cosine", or "auto" for what the method is made for.
            cosine_scale: what a cosine classifier multiplies with, unless the method says.
            learn_scales: fix the classifier and learn a scale for each of its columns.
            calibrate: statistics of the training set -> calibration of the scores at inference;
                None: there is none.
            schedule: tells methods how far training is; None: they are not told.
            kwargs: those of detectron2's `FastRCNNOutputLayers`, but for its own losses.

        Raises:
            ValueError: one of detectron2's own classification losses is asked for.
        """
        refuse_own_losses(method, kwargs)
        super().__init__(input_shape, **kwargs)
        self.method, self.schedule = method, schedule
        self.calibrate = calibrate
        self.calibration: ScoreCalibration | None = None
        drawn = self.cls_score
        with torch.random.fork_rng(devices=[]):  # what is built later draws as in detectron2
            self.cls_score = build_classifier(
                drawn.in_features, method, kind=layer, cosine_scale=cosine_scale
            )
        self._start_classifier_as(drawn)
        if learn_scales:
            self.cls_score = ScaledLinear(self.cls_score)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Keyword arguments of `__init__` from a configuration."""
        require_our_keys(cfg)
        head = cfg.MODEL.ROI_BOX_HEAD
        method = build_method(
            cfg.MODEL.METHODS,
            head.CLASSIFIER,
            cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            has_background=True,
        )
        return {
            **super().from_config(cfg, input_shape),
            "method": method,
            "layer": head.CLASSIFIER_LAYER,
            "cosine_scale": head.COSINE_SCALE,
            "learn_scales": cfg.MODEL.INIT_CLASSIFIER == "lws",
            "calibrate": calibration_of(cfg, method),
            "schedule": TrainingSchedule(cfg.SOLVER.MAX_ITER, cfg.SOLVER.IMS_PER_BATCH),
        }

    @torch.no_grad()
    def start_as(self, drawn: FastRCNNOutputLayers) -> LongTailedBoxPredictor:
        """Start with the weights that detectron2's own predictor drew, in place.

        A seed then gives the weights of detectron2's model: those of the classifier only where it
        has as many columns and the method initialises it as detectron2 does.

        Returns:
            The predictor itself.
        """
        self.bbox_pred.load_state_dict(drawn.bbox_pred.state_dict())
        self._start_classifier_as(drawn.cls_score)
        return self

    @torch.no_grad()
    def _start_classifier_as(self, drawn: nn.Linear) -> None:
        """Take weights that detectron2 drew, where the method does not start in its own way."""
        has_own_start = type(self.method).init_classifier is not Method.init_classifier
        is_cosine = isinstance(self.cls_score, CosineClassifier)
        has_same_columns = self.cls_score.weight.shape == drawn.weight.shape
        if has_same_columns and not (has_own_start or is_cosine):
            self.cls_score.weight.copy_(drawn.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and box deltas; in training they carry their features, which losses may read."""
        x = x.flatten(start_dim=1)
        predictions = (self.cls_score(x), self.bbox_pred(x))
        if self.training:
            predictions = BoxPredictions(predictions)
            predictions.features = x
        return predictions

    def losses(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor]:
        """Classification and box regression losses.

        Args:
            predictions: (R, C) logits and (R, 4K or 4) box deltas, of `forward`.
            proposals: with `proposal_boxes`, `gt_classes` and, where an image has any, `gt_boxes`;
                where labels are partial all of them with `known_classes`, (R_i, K) bool.

        Returns:
            `loss_cls` and `loss_box_reg`, weighted.
        """
        logits, deltas = predictions
        if proposals:
            gt_classes = cat([p.gt_classes for p in proposals])
            proposal_boxes = cat([p.proposal_boxes.tensor for p in proposals])
            # Images without ground truth have background proposals only: any box will do.
            gt_boxes = cat(
                [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
            )
        else:
            gt_classes = torch.empty(0, dtype=torch.int64, device=logits.device)
            proposal_boxes = gt_boxes = deltas.new_empty((0, 4))
        log_classification_statistics(self.method.decision_scores(logits.detach()), gt_classes)
        features = getattr(predictions, "features", None)
        context = self.loss_context(features, columns_of(proposals))
        is_trained = self.training and torch.is_grad_enabled()
        rows = row_losses(self.method, logits, gt_classes, context, is_trained=is_trained)
        losses = {
            "loss_cls": rows.sum() / max(len(rows), 1),
            "loss_box_reg": self.box_reg_loss(proposal_boxes, gt_boxes, deltas, gt_classes),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def loss_context(self, features: Tensor | None, columns: Tensor | None = None) -> LossContext:
        """What the method is told of rows with these (R, D) features and (R, K) known classes."""
        return build_context(self.schedule, features=features, columns=columns)

    def accuracies(self, logits: Tensor, gt_classes: Tensor) -> dict[str, Tensor]:
        """What detectron2 logs of (R, C) logits, without its masks; see `ClassifierView`."""
        scores = self.method.decision_scores(logits.detach())
        background = scores.shape[1] - 1
        predicted = scores.argmax(dim=1)
        is_right = (predicted == gt_classes).double()
        is_foreground = (gt_classes < background).double()
        num_foreground = is_foreground.sum()
        is_missed = (predicted == background).double() * is_foreground
        return {
            "fast_rcnn/cls_accuracy": is_right.mean(),
            "fast_rcnn/fg_cls_accuracy": (is_right * is_foreground).sum() / num_foreground,
            "fast_rcnn/false_negative": is_missed.sum() / num_foreground,
        }

    def predict_probs(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> list[Tensor]:
        """Scores of each image's proposals, (R_i, K + 1), background last.

        Raises:
            RuntimeError: there is a calibration, which nobody has prepared.
        """
        probabilities = self.method.probabilities(predictions[0])
        if self.calibration is not None:
            probabilities = self.calibration(probabilities)
        elif self.calibrate is not None:
            raise RuntimeError(
                "The calibration of the scores needs the class counts of the training set; call "
                "balms_seg.modeling.prepare_model(model, statistics) first."
            )
        # Sizes of tensors, and no `len`, which a trace would keep as a number.
        return probabilities.split([p.proposal_boxes.tensor.shape[0] for p in proposals])

    def prepare(self, statistics: ClassStatistics | None) -> None:
        """Take what method and calibration need from the training set.

        Raises:
            FileNotFoundError: there is a calibration and no statistics.
            ValueError: the statistics are of another number of classes.
        """
        self.method.prepare(statistics)
        if self.calibrate is None:
            return
        if statistics is None:
            raise FileNotFoundError(
                "MODEL.ROI_BOX_HEAD.CALIBRATION.METHOD needs the class counts of the training set, "
                "but DATASETS.TRAIN is not at hand; register it, or set METHOD to none."
            )
        self.calibration = self.calibrate(statistics)


def calibration_of(
    cfg: CfgNode, method: Method
) -> Callable[[ClassStatistics], ScoreCalibration] | None:
    """What makes the calibration of `MODEL.ROI_BOX_HEAD.CALIBRATION`; None where it names none."""
    settings = cfg.MODEL.ROI_BOX_HEAD.CALIBRATION
    if settings.METHOD == "none":
        return None

    def calibrate(statistics: ClassStatistics) -> ScoreCalibration:
        return ScoreCalibration.of_training_set(
            settings.METHOD,
            statistics,
            counts=settings.COUNTS,
            strength=settings.STRENGTH,
            temperatures=tuple(settings.TEMPERATURES),
            dimensions=torch.as_tensor(settings.DIMENSIONS) if len(settings.DIMENSIONS) else None,
            independent=method.independent_scores,
        )

    return calibrate
