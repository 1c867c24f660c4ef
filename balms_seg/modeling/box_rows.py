"""What a box classifier is trained on: the features and classes of sampled proposals."""

from __future__ import annotations

from functools import partial

import torch
from detectron2.modeling import GeneralizedRCNN
from torch import nn

from balms_seg.job import BOX_CLASSIFIER as CLASSIFIER
from balms_seg.modeling.box_predictor import LongTailedBoxPredictor
from balms_seg.modeling.classifier_rows import ClassifierRows, ClassifierView, trains_alone
from balms_seg.modeling.keyed_sampling import KeyedRPN
from balms_seg.modeling.partial_labels import columns_of


def trains_box_classifier_alone(model: nn.Module) -> bool:
    """Whether all that trains is the classifier of detectron2's two-stage model without cascade."""
    predictor = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
    return (
        isinstance(model, GeneralizedRCNN)
        and isinstance(predictor, LongTailedBoxPredictor)
        and trains_alone(model, CLASSIFIER)
    )


@torch.no_grad()
def compute_box_rows(model: GeneralizedRCNN, batch: list[dict]) -> ClassifierRows:
    """Run the trunk of a model in training mode, up to the input of its box classifier.

    The proposals are those of the full forward pass under the same `keyed_sampling`. What cannot
    influence the classifier is not computed: losses of the RPN, box regression, mask head.

    Args:
        model: one that `trains_box_classifier_alone`.
        batch: model inputs with "instances".
    """
    images = model.preprocess_image(batch)
    ground_truth = [sample["instances"].to(model.device) for sample in batch]
    maps = model.backbone(images.tensor)
    generator, heads = model.proposal_generator, model.roi_heads
    skips_losses = isinstance(generator, KeyedRPN)
    proposals, _ = generator(images, maps, [] if skips_losses else ground_truth)
    proposals = heads.label_and_sample_proposals(proposals, ground_truth)
    boxes = [each.proposal_boxes for each in proposals]
    pooled = heads.box_pooler([maps[name] for name in heads.box_in_features], boxes)
    return ClassifierRows(
        features=heads.box_head(pooled).flatten(start_dim=1).float(),
        gt_classes=torch.cat([each.gt_classes for each in proposals]),
        images=torch.cat([torch.full_like(p.gt_classes, i) for i, p in enumerate(proposals)]),
        columns=columns_of(proposals),
    )


def box_classifier_view(model: GeneralizedRCNN) -> ClassifierView:
    """A detector that `trains_box_classifier_alone`, seen from its box classifier."""
    predictor = model.roi_heads.box_predictor

    return ClassifierView(
        layer=predictor.cls_score,
        method=predictor.method,
        compute_rows=partial(compute_box_rows, model),
        context=lambda rows: predictor.loss_context(rows.features, rows.columns),
        accuracies=predictor.accuracies,
        loss_weight=predictor.loss_weight.get("loss_cls", 1.0),
        has_background=True,
    )
