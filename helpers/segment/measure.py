"""Every nucleus of a label image as a row of numbers: place, size, shape and brightness."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = {
    "image": "str",
    "label": "int64",
    "area_px": "int64",
    "centroid_row_px": "float64",
    "centroid_column_px": "float64",
    "major_axis_px": "float64",
    "minor_axis_px": "float64",
    "eccentricity": "float64",
    "mean_intensity": "float64",
}
LENGTHS = ("centroid_row", "centroid_column", "major_axis", "minor_axis")
BAND_PX = 512  # rows at a time, so that a large image needs little memory beside itself


def measure_nuclei(
    image: NDArray, labels: NDArray[np.integer], pixel_size_um: float | None = None, name: str = ""
) -> pd.DataFrame:
    """Return a table of the nuclei, one row a label.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) array of uint8, uint16 or float
    labels : (H, W) integer array
        0 is background. A label may lack; its row lacks too.
    pixel_size_um : float, optional
        Side of a pixel in micrometres.
    name : str
        For the column `image`.

    Returns
    -------
    DataFrame
        `image`, `label`, `area_px`; `centroid_row_px` and `centroid_column_px` from the centre of
        the first pixel; `major_axis_px` and `minor_axis_px` of the ellipse with the same second
        moments and `eccentricity` (0 a circle, to 1 a line), as
        `skimage.measure.regionprops` has them; `mean_intensity` in the numbers that the file
        holds, the mean of the channels in a coloured image. With a pixel size also `area_um2`,
        `centroid_row_um` and so on. Without nuclei the same columns and types, and no rows.

    Raises
    ------
    ValueError
        If `labels` has another height or width than `image`, or the pixel size is not above 0.

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
    sums = _sum_up(image, labels)
    numbers = np.flatnonzero(sums[0])
    area, row, column, row_row, column_column, row_column, light = sums[:, numbers]
    row, column = row / area, column / area
    major, minor, eccentricity = _fit_ellipses(
        row_row / area - row**2, column_column / area - column**2, row_column / area - row * column
    )
    values = (name, numbers, area, row, column, major, minor, eccentricity, light / area)
    table = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), index=range(len(numbers)))
    return add_micrometres(table.astype(COLUMNS), pixel_size_um)


def add_micrometres(table: pd.DataFrame, pixel_size_um: float | None) -> pd.DataFrame:
    """Return a table of `measure_nuclei` with its lengths and areas also in micrometres.

    None adds nothing.

    Raises
    ------
    ValueError
        If the pixel size is not above 0.
    """
    check_positive("pixel_size_um", pixel_size_um, "0.5 for pixels of half a micrometre")
    if pixel_size_um is None:
        return table
    lengths = {f"{name}_um": table[f"{name}_px"] * pixel_size_um for name in LENGTHS}
    return table.assign(area_um2=table["area_px"] * pixel_size_um**2, **lengths)


def check_positive(name: str, value: float | None, example: str) -> None:
    """Raise ValueError unless `value` is None or a finite number above 0."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"`{name}` (={value}) must be above 0, for example {example}; or leave it out"
        )


def median_diameter(areas: NDArray | pd.Series) -> float:
    """Return the median diameter in pixels of nuclei of these areas; NaN where there are none.

    The diameter of a nucleus is that of a disc of its area.

    Examples
    --------
    >>> median_diameter(np.array([78, 79, 5000])).__round__()
    10
    """
    return float(np.sqrt(4 / np.pi * np.median(areas))) if len(areas) else math.nan


def _sum_up(image: NDArray, labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return (7, N + 1) sums over the pixels of each label: 1, r, c, r², c², rc and intensity.

    Added up by bands of rows, and exact: whole numbers below 2 ** 53 are so in float64.
    """
    sums = np.zeros((7, int(labels.max(initial=0)) + 1))
    for numbers, row, column, light in _foreground(image, labels):
        terms = (None, row, column, row**2, column**2, row * column, light)
        for total, term in zip(sums, terms, strict=True):
            counted = np.bincount(numbers, term)
            total[: len(counted)] += counted
    return sums


def _foreground(image: NDArray, labels: NDArray) -> Iterator[tuple[NDArray, ...]]:
    """Yield, band by band, the label, row, column and intensity of every pixel of a nucleus."""
    for top in range(0, len(labels), BAND_PX):
        band, light = labels[top : top + BAND_PX], image[top : top + BAND_PX]
        row, column = np.nonzero(band)
        inside = light[row, column].astype(float)
        inside = inside.mean(axis=1) if inside.ndim == 2 else inside
        yield band[row, column], (row + top).astype(float), column.astype(float), inside


def _fit_ellipses(row_row: NDArray, column_column: NDArray, row_column: NDArray):
    """Return major axis, minor axis and eccentricity from the second central moments of areas."""
    mean, half = (row_row + column_column) / 2, (row_row - column_column) / 2
    spread = np.hypot(half, row_column)
    large, small = np.maximum(mean + spread, 0), np.maximum(mean - spread, 0)
    ratio = np.divide(small, large, out=np.ones_like(large), where=large > 0)
    return 4 * np.sqrt(large), 4 * np.sqrt(small), np.sqrt(1 - ratio)
