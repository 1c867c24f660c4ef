"""Long-tailed instance segmentation and recognition for detectron2.

Importing this registers the ROI heads, backbones and proposal generators with detectron2, where
that is installed; losses, statistics, samplers and methods work without it.
"""

from importlib.util import find_spec

from balms_seg.class_statistics import ClassStatistics
from balms_seg.config import add_balms_config, check_config

__version__ = "0.1.0"
__all__ = ["ClassStatistics", "add_balms_config", "check_config"]

if find_spec("detectron2"):
    import balms_seg.modeling  # noqa: F401
