"""Long-tailed instance segmentation and recognition for detectron2."""
