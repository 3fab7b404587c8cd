"""What the program that wrote a TIFF noted in it: names of channels and the size of a pixel."""

from xml.etree import ElementTree

import numpy as np

MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "inch": 25_400.0, "µm": 1.0, "nm": 1e-3}
SANE_UM = (0.005, 20.0)  # sides of a pixel that a microscope makes; 96 dpi lies above
_COLOURS = {(1, 0, 0): "red", (0, 1, 0): "green", (0, 0, 1): "blue", (0, 1, 1): "cyan"}
_COLOURS |= {(1, 0, 1): "magenta", (1, 1, 0): "yellow", (1, 1, 1): "gray"}


def name_channels(tiff, series, n: int) -> list[str]:
    """Return a name for each channel, as the file has it, "" where it has none."""
    names = []
    if tiff.is_ome:
        pixels = _find_ome_pixels(tiff, series)
        tags = pixels.iter() if pixels is not None else ()
        names = [tag.get("Name", "") for tag in tags if tag.tag.endswith("}Channel")]
    elif tiff.is_imagej:
        tables = tiff.imagej_metadata.get("LUTs") or []
        ends = [tuple(int(v > 127) for v in np.asarray(table)[:, -1]) for table in tables]
        names = [_COLOURS.get(end, "") for end in ends]
    return names if len(names) == n else [""] * n


def _find_ome_pixels(tiff, series):
    """Return the element that describes a series, or None."""
    root = ElementTree.fromstring(tiff.ome_metadata)
    found = [element for element in root.iter() if element.tag.endswith("}Pixels")]
    index = list(tiff.series).index(series)
    return found[index] if index < len(found) else None


def find_pixel_size(tiff, series) -> tuple[float | None, str]:
    """Return the side of a pixel in micrometres and where the file says it, or None and ""."""
    sides, source = _read_sides(tiff, series)
    low, high = SANE_UM
    are_sane = len(sides) == 2 and all(low <= side <= high for side in sides)
    if not are_sane or max(sides) > 1.05 * min(sides):
        return None, ""
    return round(sum(sides) / 2, 6), source


def _read_sides(tiff, series) -> tuple[list[float], str]:
    if tiff.is_ome and (pixels := _find_ome_pixels(tiff, series)) is not None:
        sides = []
        for axis in "XY":
            unit = _name_unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
            size = pixels.get(f"PhysicalSize{axis}")
            sides += [float(size) * MICROMETRES[unit]] if size and unit in MICROMETRES else []
        return sides, "OME"
    if tiff.is_stk:
        about = tiff.stk_metadata
        unit = _name_unit(str(about.get("CalibrationUnits", "")))
        factor = MICROMETRES.get(unit, 0)
        return [factor * float(about.get(f"{axis}Calibration", 0)) for axis in "XY"], "MetaMorph"
    tags = series.keyframe.tags
    units = {2: "inch", 3: "cm"}
    unit, source = units.get(int(tags.valueof("ResolutionUnit", 2)), ""), "resolution tag"
    if tiff.is_imagej and (said := tiff.imagej_metadata.get("unit")):
        unit, source = _name_unit(str(said)), "ImageJ"
    sides = []
    for name in ("XResolution", "YResolution"):
        n, per = tags.valueof(name, (0, 1))
        sides += [MICROMETRES[unit] * per / n] if n and per and unit in MICROMETRES else []
    return sides, source


def _name_unit(text: str) -> str:
    """Return the key of `MICROMETRES` for a unit's name, or the name."""
    text = text.strip().lower().replace("\\u00b5", "µ").replace("μ", "µ")
    is_micro = text in ("um", "micron", "microns", "micrometer", "micrometre", "micrometers")
    return "µm" if is_micro else text
