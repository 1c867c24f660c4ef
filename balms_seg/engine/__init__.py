"""Training and evaluation under detectron2's engine."""

from balms_seg.lazy_names import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ImagePredictor": "image_predictor",
        "LongTailedTrainer": "trainer",
        "evaluate": "run",
        "load_config": "config_files",
        "load_model": "run",
        "setup": "run_setup",
        "train": "run",
    },
)
