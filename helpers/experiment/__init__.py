"""Why some masks come out inverted: networks that differ in one thing, trained alike."""
