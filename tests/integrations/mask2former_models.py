"""Mask2Former of Hugging Face, small, of three classes."""

from __future__ import annotations

import torch
import transformers
from torch import nn

K = 3


def tiny_mask2former() -> nn.Module:
    torch.manual_seed(0)
    backbone = transformers.SwinConfig(
        image_size=32, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4
    )
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        num_labels=K,
        **{"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "num_queries": 10},
        **{"encoder_feedforward_dim": 32, "dim_feedforward": 32, "num_attention_heads": 2},
        **{"encoder_layers": 1, "decoder_layers": 2, "train_num_points": 64, "dropout": 0.0},
    )
    return transformers.Mask2FormerForUniversalSegmentation(config).train()
