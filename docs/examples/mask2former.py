"""Balanced Softmax in Hugging Face's Mask2Former: `pip install transformers scipy`.

    python docs/examples/mask2former.py train.json train_images

Fine-tunes the COCO instance model (downloaded once), on a GPU where there is one.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision_mask_rcnn import Photographs
from transformers import Mask2FormerForUniversalSegmentation

from balms_seg import ClassStatistics
from balms_seg.integrations import BalancedMask2FormerLoss

MODEL = "facebook/mask2former-swin-tiny-coco-instance"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def train(model: nn.Module, data: Dataset, counts: Tensor, *, num_iters: int) -> list[float]:
    """Losses of so many iterations, one image each."""
    criterion = BalancedMask2FormerLoss(model.config, model.weight_dict, counts)  # balms_seg
    model.criterion = criterion
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05)
    history = []
    for index in torch.randint(len(data), (num_iters,)).tolist():
        image, target = data[index]
        pixels = (image - MEAN[:, None, None]) / STD[:, None, None]
        loss = model(
            pixel_values=pixels[None].to(device),
            mask_labels=[target["masks"].float().to(device)],
            class_labels=[target["labels"].to(device) - 1],  # from 0
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("annotations", help="json in COCO's form")
    parser.add_argument("images", help="folder of the images")
    parser.add_argument("--iterations", type=int, default=20_000)
    args = parser.parse_args()
    statistics = ClassStatistics.from_json(args.annotations)
    counts = torch.as_tensor(statistics.prior_counts("instance"))
    model = Mask2FormerForUniversalSegmentation.from_pretrained(
        MODEL, num_labels=statistics.num_classes, ignore_mismatched_sizes=True
    )
    data = Photographs(args.annotations, args.images)
    print(train(model, data, counts, num_iters=args.iterations)[-1])
    model.save_pretrained("mask2former")
