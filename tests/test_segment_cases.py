"""Images that other people's microscopes and programs make, with the network that comes along.

They lie outside of the repository; without them these tests are skipped.
"""

import pytest
import tifffile

from helpers import load_network
from helpers.data.reading import read_any_image
from helpers.evaluation.matching import match
from helpers.run_folder import ROOT

CASES = ROOT.parent / "shared" / "cases" / "predict"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is not here")

RIGHT = [  # file, truth
    ("03_channels/hwc2_cyto_then_dapi_no_extrasamples.tif", "base28"),
    ("06_floats/registered_nan_border.tif", "base28"),
    ("07_integers/int16_background_subtracted.tif", "base28"),
    ("08_lookup_tables/rgb_blue_only.png", "base28"),
    ("10_jpeg_orientation/he_exif_rotate90.jpg", "base28_top240"),
    ("10_jpeg_orientation/tif_orientation6_lzw.tif", "base28_top240"),
    ("11_rgb_composites/dapi_blue_actin_red.png", "base28"),
    ("11_rgb_composites/dapi_blue_cyto_green_other_red.png", "base28"),
    ("12_borders/he_black_pad_75percent.png", "pad640"),
    ("12_borders/offset500_stitched_white_pad.tif", "pad420"),
    ("12_borders/offset500_drift_corrected_zero_border.tif", "base28"),
    ("13_sparse/debris_30000_540px.tif", "base28"),
    ("13_sparse/two_bright_26_dim.tif", "base28"),
]


@pytest.fixture(scope="module")
def network():
    return load_network()


def segment(network, name, step=1):
    read = read_any_image(CASES / name, channel=2 if "hwc2" in name else None)
    return network.analyse(read.pixels[::step, ::step], valid=read.valid)


def read_truth(name):
    return tifffile.imread(CASES / "truth" / f"{name}.tif").astype(int)


@pytest.mark.parametrize(("name", "truth"), RIGHT)
def test_nearly_every_nucleus_is_found_and_the_sparse_are_warned_of(network, name, truth):
    result = segment(network, name)
    matching = match(read_truth(truth), result.labels)
    assert matching.count(0.5) >= 0.89 * matching.n_true
    assert matching.n_pred - matching.count(0.5) <= 3
    assert bool(result.warnings) == name.startswith("13_sparse")


@pytest.mark.parametrize(
    ("name", "step"), [("nuclei_250px", 2), ("ring_empty_centre_100px", 1)], ids=str
)
def test_the_scale_is_found_where_the_nuclei_are(network, name, step):
    result = segment(network, f"24_scale/{name}.tif", step)
    matching = match(read_truth(name)[::step, ::step], result.labels)
    assert matching.count(0.5) == matching.n_true == matching.n_pred
    assert result.warnings == []
