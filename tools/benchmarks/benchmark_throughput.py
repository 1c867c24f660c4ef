"""`benchmark.py throughput`: training through the real loader, each scheme in turn.

Images are noise on disk, decoded and resized by the loader's workers as in a run.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmark_iteration import propose_anchors
from benchmark_timing import Row
from make_lvis_like import NUM_IMAGES, write_lvis_like, write_photographs

from balms_seg.job import BOX_CLASSIFIER

_NUM_PHOTOGRAPHS = 64
REFERENCE = "detectron2's head"
_CLASSIFIER_ALONE = {"MODEL.TRAIN_ONLY": [BOX_CLASSIFIER]}
_BALMS = {
    **_CLASSIFIER_ALONE,
    "MODEL.ROI_HEADS.NAME": "BALMSROIHeads",
    "MODEL.ROI_BOX_HEAD.CLASSIFIER": "",
}
SCHEMES: dict[str, dict[str, Any]] = {
    REFERENCE: {
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_BOX_HEAD.CLASSIFIER": "",
    },
    "softmax": {},
    "balanced_softmax": {"MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_softmax"},
    "decoupled": {**_CLASSIFIER_ALONE, "MODEL.ROI_BOX_HEAD.CLASSIFIER": "balanced_sigmoid"},
    "BALMS, feature bank": {**_BALMS, "META.SOURCE": "feature_bank"},
    "BALMS, loader": {**_BALMS, "META.SOURCE": "loader"},
}
_PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"SOLVER.AMP.ENABLED": False},
    "float16": {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "float16"},
    "bfloat16": {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "bfloat16"},
}


def benchmark_throughput(arguments: argparse.Namespace) -> Iterator[Row]:
    """Images a second and peak memory of training, beside detectron2's head in the same engine."""
    reference = None
    with tempfile.TemporaryDirectory() as folder:
        annotations = Path(folder) / "made_up.json"
        write_lvis_like(
            annotations,
            scale=_NUM_PHOTOGRAPHS / NUM_IMAGES,
            seed=0,
            shapes=[tuple(arguments.photograph)],
        )
        write_photographs(annotations, Path(folder) / "images")
        for scheme in SCHEMES:
            seconds, peak_mb = _measure_what_fits(scheme, Path(folder), arguments)
            reference = seconds if scheme == REFERENCE else reference
            yield {
                "scheme": scheme,
                "precision": arguments.precision,
                "batch": arguments.batch,
                "fits": seconds is not None,
                "seconds": seconds,
                "images_per_second": seconds and arguments.batch / seconds,
                "peak_mb": peak_mb,
                f"ratio to {REFERENCE}": seconds and reference and seconds / reference,
            }


def _measure_what_fits(
    scheme: str, folder: Path, arguments: argparse.Namespace
) -> tuple[float | None, int | None]:
    """As `_measure`; nothing where the GPU's memory is too small."""
    try:
        return _measure(scheme, folder, arguments)
    except torch.OutOfMemoryError as error:
        print(f"{scheme}: {error}", flush=True)
    gc.collect()
    return None, None


def _measure(scheme: str, folder: Path, arguments: argparse.Namespace) -> tuple[float, int | None]:
    """Seconds of a step, and on a GPU the peak in MiB."""
    from detectron2.utils.events import EventStorage

    on_gpu = arguments.device.startswith("cuda")
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    trainer = _build_trainer(scheme, folder, arguments)
    with EventStorage(0):
        for trainer.iter in range(arguments.warmup + arguments.iterations):
            if trainer.iter == arguments.warmup:
                start = _now(on_gpu)
            trainer.run_step()
    seconds = (_now(on_gpu) - start) / arguments.iterations
    peak_mb = round(torch.cuda.max_memory_allocated() / 2**20) if on_gpu else None
    del trainer
    gc.collect()  # the next scheme's peak is its own
    return seconds, peak_mb


def _now(on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def _build_trainer(scheme: str, folder: Path, arguments: argparse.Namespace) -> Any:
    from detectron2.engine import default_argument_parser

    from balms_seg.engine import LongTailedTrainer, setup

    number = len(list(folder.glob("run_*")))
    name = "throughput_set"
    settings = {
        "DATASETS.REGISTER": [[name, str(folder / "made_up.json"), str(folder / "images")]],
        "DATASETS.TRAIN": (name,),
        "DATASETS.TEST": (),
        "DATALOADER.NUM_WORKERS": arguments.workers,
        "INPUT.MIN_SIZE_TRAIN": (arguments.short_side,),
        "MODEL.WEIGHTS": "",
        "MODEL.ROI_HEADS.NUM_CLASSES": 1203,
        "MODEL.DEVICE": arguments.device,
        "MODEL.PIXEL_STD": [58.0] * 3,
        "SOLVER.IMS_PER_BATCH": arguments.batch,
        "SOLVER.REFERENCE_WORLD_SIZE": 0,
        "SOLVER.OPTIMIZER": "SGD",
        "SOLVER.CLIP_GRADIENTS.ENABLED": False,
        "SOLVER.BASE_LR": 1e-12,  # an untrained network with frozen normalisation would diverge
        "OUTPUT_DIR": str(folder / f"run_{number}"),
        **_PRECISIONS[arguments.precision],
        **SCHEMES[scheme],
    }
    words = [word for key, value in settings.items() for word in (key, str(value))]
    gpus = "1" if arguments.device.startswith("cuda") else "0"
    command = ["--config-file", arguments.config, "--num-gpus", gpus, *words]
    torch.manual_seed(0)
    trainer = LongTailedTrainer(setup(default_argument_parser().parse_args(command)))
    propose_anchors(trainer.model)
    _keep_within_half_precision(trainer.model)
    return trainer


def _keep_within_half_precision(model: torch.nn.Module) -> None:
    """Let no block add much to its input: frozen normalisation that knows no data does nothing."""
    for name, buffer in model.named_buffers():
        if name.endswith("conv3.norm.weight"):
            buffer.fill_(0.25)


def add_throughput_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `throughput`."""
    parser.add_argument("--config", default="lvis_v1/softmax_mask_rcnn_R_50_FPN_1x.yaml")
    parser.add_argument("--batch", type=int, default=2, help="images")
    parser.add_argument("--precision", choices=list(_PRECISIONS), default="float32")
    parser.add_argument(
        "--photograph", type=int, nargs=2, default=[427, 640], metavar=("H", "W"), help="on disk"
    )
    parser.add_argument(
        "--short-side", type=int, default=800, help="as trained; padded 800 x 1216 by default"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=4, help="of the loader")
    parser.add_argument("--warmup", type=int, default=4, help="iterations not measured")
    parser.add_argument("--iterations", type=int, default=12)
