"""Imported first by what builds on detectron2: says how to install it where it is missing."""

from balms_seg.requirements import require

require("detectron2", "Building and training models")
