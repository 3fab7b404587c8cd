"""What a data set holds: kinds of image, fields of view, and splits that do not leak."""
