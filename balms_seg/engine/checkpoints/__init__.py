"""Checkpoint files: written whole, verified when read, found again after any fault."""

from balms_seg.engine.checkpoints.checkpointer import LongTailedCheckpointer, require_finite

__all__ = ["LongTailedCheckpointer", "require_finite"]
