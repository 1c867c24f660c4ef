"""Data sets: registration, annotations, statistics of the training set, loading.

Names are imported when they are first used, so that the parts without detectron2 work without it.
"""

from importlib import import_module

_MODULES = {
    "build_image_test_loader": "loading.image_loader",
    "build_train_loader": "loading.train_loader",
    "get_metadata": "instances.registration",
    "get_training_dicts": "training_set",
    "load_annotations": "instances.dataset_dicts",
    "load_dataset_dicts": "instances.builtin",
    "read_once": "instances.builtin",
    "register_from_config": "instances.registration",
    "register_images": "images.image_sets",
    "register_long_tailed_instances": "instances.registration",
    "share_frequency_groups": "training_set",
    "training_classes": "training_set",
    "training_statistics": "training_set",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
