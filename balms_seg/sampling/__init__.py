"""Repeat factors, samplers and seeded index streams; pure numpy and torch."""

from balms_seg.sampling.batches import (
    Draw,
    GlobalBatchSampler,
    check_batch_size,
    draws_of,
    positions_of,
)
from balms_seg.sampling.class_balanced import (
    ClassBalancedTrainingSampler,
    compute_class_balanced_factors,
)
from balms_seg.sampling.estimators import ESTIMATORS
from balms_seg.sampling.image_rates import (
    BoundedLink,
    ImageClasses,
    ImageRates,
    SigmoidLink,
)
from balms_seg.sampling.instance_aware import InstanceAwareRepeatFactorTrainingSampler
from balms_seg.sampling.keyed import keyed_rng, keyed_uniforms, position_seed
from balms_seg.sampling.meta_repeat_factor import MetaRepeatFactorTrainingSampler
from balms_seg.sampling.progressive import ProgressivelyBalancedTrainingSampler
from balms_seg.sampling.registry import SAMPLER_REGISTRY, build_index_stream, expected_repeats
from balms_seg.sampling.repeat_factor import (
    RepeatFactorTrainingSampler,
    compute_image_frequency,
    compute_repeat_factors,
)
from balms_seg.sampling.square_root import SquareRootTrainingSampler
from balms_seg.sampling.streams import Block, IndexStream
from balms_seg.sampling.training import TrainingSampler

__all__ = [
    "ESTIMATORS",
    "SAMPLER_REGISTRY",
    "Block",
    "BoundedLink",
    "ClassBalancedTrainingSampler",
    "Draw",
    "GlobalBatchSampler",
    "ImageClasses",
    "ImageRates",
    "IndexStream",
    "InstanceAwareRepeatFactorTrainingSampler",
    "MetaRepeatFactorTrainingSampler",
    "ProgressivelyBalancedTrainingSampler",
    "RepeatFactorTrainingSampler",
    "SigmoidLink",
    "SquareRootTrainingSampler",
    "TrainingSampler",
    "build_index_stream",
    "check_batch_size",
    "compute_class_balanced_factors",
    "compute_image_frequency",
    "compute_repeat_factors",
    "draws_of",
    "expected_repeats",
    "keyed_rng",
    "keyed_uniforms",
    "position_seed",
    "positions_of",
]
