"""Data sets of whole images: records, decoding, memory, augmentation."""
