"""Nuclei segmentation with a configurable U-Net: the package behind the notebooks.

Three names are the way in: `load_network` gives a trained network, which segments images,
`load_settings` reads a settings file, `build_unet` turns settings into a `keras.Model`. Importing
the package stays cheap: Keras loads when a network is built or loaded.
"""

from helpers.startup import prepare

prepare()

from helpers.settings import load_settings  # noqa: E402   after what must be set first

__version__ = "0.1.0"
__all__ = ["build_unet", "load_network", "load_settings"]


def __getattr__(name: str):
    """Load `build_unet` or `load_network`, and Keras with it, when it is first asked for."""
    if name == "build_unet":
        from helpers.network.unet import build_unet

        return build_unet
    if name == "load_network":
        from helpers.segment.trained import load_network

        return load_network
    raise AttributeError(f"module 'helpers' has no attribute {name!r}")
