"""Every configuration key of this package, and the checks that need no data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.config.detector import detector_problems
from balms_seg.config.image_classification import image_problems
from balms_seg.config.image_input import image_input_problems
from balms_seg.config.meta_learning import meta_problems
from balms_seg.config.methods import (
    BOX_COSINE_SCALE,
    IMAGE_COSINE_SCALE,
    MOVED_KEYS,
    add_method_keys,
    check_method_names,
    method_problems,
)

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Keys of the authors' release and what replaces them here.
RELEASED_KEYS = {
    "DECOUPLE_TRAINING": "MODEL.TRAIN_ONLY (with MODEL.WEIGHTS naming the feature stage)",
    "META_REWEIGHT": "MODEL.ROI_HEADS.NAME: BALMSROIHeads",
    "MODEL.ROI_HEADS.PRIOR_PROB": "MODEL.METHODS.BALANCED_SIGMOID.PRIOR_PROBABILITY",
}
OPTIMIZERS = ("SGD", "AdamW")
FROZEN_NORM = ("eval", "train")
MATCH_FILE_NAMES = ("exact", "basename")


def add_balms_config(cfg: CfgNode) -> None:
    """Declare this package's keys with their defaults, in place.

    Registers the ROI heads, backbones and proposal generators that the keys name, too.

    Args:
        cfg: a detectron2 configuration, as `detectron2.config.get_cfg()` returns it.
    """
    from detectron2.config import CfgNode

    import balms_seg.modeling  # noqa: F401  registers them

    add_method_keys(cfg)

    head = cfg.MODEL.ROI_BOX_HEAD
    # Box-classification method, a key of balms_seg.methods.METHODS. Empty: the one that the name in
    # MODEL.ROI_HEADS.NAME fixes (LongTailedROIHeads fixes none and needs this key).
    head.CLASSIFIER = ""
    # Layer of the box classifier: linear | cosine (of normalised features and weights). auto: what
    # the method is made for.
    head.CLASSIFIER_LAYER = "auto"
    # What a cosine classifier multiplies its cosines with; methods made for one have their own.
    head.COSINE_SCALE = BOX_COSINE_SCALE
    # Classes without a training sample: floor (count one sample, warn) | error.
    head.EMPTY_CLASSES = "floor"

    head.CALIBRATION = CfgNode()
    # Post-hoc calibration of the scores: none | norcal | logit_adjustment | fracal |
    # group_temperature. tools/calibrate.py chooses the constant and writes these keys.
    head.CALIBRATION.METHOD = "none"
    # gamma of norcal, tau of logit_adjustment, lambda of fracal.
    head.CALIBRATION.STRENGTH = 1.0
    # Temperatures of rare, common and frequent classes for group_temperature.
    head.CALIBRATION.TEMPERATURES = (1.0, 1.0, 1.0)
    # Training counts n_c of these methods: image | instance.
    head.CALIBRATION.COUNTS = "image"
    # Fractal dimension of each class for fracal.
    head.CALIBRATION.DIMENSIONS = []

    # Widths of the stages of build_small_resnet_fpn_backbone, finest first; strides 4, 8, 16, ...
    cfg.MODEL.SMALL_RESNET = CfgNode()
    cfg.MODEL.SMALL_RESNET.WIDTHS = [32, 64, 96]
    # Basic blocks in each of those stages.
    cfg.MODEL.SMALL_RESNET.BLOCKS = [1, 1, 1]

    # Parameters to train, the rest frozen: names of parameters or modules, fnmatch wildcards.
    # Empty: all. The box classifier: ["roi_heads.box_predictor.cls_score"].
    cfg.MODEL.TRAIN_ONLY = []
    # What becomes of the box classifier of MODEL.WEIGHTS: keep (train on from it, as released for
    # LVIS) | reset (initialise anew; with a class-balanced sampler: cRT) | lws (fixed, with a
    # learned scale a class) | tau_norm (normalised by its weights' norms; --eval-only).
    cfg.MODEL.INIT_CLASSIFIER = "keep"
    # tau of tau_norm: 0 evens out the biases alone, 1 gives all foreground classes the same norm.
    cfg.MODEL.INIT_CLASSIFIER_TAU = 1.0
    # Normalisation of frozen layers: eval (its statistics stay) | train (it follows the batches, as
    # in the authors' release for classification; no promise of equal results on several ranks).
    cfg.MODEL.FROZEN_NORM = "eval"
    # Configuration, relative to configs/, of the run that makes MODEL.WEIGHTS; for error messages.
    cfg.MODEL.STAGE_ONE_CONFIG = ""

    # Data sets to register before anything else: a list of [name, json file, image folder].
    cfg.DATASETS.REGISTER = []
    # Images of these sets that do not exist by the json's file_name: exact (an error) | basename
    # (taken from the file below the folder that bears the last part of the name).
    cfg.DATASETS.MATCH_FILE_NAMES = "exact"
    # Image classification sets to register: a list of [name, source, root]. source: a folder or zip
    # of class folders (root: the folder in it, such as train), or a list file of "path label" lines
    # (root: the folder or zip of its images; empty: the list's own folder).
    cfg.DATASETS.REGISTER_IMAGES = []
    # Names of the image classifier's classes in the order of its outputs. Empty: those of the first
    # training set. Other sets are matched by name; numbers in a list count in these.
    cfg.DATASETS.CLASSES = []

    classifier = cfg.MODEL.IMAGE_CLASSIFIER = CfgNode()
    # Loss of MODEL.META_ARCHITECTURE ImageClassifier, a key of balms_seg.methods.METHODS.
    classifier.METHOD = "softmax"
    # K; 0: as many as the training set has.
    classifier.NUM_CLASSES = 10
    # cifar_resnet32 | resnet10 | resnet18 | resnet50 | resnet152 | resnext50 (all but the first
    # torchvision's).
    classifier.BACKBONE = "cifar_resnet32"
    # Factor on the channels of every layer of the backbone.
    classifier.WIDTH = 1
    # Start from torchvision's ImageNet weights, which are downloaded where they are not cached.
    classifier.PRETRAINED = False
    # linear | cosine (of normalised features and weights). auto: what the method is made for.
    classifier.CLASSIFIER = "auto"
    # What a cosine classifier multiplies its cosines with; methods made for one have their own.
    classifier.COSINE_SCALE = IMAGE_COSINE_SCALE
    # Channels last in memory: faster convolutions, in bfloat16 on a CPU above all.
    classifier.CHANNELS_LAST = True
    # Classes without a training image: floor (count one image, warn) | error.
    classifier.EMPTY_CLASSES = "error"

    # Values of 16-bit and float images that become 0 and 255: [low, high]. Empty: the range of the
    # type, 0 to 1 for floats. For 12 bits in 16: [0, 4095].
    cfg.INPUT.PIXEL_RANGE = []

    images = cfg.INPUT.IMAGES = CfgNode()
    # Height and width of the images that the image classifier gets, in px.
    images.SIZE = 32
    # Decode all images before training, for sets of small images of one size; else data workers
    # decode, crop and resize them.
    images.IN_MEMORY = True
    # Where images in memory lie and are augmented: cpu | cuda. Empty: the model's device.
    images.MEMORY_DEVICE = ""
    # Augmentation in training, in this order: crop_flip, autoaugment, randaugment, cutout, and
    # color_jitter for images that data workers decode (whose crop is of random size).
    images.AUGMENTATIONS = ["crop_flip"]
    # Black border before the random crop of images in memory, in px.
    images.PADDING = 4
    # Side of the square that cutout blackens, in px.
    images.CUTOUT = 16
    # Operations that randaugment applies to an image, and their level from 0 to 30.
    images.RANDAUGMENT = (2, 9)
    # alpha of mixup; 0: off.
    images.MIXUP = 0.0
    # alpha of cutmix; 0: off. With mixup on as well, each image gets either with equal chance.
    images.CUTMIX = 0.0
    # A training image that cannot be decoded: stop | skip (another takes its place, and a warning).
    images.UNREADABLE = "stop"
    # Images of a batch in evaluation.
    cfg.TEST.IMAGES_PER_BATCH = 500

    cfg.META = CfgNode()
    # What a meta step learns for each class: none | weights (loss weights, the Meta Reweighter) |
    # rates (sample rates, with MetaRepeatFactorTrainingSampler). auto: weights for BALMSROIHeads,
    # rates with that sampler, else none. none with either is its static control.
    cfg.META.LEARN = "auto"
    # Meta loss: plain (the paper) | balanced (what the released LVIS code computes).
    cfg.META.OBJECTIVE = "plain"
    # Iterations from one meta step to the next.
    cfg.META.PERIOD = 1
    # Images in a meta batch, over all ranks. 0: SOLVER.IMS_PER_BATCH.
    cfg.META.BATCH_SIZE = 0
    # Meta batches: feature_bank (box features of past training batches) | loader (images drawn
    # class-balanced, as published). Equal in AP (docs/results/toy_balms.md); the bank adds a tenth
    # to an iteration, the loader doubles it.
    cfg.META.SOURCE = "feature_bank"
    # Registered data set of the meta loader. Empty: DATASETS.TRAIN.
    cfg.META.DATASET = ""
    # Rows over which class weights are normalised to mean 1: global (of all ranks) | rank (of each
    # rank, as released).
    cfg.META.NORMALISE = "global"
    # Learning rate of Adam on the class parameters psi; 0.001 in the paper, 0.01 as released.
    cfg.META.LR = 0.01
    # Adam's betas for psi.
    cfg.META.BETAS = (0.9, 0.999)
    # L2 penalty on psi, which draws every class back to where it started.
    cfg.META.WEIGHT_DECAY = 0.0
    # How sample rates get their gradient: score (through the draws' probabilities) | gumbel_image
    # (straight-through over the images, as published) | gumbel_class (the same over the classes).
    cfg.META.ESTIMATOR = "score"
    # Whole images: class rates start in proportion to 1 / n_c^this. 0: all images equally often,
    # 1: all classes.
    cfg.META.INIT_POW = 0.0
    # Detectors: a class's learned factor g(psi) stays in [1/this, this].
    cfg.META.MAX_FACTOR = 4.0
    # Images drawn at the same rates, a multiple of SOLVER.IMS_PER_BATCH; new rates wait for the
    # next block.
    cfg.META.BLOCK = 1024
    # Global batches that may be drawn ahead of training: new rates wait for the first block that
    # starts at least so many batches later, so that workers (two batches each) change nothing.
    cfg.META.LOOKAHEAD = 16
    cfg.META.BANK = CfgNode()
    # Newest foreground rows that the feature bank keeps of each class, in half precision.
    cfg.META.BANK.PER_CLASS = 32
    # Newest background rows that it keeps.
    cfg.META.BANK.BACKGROUND = 4096
    # Where it lies: cpu | cuda. Empty: the model's device.
    cfg.META.BANK.DEVICE = ""
    # Memory that it may take, in MiB; a larger bank is an error.
    cfg.META.BANK.MAX_MEMORY_MB = 1024

    test = cfg.TEST.LONG_TAILED = CfgNode()
    # What computes AP and AR: numpy (ours) | lvis (lvis-api, the same numbers, slowly).
    test.BACKEND = "numpy"
    # Detections of an image that count, by score; LVIS's 300.
    test.MAX_DETECTIONS = 300
    # Largest number of training images of a rare and of a common class: [10, 100]. Empty: the
    # json's own groups, and LVIS's bounds for classes without. For whole images, of the groups few
    # and medium: [19, 100] where empty.
    test.GROUP_BOUNDS = []
    # Where GROUP_BOUNDS is empty, choose them so that each group has about a third of the classes.
    cfg.TEST.FIT_GROUP_BOUNDS = False
    # Also AP-fixed and AP-pool: 10,000 detections a class, no cap an image. Needs a larger
    # TEST.DETECTIONS_PER_IMAGE.
    test.AP_FIXED = False
    # Also boundary AP of the masks, which takes several times as long as mask AP.
    test.BOUNDARY = False
    # Count false positives by kind and find the class that each is most confused with.
    test.ERROR_KINDS = True
    # Take up the predictions of an interrupted evaluation of the same weights and settings.
    test.RESUME = True

    # Optimiser: SGD | AdamW. AdamW reads BASE_LR, WEIGHT_DECAY and the clipping keys as SGD does.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Share that the moving average of the weights keeps at an iteration; it is what is evaluated.
    # 0: no average.
    cfg.SOLVER.EMA_DECAY = 0.0
    # Length of the run in passes through the training set, in place of MAX_ITER; STEPS are scaled
    # along. 0: MAX_ITER holds.
    cfg.SOLVER.EPOCHS = 0.0
    # Share of the run that is warm-up, in place of WARMUP_ITERS. 0: WARMUP_ITERS holds.
    cfg.SOLVER.WARMUP_SHARE = 0.0
    # Periodic checkpoints to keep, the newest; model_final and model_best stay. 0: all.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 3
    # Metric whose best checkpoint is kept as model_best.pth, such as segm/AP. Empty: none.
    cfg.TEST.BEST_METRIC = ""


def check_config(cfg: CfgNode) -> None:
    """Stop on settings that contradict each other, before any data is read.

    Args:
        cfg: a resolved configuration with this package's keys.

    Raises:
        ValueError: names every key to change, one line each.
    """
    problems = [
        *image_problems(cfg),
        *image_input_problems(cfg),
        *detector_problems(cfg),
        *method_problems(cfg),
        *_solver_problems(cfg),
        *meta_problems(cfg),
    ]
    if cfg.MODEL.FROZEN_NORM not in FROZEN_NORM:
        problems.append(
            f"MODEL.FROZEN_NORM is {cfg.MODEL.FROZEN_NORM!r}; expected one of "
            f"{', '.join(FROZEN_NORM)}."
        )
    pixel_range = list(cfg.INPUT.PIXEL_RANGE)
    if pixel_range and (len(pixel_range) != 2 or not pixel_range[0] < pixel_range[1]):
        problems.append(
            f"INPUT.PIXEL_RANGE is {pixel_range}; expected [low, high], or [] for the type's range."
        )
    if cfg.DATASETS.MATCH_FILE_NAMES not in MATCH_FILE_NAMES:
        problems.append(
            f"DATASETS.MATCH_FILE_NAMES is {cfg.DATASETS.MATCH_FILE_NAMES!r}; expected one of "
            f"{', '.join(MATCH_FILE_NAMES)}."
        )
    bounds = list(cfg.TEST.LONG_TAILED.GROUP_BOUNDS)
    if bounds and (len(bounds) != 2 or not 0 < bounds[0] < bounds[1]):
        problems.append(
            f"TEST.LONG_TAILED.GROUP_BOUNDS is {bounds}; expected two ascending numbers of "
            "training images such as [10, 100], or an empty list."
        )
    for entry in cfg.DATASETS.REGISTER:
        if len(entry) != 3 or not all(isinstance(part, str) for part in entry):
            problems.append(
                f"DATASETS.REGISTER holds {entry!r}; each entry is [name, json file, image folder]."
            )
    if problems:
        raise ValueError("The configuration contradicts itself:\n  " + "\n  ".join(problems))


def _solver_problems(cfg: CfgNode) -> list[str]:
    problems = []
    if cfg.SOLVER.OPTIMIZER not in OPTIMIZERS:
        problems.append(
            f"SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER!r}; expected one of "
            f"{', '.join(OPTIMIZERS)}."
        )
    if not 0 <= cfg.SOLVER.EMA_DECAY < 1:
        problems.append(f"SOLVER.EMA_DECAY is {cfg.SOLVER.EMA_DECAY}; expected a share in [0, 1).")
    if cfg.SOLVER.CHECKPOINTS_TO_KEEP < 0:
        problems.append(
            f"SOLVER.CHECKPOINTS_TO_KEEP is {cfg.SOLVER.CHECKPOINTS_TO_KEEP}; expected 0 (all) or "
            "more."
        )
    if not cfg.SOLVER.EPOCHS >= 0:
        problems.append(f"SOLVER.EPOCHS is {cfg.SOLVER.EPOCHS}; expected 0 or more.")
    if not 0 <= cfg.SOLVER.WARMUP_SHARE < 1:
        problems.append(
            f"SOLVER.WARMUP_SHARE is {cfg.SOLVER.WARMUP_SHARE}; expected a share in [0, 1)."
        )
    if cfg.SOLVER.MAX_ITER < 1:
        problems.append(f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}; expected at least 1.")
    if cfg.SOLVER.IMS_PER_BATCH < 1:
        problems.append(f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}; expected at least 1.")
    reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference > 0 and cfg.SOLVER.IMS_PER_BATCH % reference:
        problems.append(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH} and SOLVER.REFERENCE_WORLD_SIZE "
            f"{reference}; expected a multiple of it (the batch is of that many processes and is "
            "rescaled to the actual number), or REFERENCE_WORLD_SIZE 0 for no rescaling."
        )
    return problems


def check_known_keys(config: dict, where: str) -> None:
    """Name our key wherever a file uses one of the authors' release, or one that has moved.

    Args:
        config: the yaml file's content as nested dicts.
        where: the file's name, for the message.

    Raises:
        KeyError: such a key is used, or one of a method that is not known.
    """
    replaced = {key: (ours, "a key of the authors' release") for key, ours in RELEASED_KEYS.items()}
    replaced |= {key: (ours, "which has moved") for key, ours in MOVED_KEYS.items()}
    for key, (ours, what) in replaced.items():
        node: object = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node is not None:
            raise KeyError(f"{where} sets {key}, {what}; use {ours}.")
    check_method_names(config, where)
