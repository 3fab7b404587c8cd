"""Why masks of stained tissue come out inverted: variants of one training, run and compared."""
