"""From a folder of images to labels, masks, overlays and a table of nuclei."""
