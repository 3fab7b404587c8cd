"""Nuclei segmentation with a configurable U-Net: the package behind the notebooks.

Two names are the way in: `load_settings` reads a settings file, `build_unet` turns settings into
a `keras.Model`. Importing the package stays cheap: Keras loads when a network is built.
"""

from helpers.settings import load_settings

__version__ = "0.1.0"
__all__ = ["build_unet", "load_settings"]


def __getattr__(name: str):
    """Load `build_unet`, and Keras with it, when it is first asked for."""
    if name == "build_unet":
        from helpers.network.unet import build_unet

        return build_unet
    raise AttributeError(f"module 'helpers' has no attribute {name!r}")
