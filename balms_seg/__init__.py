"""Long-tailed instance segmentation and recognition for detectron2.

Losses, methods, samplers, statistics and evaluation work without detectron2. Its registries get the
ROI heads, backbones and proposal generators with `add_balms_config`, or with `balms_seg.modeling`.
"""

from balms_seg.lazy_names import lazy_names

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ClassStatistics": "class_statistics",
        "add_balms_config": "config",
        "check_config": "config",
    },
    packages=("evaluation", "losses", "meta", "methods", "modeling", "sampling"),
)
