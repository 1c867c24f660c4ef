"""Chooses the job of a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from balms_seg.engine.jobs.detection import DetectionJob
from balms_seg.engine.jobs.images import ImageJob
from balms_seg.engine.jobs.job import Job
from balms_seg.job import classifies_images

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def build_job(cfg: CfgNode) -> Job:
    """The job that `MODEL.META_ARCHITECTURE` belongs to."""
    return ImageJob(cfg) if classifies_images(cfg) else DetectionJob(cfg)
