"""ROI heads whose box classifier is one of this package's methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from detectron2.config import configurable
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    StandardROIHeads,
)
from detectron2.structures import Instances  # at run time: TorchScript reads the annotations
from torch import Tensor

from balms_seg.declared_keys import require_our_keys
from balms_seg.methods import METHODS
from balms_seg.modeling.box_predictor import LongTailedBoxPredictor
from balms_seg.modeling.ignored_regions import without_ignored
from balms_seg.modeling.keyed_sampling import next_image
from balms_seg.modeling.partial_labels import with_known_classes

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class _LongTailedClassification:
    """What the standard and the cascade heads share."""

    classifier = ""  # the method that the head's name fixes
    if TYPE_CHECKING:  # TorchScript cannot resolve it
        class_thresholds: Tensor | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Tell TorchScript what is fixed, which detectron2 does for its own class alone."""
        super().__init_subclass__(**kwargs)
        cls.__annotations__ |= dict.fromkeys(("mask_on", "keypoint_on"), torch.jit.Final[bool])

    @configurable
    def __init__(self, *, class_thresholds: Sequence[float] = (), **kwargs: Any) -> None:
        """As detectron2's heads.

        Args:
            class_thresholds: K lowest scores of detections, or none.
            kwargs: those of detectron2's heads.
        """
        super().__init__(**kwargs)
        self.cut_at(class_thresholds)

    def cut_at(self, class_thresholds: Sequence[float]) -> None:
        """Leave out detections below these K scores; none where there are none.

        Raises:
            ValueError: there are neither K scores nor none.
        """
        num_classes = self.num_classes  # type: ignore[attr-defined]  # as below
        if len(class_thresholds) not in (0, num_classes):
            raise ValueError(
                f"Expected a threshold for each of {num_classes} classes, or none, but got "
                f"{len(class_thresholds)} (MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS): are they of "
                "another data set?"
            )
        thresholds = None
        if class_thresholds:
            device = next(self.parameters()).device  # type: ignore[attr-defined]  # as below
            thresholds = torch.tensor(list(class_thresholds), device=device)
        self.register_buffer(  # type: ignore[attr-defined]  # of the heads mixed in
            "class_thresholds", thresholds, persistent=False
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, Any]) -> dict[str, Any]:
        """Keyword arguments of `__init__` from a configuration."""
        require_our_keys(cfg)
        return {
            **super().from_config(cfg, input_shape),  # type: ignore[misc]  # of the heads mixed in
            "class_thresholds": cfg.MODEL.ROI_BOX_HEAD.CLASS_THRESHOLDS,
        }

    def forward_with_given_boxes(
        self,
        features: dict[str, Tensor],
        instances: list[Instances],
    ) -> list[Instances]:
        """As detectron2's; detections below their class's threshold are left out.

        Written out, for TorchScript compiles no call of the class above. Boxes of test-time
        augmentation, which are whole already, have no scores.
        """
        thresholds = self.class_thresholds
        if thresholds is not None and instances[0].has("scores"):
            instances = [each[each.scores >= thresholds[each.pred_classes]] for each in instances]
        instances = self._forward_mask(features, instances)  # type: ignore[attr-defined]
        return self._forward_keypoint(features, instances)  # type: ignore[attr-defined]

    @classmethod
    def _with_classifier(cls, cfg: CfgNode) -> CfgNode:
        """A configuration whose CLASSIFIER is the head's own, where the name fixes one.

        Raises:
            ValueError: the name and CLASSIFIER contradict each other, or give no known method.
        """
        chosen = cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER
        if (chosen or cls.classifier) not in METHODS:
            raise ValueError(
                f"{cls.__name__} needs MODEL.ROI_BOX_HEAD.CLASSIFIER out of {', '.join(METHODS)}, "
                f"but got {chosen!r}."
            )
        if chosen and cls.classifier and chosen != cls.classifier:
            raise ValueError(
                f"{cls.__name__} fixes the classifier to {cls.classifier!r}, but "
                f"MODEL.ROI_BOX_HEAD.CLASSIFIER is {chosen!r}; clear it or use LongTailedROIHeads."
            )
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER = chosen or cls.classifier
        return cfg

    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """As detectron2's, without proposals that lie on ignored regions."""
        sampled = super().label_and_sample_proposals(  # type: ignore[misc]  # of the heads mixed in
            without_ignored(proposals, targets), targets
        )
        return with_known_classes(sampled, targets, self.num_classes)  # type: ignore[attr-defined]

    def _sample_proposals(
        self, matched_idxs: Tensor, matched_labels: Tensor, gt_classes: Tensor
    ) -> tuple[Tensor, Tensor]:
        with next_image("proposals"):
            return super()._sample_proposals(  # type: ignore[misc]  # of the heads mixed in
                matched_idxs, matched_labels, gt_classes
            )


