"""Packs data sets into one small file that travels to a machine with a GPU.

    python tools/gpu/pack.py OUT.zip --bowl stage1_train.zip --sources nuinsseg.zip tnbc.zip ...

Images are stored as WebP, label images as PNG, beside a table of what is known of each: source,
modality, the range that its intensities are normalised by, the median diameter of its nuclei, and
on which side of the reference run's split it stands. Images of larger nuclei than `LARGEST_PX` are
reduced to it.
"""

import argparse
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from skimage.segmentation import relabel_sequential

from helpers.analysis.modality import find_modalities
from helpers.data.data_set import read_data_set
from helpers.network.geometry import rescale
from helpers.network.intensities import intensity_range

LARGEST_PX = 50.0  # median diameter of an image's nuclei
QUALITY = 88  # of WebP


def pack_set(archive: zipfile.ZipFile, location: str, source: str, first: int) -> pd.DataFrame:
    """Write one data set's images and label images; return a row an image."""
    data = read_data_set(location, faults="skip").labelled
    modalities = find_modalities(data.images)["modality"].tolist()
    with ThreadPoolExecutor() as pool:
        packed = pool.map(
            lambda place: _pack(data.images[place], data.labels[place]), range(len(data))
        )
        rows = []
        for place, (image, labels, about) in enumerate(packed):
            number = first + place
            archive.writestr(f"images/{number}.webp", image)
            archive.writestr(f"labels/{number}.png", labels)
            known = {"number": number, "id": data.ids[place], "source": source}
            rows.append(known | {"modality": modalities[place]} | about)
    return pd.DataFrame(rows)


def _pack(image, labels):
    """Return both arrays as files, and what the training needs to know of them."""
    offset, scale = intensity_range(image, "percentile", "dark_ground")
    if image.dtype == np.uint16:  # to 8 bit within a range that the percentiles lie well inside
        low, high = sorted((offset, offset + scale))
        low, high = max(low - 0.25 * (high - low), 0), high + 1.0 * (high - low)
        factor = 255 / (high - low)
        image = np.clip((image.astype(float) - low) * factor, 0, 255).astype(np.uint8)
        offset, scale = (offset - low) * factor, scale * factor
    areas = np.bincount(labels.ravel())[1:]
    diameter = float(np.median(2 * np.sqrt(areas[areas > 0] / np.pi))) if areas.any() else 20.0
    reduced = min(1.0, LARGEST_PX / diameter)
    if reduced < 1:
        shape = tuple(round(px * reduced) for px in labels.shape)
        image, labels = rescale(image, shape), rescale(labels, shape, order=0)
    labels = relabel_sequential(labels)[0].astype(np.uint16)
    about = {"height": labels.shape[0], "width": labels.shape[1], "n_nuclei": int(labels.max())}
    about |= {"diameter_px": round(diameter * reduced, 2), "reduced": round(reduced, 4)}
    about |= {"offset": offset, "scale": scale, "colour": image.ndim == 3}
    return _encode(image, "WEBP", quality=QUALITY, method=6), _encode(labels, "PNG"), about


def _encode(array, form, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def main() -> None:
    """Pack what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--bowl", required=True, help="stage1_train.zip")
    parser.add_argument("--sources", nargs="*", default=[], help="further data sets")
    parser.add_argument(
        "--split", default="results/reference/split.csv", help="of the Bowl's images"
    )
    options = parser.parse_args()
    with zipfile.ZipFile(options.out, "w") as archive:
        table = pack_set(archive, options.bowl, "bowl", 0)
        split = pd.read_csv(options.split, dtype={"id": str}).set_index("id")
        known = table["id"].isin(split.index)
        table = table[known].reset_index(drop=True)
        table["side"] = split.loc[table["id"], "split"].to_numpy()
        parts = [table]
        for location in options.sources:
            first = max(part["number"].max() for part in parts) + 1
            part = pack_set(archive, location, Path(location).stem, first)
            parts.append(part.assign(side="source"))
        table = pd.concat(parts, ignore_index=True)
        archive.writestr("table.csv", table.to_csv(index=False))
    print(table.groupby(["source", "side"]).agg({"id": "size", "n_nuclei": "sum"}))
    print(f"{options.out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
