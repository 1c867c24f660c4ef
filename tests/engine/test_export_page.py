"""The blocks of docs/export.md run as they stand, on a small detector and what it predicts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from made_up_data import small_config
from pycocotools import mask

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
CASCADE = "CascadeLongTailedROIHeads"


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Blocks by the heading above them, in a folder with a run."""
    monkeypatch.chdir(tmp_path)
    parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    found = {
        part.partition("\n")[0]: block[1]
        for part in parts
        if (block := re.search(r"```python\n(.*?)```", part, re.DOTALL))
    }
    (tmp_path / "output" / "my_data").mkdir(parents=True)
    return found


@pytest.fixture
def traced(request: pytest.FixtureRequest, blocks: dict[str, str]) -> dict:
    """What the first block makes of a detector with the given heads that finds something."""
    torch.manual_seed(0)
    settings = {"MODEL.ROI_HEADS.NAME": request.param, "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0}
    cfg = small_config({**settings, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": True})
    Path("output/my_data/config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, "output/my_data/model_final.pth")
    scope: dict = {}
    exec(blocks["A detector as TorchScript"], scope)
    return scope


def assert_detections(found: Sequence[torch.Tensor], scope: dict, image: torch.Tensor) -> None:
    """Boxes, classes, masks and scores are those of the model itself."""
    with torch.no_grad():
        expected = scope["model"].inference([{"image": image}], do_postprocess=False)[0]
    assert len(expected) > 0
    torch.testing.assert_close(found[0], expected.pred_boxes.tensor)
    assert torch.equal(found[1], expected.pred_classes)
    torch.testing.assert_close(found[2], expected.pred_masks)
    torch.testing.assert_close(found[3], expected.scores)


@pytest.mark.parametrize("traced", ["LongTailedROIHeads", CASCADE], indirect=True)
def test_a_detector_becomes_torchscript(traced: dict) -> None:
    other = torch.rand(3, 96, 64) * 255  # of another size than the traced one
    assert_detections(torch.jit.load("detector.ts")(other)[:4], traced, other)


@pytest.mark.parametrize(
    "traced",
    ["LongTailedROIHeads", pytest.param(CASCADE, marks=pytest.mark.slow)],
    indirect=True,
)
def test_a_detector_becomes_onnx(traced: dict, blocks: dict[str, str]) -> None:
    pytest.importorskip("onnx", reason="an export for those who have onnx")
    pytest.importorskip("onnxruntime", reason="an export for those who have onnxruntime")
    exec(blocks["A detector as ONNX"], traced)
    other = torch.rand(3, 96, 64) * 255
    found = traced["session"].run(None, {"image": other.numpy()})
    assert_detections([torch.from_numpy(each) for each in found[:4]], traced, other)


def test_predictions_become_supervisions_detections(blocks: dict[str, str]) -> None:
    pytest.importorskip("supervision", reason="an example for those who have supervision")
    Path("found").mkdir()
    cv2.imwrite("1.png", np.full((40, 60, 3), 90, np.uint8))
    filled = np.zeros((40, 60), np.uint8, order="F")
    filled[10:20, 5:25] = 1
    encoded = mask.encode(filled)
    one = {"bbox": [5, 10, 20, 10], "score": 0.8, "category_id": 3, "file_name": "1.png"}
    one["segmentation"] = {"size": [40, 60], "counts": encoded["counts"].decode()}
    Path("found/predictions.json").write_text(json.dumps([one]))
    scope: dict = {}
    exec(blocks["Pictures with supervision"], scope)
    assert scope["detections"].xyxy.tolist() == [[5, 10, 25, 20]]
    picture = cv2.imread("supervision.png")
    assert (picture[10:20, 5:25] != 90).any(axis=-1).all()
    assert (picture[25:] == 90).all()
