"""From files to images, masks and labels, with what is wrong with them said first."""
