"""What a network learns to predict: maps made from label images, and label images from maps."""
