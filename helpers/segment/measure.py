"""Every nucleus of a label image as a row of numbers: place, size, shape and brightness."""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.measure import regionprops_table

COLUMNS = {
    "image": "str", "label": "int64", "area_px": "int64",
    "centroid_row_px": "float64", "centroid_column_px": "float64",
    "major_axis_px": "float64", "minor_axis_px": "float64", "eccentricity": "float64",
    "mean_intensity": "float64", "score": "float64",
}  # fmt: skip
PROPERTIES = {
    "area": "area_px", "centroid-0": "centroid_row_px", "centroid-1": "centroid_column_px",
    "axis_major_length": "major_axis_px", "axis_minor_length": "minor_axis_px",
    "intensity_mean": "mean_intensity",
}  # fmt: skip
"""What `skimage.measure.regionprops_table` calls those columns that have another name here."""
LENGTHS = ("centroid_row", "centroid_column", "major_axis", "minor_axis")


def measure_nuclei(
    image: NDArray,
    labels: NDArray[np.integer],
    pixel_size_um: float | None = None,
    name: str = "",
    scores: NDArray[np.floating] | None = None,
) -> pd.DataFrame:
    """Return a table of the nuclei, one row a label: `COLUMNS`, with or without nuclei.

    Centroids count from the centre of the first pixel; axes and eccentricity (0 a circle, to 1 a
    line) are those of the ellipse with the same second moments; intensity is in the numbers that
    the file holds, of colours the mean. With a pixel size also `area_um2`, `centroid_row_um` etc.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float
    labels : (H, W) integer array
        0 is background; of another shape it raises ValueError.
    scores : (N,) array of float, optional
        How likely the nuclei 1 to N are right; the column is NaN without.

    Examples
    --------
    >>> table = measure_nuclei(np.array([[0, 8, 4]], np.uint8), np.array([[0, 1, 1]]))
    >>> table[["label", "area_px", "centroid_column_px", "mean_intensity"]].to_numpy().tolist()
    [[1.0, 2.0, 1.5, 6.0]]
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"`labels` has shape {labels.shape}, the image {image.shape}; give labels of the "
            "image's height and width"
        )
    gray = image.mean(axis=2, dtype=np.float32) if image.ndim == 3 else image
    names = {"label", "eccentricity"} | {name.partition("-")[0] for name in PROPERTIES}
    table = pd.DataFrame(regionprops_table(labels, gray, properties=sorted(names)))
    table = table.rename(columns=PROPERTIES)
    table = table.assign(image=name, score=np.nan if scores is None else scores[table["label"] - 1])
    return add_micrometres(table[list(COLUMNS)].astype(COLUMNS), pixel_size_um)


def add_micrometres(
    table: pd.DataFrame, pixel_size_um: float | pd.Series | None = None
) -> pd.DataFrame:
    """Return a table of `measure_nuclei` with its lengths and areas also in micrometres.

    A series has a pixel size for every row, NaN where it is not known; None adds nothing.
    """
    if pixel_size_um is None:
        return table
    if not isinstance(pixel_size_um, pd.Series):
        check_positive("pixel_size_um", pixel_size_um, "0.5 for pixels of half a micrometre")
    lengths = {f"{name}_um": table[f"{name}_px"] * pixel_size_um for name in LENGTHS}
    return table.assign(area_um2=table["area_px"] * pixel_size_um**2, **lengths)


def check_positive(name: str, value: float | None, example: str) -> None:
    """Raise ValueError unless `value` is None or a finite number above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"`{name}` (={value}) must be above 0, for example {example}; or leave it out"
        )


def median_diameter(areas: NDArray | pd.Series) -> float:
    """Return the median diameter, px, of discs of these areas; NaN where there are none."""
    return float(np.sqrt(4 / np.pi * np.median(areas))) if len(areas) else math.nan
