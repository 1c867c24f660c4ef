"""Balanced Softmax in torchvision's Mask R-CNN, without detectron2.

    python docs/examples/torchvision_mask_rcnn.py train.json train_images

Fine-tunes the COCO model (downloaded once), on a GPU where there is one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pycocotools.coco import COCO
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_image
from torchvision.models.detection import maskrcnn_resnet50_fpn_v2
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

from balms_seg import ClassStatistics
from balms_seg.integrations import BalancedRoIHeads


class Photographs(Dataset):
    """Images of a COCO json with objects; labels are 1 to K in the order of the category ids."""

    def __init__(self, annotations: str, images: str) -> None:
        """Read the json, `images` being the folder."""
        self.coco, self.folder = COCO(annotations), Path(images)
        self.label = {each: label for label, each in enumerate(sorted(self.coco.cats), start=1)}
        self.ids = sorted(image for image, objects in self.coco.imgToAnns.items() if objects)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, objects = self.coco.imgs[self.ids[index]], self.coco.imgToAnns[self.ids[index]]
        pixels = decode_image(str(self.folder / image["file_name"]), ImageReadMode.RGB)
        boxes = torch.tensor([each["bbox"] for each in objects])
        masks = [torch.as_tensor(self.coco.annToMask(each)) for each in objects]
        return pixels / 255, {
            "boxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1),
            "labels": torch.tensor([self.label[each["category_id"]] for each in objects]),
            "masks": torch.stack(masks),
        }


def build(num_classes: int) -> nn.Module:
    """Torchvision's COCO model with new predictors of K classes and background."""
    model = maskrcnn_resnet50_fpn_v2(weights="DEFAULT")
    model.roi_heads.box_predictor = FastRCNNPredictor(1024, num_classes + 1)
    model.roi_heads.mask_predictor = MaskRCNNPredictor(256, 256, num_classes + 1)
    return model


def train(model: nn.Module, data: Dataset, counts: Tensor, *, num_iters: int) -> list[float]:
    """Losses of so many iterations, whose heads are balanced."""
    model.roi_heads = BalancedRoIHeads(model.roi_heads, counts)  # balms_seg; then the optimiser
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9, weight_decay=1e-4)
    loader = DataLoader(data, batch_size=2, shuffle=True, collate_fn=list)
    history: list[float] = []
    while len(history) < num_iters:
        for images, targets in (zip(*rows, strict=True) for rows in loader):
            targets = [{name: t.to(device) for name, t in each.items()} for each in targets]
            loss = sum(model([image.to(device) for image in images], targets).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            history.append(loss.item())
    return history[:num_iters]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("annotations", help="json in COCO's form")
    parser.add_argument("images", help="folder of the images")
    parser.add_argument("--iterations", type=int, default=10_000)
    args = parser.parse_args()
    statistics = ClassStatistics.from_json(args.annotations)
    counts = torch.as_tensor(statistics.prior_counts("instance"))
    model = build(statistics.num_classes)
    data = Photographs(args.annotations, args.images)
    print(train(model, data, counts, num_iters=args.iterations)[-1])
    torch.save(model.state_dict(), "mask_rcnn.pth")  # loads into the plain model, too
