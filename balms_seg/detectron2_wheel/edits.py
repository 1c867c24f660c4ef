"""What has to change in detectron2 0.6 to run on current Python, numpy, Pillow and torch.

The sources are those of 2021. Each `Edit` names a file, the text it holds, the text it gets, and
how often the old text must occur, so that a source that is not the expected one stops the
installation instead of being half changed. `STUB_EXTENSION` replaces the compiled extension.
"""

from __future__ import annotations

from typing import NamedTuple


class Edit(NamedTuple):
    """One textual change.

    Attributes:
        path: File inside the wheel.
        old: Literal text to replace.
        new: What replaces it.
        hits: How many times `old` must occur in the file.
    """

    path: str
    old: str
    new: str
    hits: int = 1


STUB_PATH = "detectron2/_C.py"
STUB_EXTENSION = '''\
"""Stands in for detectron2's compiled extension, which this pure-Python wheel does not have.

Mask R-CNN needs none of it: torchvision supplies ROIAlign and NMS, on CPU and GPU.
"""


class ExtensionMissingError(AttributeError, RuntimeError):
    """A function of the compiled extension was asked for."""


def get_compiler_version():
    return "none: pure-Python wheel, detectron2's extension is not compiled"


def get_cuda_version():
    return "none: pure-Python wheel, detectron2's extension is not compiled"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(f"module 'detectron2._C' has no attribute '{name}'")
    raise ExtensionMissingError(
        f"detectron2._C.{name} needs detectron2's compiled extension, which this pure-Python wheel "
        "does not have. Deformable convolution, rotated boxes and the fast COCO evaluator use it. "
        "To get it, build detectron2 from its source repository with a C++ compiler "
        "(and CUDA's for the GPU) and install that in place of this wheel."
    )
'''

_ALIASES = (
    ("detectron2/data/build.py", "np.int", 2),
    ("detectron2/data/datasets/pascal_voc.py", "np.str", 1),
    ("detectron2/evaluation/pascal_voc_evaluation.py", "np.bool", 2),
    ("detectron2/evaluation/sem_seg_evaluation.py", "np.int)", 2),
    ("detectron2/evaluation/sem_seg_evaluation.py", "np.float", 5),
    ("detectron2/structures/masks.py", "np.bool", 3),
    ("detectron2/utils/video_visualizer.py", "np.bool", 1),
    ("detectron2/utils/visualizer.py", "np.bool", 3),
)

_QUIET_SETUP = """\
import warnings

from .utils.env import setup_environment

with warnings.catch_warnings():
    # fvcore scripts its losses on import, which newer torch calls deprecated.
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
    import fvcore.nn  # noqa: F401
"""

_LAST_EVALUATOR_LINE = """\
        logger.info("COCOeval_opt.accumulate() finished in {:0.2f} seconds.".format(toc - tic))
"""

_EVALUATOR_FALLBACK = """

_HAS_EXTENSION = hasattr(_C, "COCOevalEvaluateImages")
COCOeval_opt = _CompiledCOCOeval if _HAS_EXTENSION else COCOeval
"""

EDITS: tuple[Edit, ...] = (
    # numpy 1.24 removed the aliases of Python's own types.
    *(Edit(path, alias, alias.removeprefix("np."), hits) for path, alias, hits in _ALIASES),
    # numpy 2: copy=False means "raise if a copy is needed", no longer "copy only if needed".
    Edit(
        "detectron2/layers/mask_ops.py",
        "np.array(mask, copy=False)",
        "np.asarray(mask)",
    ),
    # Pillow 10 removed LINEAR, another name of BILINEAR.
    Edit(
        "detectron2/data/transforms/transform.py",
        "Image.LINEAR",
        "Image.BILINEAR",
    ),
    # setuptools 82 removed pkg_resources.
    Edit("detectron2/model_zoo/model_zoo.py", "import pkg_resources\n", ""),
    Edit(
        "detectron2/model_zoo/model_zoo.py",
        "pkg_resources.resource_filename(\n"
        '        "detectron2.model_zoo", os.path.join("configs", config_path)\n'
        "    )",
        'os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", config_path)',
    ),
    # Python 3.11 no longer samples from a set; detectron2 main has the same change.
    Edit(
        "detectron2/data/common.py",
        "self._rng.sample(self._fallback_candidates, k=1)",
        "self._rng.sample(list(self._fallback_candidates), k=1)",
    ),
    # torch 2.0: schedulers derive from LRScheduler; with the old name torch's own schedulers were
    # silently left out of checkpoints.
    Edit(
        "detectron2/engine/hooks.py",
        "torch.optim.lr_scheduler._LRScheduler",
        "torch.optim.lr_scheduler.LRScheduler",
        2,
    ),
    Edit(
        "detectron2/modeling/anchor_generator.py",
        "torch.meshgrid(shifts_y, shifts_x)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
    ),
    # torch 2.4 deprecated torch.cuda.amp.
    Edit(
        "detectron2/engine/train_loop.py",
        "from torch.cuda.amp import GradScaler\n\n            grad_scaler = GradScaler()",
        'grad_scaler = torch.amp.GradScaler("cuda")',
    ),
    Edit(
        "detectron2/engine/train_loop.py",
        "from torch.cuda.amp import autocast\n",
        "from torch.amp import autocast\n",
    ),
    Edit(
        "detectron2/engine/train_loop.py",
        "with autocast():",
        'with autocast("cuda"):',
    ),
    # torch 2.9 deprecated scripting, with a warning at import. The decorator returns the class
    # unchanged; fvcore's use of it, outside this wheel, is imported under a filter.
    Edit("detectron2/modeling/box_regression.py", "@torch.jit.script\n", "", 2),
    Edit(
        "detectron2/__init__.py",
        "from .utils.env import setup_environment\n",
        _QUIET_SETUP,
    ),
    # Without the extension the fast evaluator is pycocotools' own: the same numbers, slower.
    Edit(
        "detectron2/evaluation/fast_eval_api.py",
        "class COCOeval_opt(COCOeval):",
        "class _CompiledCOCOeval(COCOeval):",
    ),
    Edit(
        "detectron2/evaluation/fast_eval_api.py",
        _LAST_EVALUATOR_LINE,
        _LAST_EVALUATOR_LINE + _EVALUATOR_FALLBACK,
    ),
    # Counting operations (utils/analysis.py) needs the package, but not caffe2, which left torch.
    Edit(
        "detectron2/export/__init__.py",
        "from .api import *\n",
        "try:\n    from .api import *\nexcept ImportError:  # needs caffe2\n    pass\n",
    ),
    # Ask the stub for it, whose error says what is missing.
    Edit(
        "detectron2/layers/nms.py",
        "    return torch.ops.detectron2.nms_rotated(boxes, scores, iou_threshold)",
        "    from detectron2 import _C\n\n    return _C.nms_rotated(boxes, scores, iou_threshold)",
    ),
)
