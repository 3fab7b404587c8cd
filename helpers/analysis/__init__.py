"""What a set of images holds: modalities, fields of view, splits, and what is unlike it."""
