"""Data sets: registration, annotations, statistics of the training set, loading.

Names are imported when they are first used, so that the parts without detectron2 work without it.
"""

from balms_seg.lazy_names import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "TrainingSet": "training_set",
        "build_image_test_loader": "loading.image_loader",
        "build_train_loader": "loading.configured_loader",
        "evaluation_classes": "images.labelled_images",
        "get_metadata": "instances.registration",
        "join_dicts": "instances.dataset_dicts",
        "load_annotations": "instances.dataset_dicts",
        "load_dataset_dicts": "instances.builtin",
        "register_from_config": "instances.registration",
        "register_images": "images.image_sets",
        "register_long_tailed_instances": "instances.registration",
    },
)
