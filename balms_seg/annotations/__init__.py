"""The reader of COCO- and LVIS-style json."""
