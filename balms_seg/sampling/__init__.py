"""Repeat factors, samplers and seeded index streams; pure numpy and torch."""

from balms_seg.sampling.batches import Draw, GlobalBatchSampler, check_batch_size
from balms_seg.sampling.class_balanced import (
    ClassBalancedTrainingSampler,
    compute_class_balanced_factors,
)
from balms_seg.sampling.keyed import keyed_rng, position_seed
from balms_seg.sampling.registry import SAMPLER_REGISTRY, build_index_stream, expected_repeats
from balms_seg.sampling.repeat_factor import (
    RepeatFactorTrainingSampler,
    compute_image_frequency,
    compute_repeat_factors,
)
from balms_seg.sampling.streams import Block, IndexStream
from balms_seg.sampling.training import TrainingSampler

__all__ = [
    "SAMPLER_REGISTRY",
    "Block",
    "ClassBalancedTrainingSampler",
    "Draw",
    "GlobalBatchSampler",
    "IndexStream",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
    "build_index_stream",
    "check_batch_size",
    "compute_class_balanced_factors",
    "compute_image_frequency",
    "compute_repeat_factors",
    "expected_repeats",
    "keyed_rng",
    "position_seed",
]
