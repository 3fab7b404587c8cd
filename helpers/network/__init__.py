"""The U-Net: what goes in, what is built, what comes out, and the file that keeps it."""