@ROI_HEADS_REGISTRY.register()
class LongTailedROIHeads(_LongTailedClassification, StandardROIHeads):
    """Standard ROI heads with the method that `MODEL.ROI_BOX_HEAD.CLASSIFIER` names."""

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, Any]) -> dict[str, Any]:
        cfg = cls._with_classifier(cfg)
        parts = super()._init_box_head(cfg, input_shape)
        with torch.random.fork_rng(devices=[]):  # what is built later draws as in detectron2
            predictor = LongTailedBoxPredictor(cfg, parts["box_head"].output_shape)
        return {**parts, "box_predictor": predictor.start_as(parts["box_predictor"])}


@ROI_HEADS_REGISTRY.register()
class SigmoidROIHeads(LongTailedROIHeads):
    """K independent sigmoids, no background column."""

    classifier = "sigmoid"


@ROI_HEADS_REGISTRY.register()
class BalancedSoftmaxROIHeads(LongTailedROIHeads):
    """Balanced Softmax over K + 1 columns; in the authors' release this names the sigmoid form."""

    classifier = "balanced_softmax"


@ROI_HEADS_REGISTRY.register()
class BalancedSigmoidROIHeads(LongTailedROIHeads):
    """Balanced Softmax in its sigmoid form, as published for LVIS."""

    classifier = "balanced_sigmoid"


@ROI_HEADS_REGISTRY.register()
class BALMSROIHeads(BalancedSigmoidROIHeads):
    """The sigmoid form as BALMS trains it, with the Meta Reweighter.

    The reweighter belongs to training alone and to the engine (`META.LEARN`): the heads predict as
    `BalancedSigmoidROIHeads` do, and BALMS checkpoints of the authors' release load.
    """


@ROI_HEADS_REGISTRY.register()
class CascadeLongTailedROIHeads(_LongTailedClassification, CascadeROIHeads):
    """Cascade heads with one classifier of the chosen method a stage."""

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, Any]) -> dict[str, Any]:
        cfg = cls._with_classifier(cfg)
        parts = super()._init_box_head(cfg, input_shape)
        with torch.random.fork_rng(devices=[]):  # what is built later draws as in detectron2
            predictors = [
                LongTailedBoxPredictor(
                    cfg, head.output_shape, box2box_transform=drawn.box2box_transform
                ).start_as(drawn)
                for head, drawn in zip(parts["box_heads"], parts["box_predictors"], strict=True)
            ]
        return {**parts, "box_predictors": predictors}

    def _run_stage(
        self, features: list[Tensor], proposals: list[Instances], stage: int
    ) -> tuple[Tensor, Tensor]:
        """As detectron2's.

        0.6 calls a function with a gradient of its own in inference, too, which no trace can be
        saved with.
        """
        if self.training:
            return super()._run_stage(features, proposals, stage)
        pooled = self.box_pooler(features, [each.proposal_boxes for each in proposals])
        return self.box_predictor[stage](self.box_head[stage](pooled))

    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        kept = without_ignored(proposals, targets)
        labelled = super()._match_and_label_boxes(kept, stage, targets)
        return with_known_classes(labelled, targets, self.num_classes)


LONG_TAILED_HEADS = {
    head.__name__: head
    for head in (
        LongTailedROIHeads,
        SigmoidROIHeads,
        BalancedSoftmaxROIHeads,
        BalancedSigmoidROIHeads,
        BALMSROIHeads,
        CascadeLongTailedROIHeads,
    )
}
FIXED_CLASSIFIERS = {
    name: head.classifier for name, head in LONG_TAILED_HEADS.items() if head.classifier
}


def our_heads(name: str) -> str:
    """The heads of ours that stand in the place of heads of that name."""
    return "CascadeLongTailedROIHeads" if "Cascade" in name else "LongTailedROIHeads"


def method_name(cfg: CfgNode) -> str:
    """The method of a detector's boxes: what CLASSIFIER names, or the head's own name fixes."""
    chosen = cfg.MODEL.ROI_BOX_HEAD.CLASSIFIER
    return chosen or FIXED_CLASSIFIERS.get(cfg.MODEL.ROI_HEADS.NAME, "")
