"""A folder of images to labels, masks, overlays and tables: complete, resumed, kept."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from skimage.measure import label
from skimage.segmentation import relabel_sequential
from skimage.transform import resize

from helpers.analysis.out_of_distribution import Familiarity, measure_looks
from helpers.data.reading import read_any_image
from helpers.data.sample import write_examples
from helpers.segment.folder import BYTES_A_PIXEL, SUMMARY_COLUMNS, list_images, segment_folder
from helpers.segment.outputs import OutputFolder
from helpers.segment.trained import TrainedNetwork
from helpers.settings import generate_settings


def run(predictor, images, out, *, known=(10, 60), familiarity=None, fingerprint="", **options):
    network = TrainedNetwork(
        predictor, known_px=known, familiarity=familiarity, fingerprint=fingerprint
    )
    return segment_folder(images, out, network, **options)


class Thresholder:
    """A network that calls nucleus what lies above the middle of an image's range."""

    settings = generate_settings(1)

    def __init__(self, stop_at=None):
        self.seen, self.stop_at = 0, stop_at

    def find(self, image, *, scale=1.0, least=None):
        self.seen += 1
        if self.seen == self.stop_at:
            raise KeyboardInterrupt
        gray = image.mean(axis=2) if image.ndim == 3 else image.astype(float)
        mask = gray > (gray.min() + gray.max()) / 2
        shape = [round(side * scale) for side in mask.shape]
        small = label(resize(mask, shape, order=0, anti_aliasing=False), connectivity=1)
        labels = resize(small, mask.shape, order=0, preserve_range=True).astype(np.int32)
        labels = relabel_sequential(labels)[0]
        return labels, np.ones(labels.max())


def squares(n=2, shape=(60, 90), side=18):
    """An image of n bright squares, not touching."""
    image = np.full(shape, 20, np.uint8)
    for number in range(n):
        image[4 : 4 + side, 4 + number * 24 : 4 + number * 24 + side] = 200
    return image


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "my images é"
    path.mkdir()
    for number, name in enumerate(["one.png", "two nuclei.png", "drei ü.png"], 1):
        Image.fromarray(squares(number)).save(path / name)
    return path


def read_bytes(path):
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in path.rglob("*") if f.is_file()}


# ---------------------------------------------------------------- what is written


def test_every_image_gets_labels_mask_overlay_and_rows(images, tmp_path):
    out = tmp_path / "out" / "of ß"
    summary = run(Thresholder(), images, out, pixel_size_um=0.5)
    names = ["drei ü", "one", "two nuclei"]
    assert list(summary.columns) == list(SUMMARY_COLUMNS)
    assert summary["image"].tolist() == [f"{name}.png" for name in names]
    assert summary["n_nuclei"].tolist() == [3, 1, 2]
    assert summary["median_diameter_px"].round(2).tolist() == [20.31] * 3
    assert set(summary["status"]) == {"done"} and set(summary["warning"]) == {""}
    assert summary["distance"].isna().all()
    for name, n in zip(names, (3, 1, 2), strict=True):
        labels = tifffile.imread(out / f"{name}_labels.tif")
        assert labels.dtype == np.uint16 and labels.shape == (60, 90)
        assert np.unique(labels).tolist() == list(range(n + 1))
        mask = np.asarray(Image.open(out / f"{name}_mask.png"))
        np.testing.assert_array_equal(mask, (labels > 0) * np.uint8(255))
        assert Image.open(out / f"{name}_overlay.png").size == (90, 60)
    nuclei = pd.read_csv(out / "nuclei.csv")
    assert nuclei["image"].value_counts().to_dict() == {
        "drei ü.png": 3,
        "two nuclei.png": 2,
        "one.png": 1,
    }
    assert set(nuclei["area_px"]) == {324} and set(nuclei["area_um2"]) == {81}
    assert set(nuclei["mean_intensity"]) == {200}
    kept = pd.read_csv(out / "summary.csv", keep_default_na=False)
    assert kept["n_nuclei"].tolist() == [3, 1, 2] and set(kept["warning"]) == {""}


def test_the_examples_come_in_many_formats_and_all_go_through(tmp_path):
    write_examples(tmp_path / "images")
    found = [read_any_image(file).pixels for file in list_images(tmp_path / "images")]
    assert {image.dtype.name for image in found} == {"uint8", "uint16", "float32"}
    summary = run(Thresholder(), tmp_path / "images", tmp_path / "out", known=(9, 45))
    assert set(summary["status"]) == {"done"}
    assert summary.set_index("image")["scale"]["small nuclei.png"] == 1


def test_scores_stand_in_the_table_but_for_results_of_before_there_were_any(images, tmp_path):
    run(Thresholder(), images, tmp_path)
    assert set(pd.read_csv(tmp_path / "nuclei.csv")["score"]) == {1}
    old = tmp_path / ".parts" / "one.csv"
    pd.read_csv(old).drop(columns="score").to_csv(old, index=False)
    run(Thresholder(), images, tmp_path)
    nuclei = pd.read_csv(tmp_path / "nuclei.csv").set_index("image")
    assert np.isnan(nuclei["score"]["one.png"]) and nuclei["score"].count() == 5
    with pytest.raises(ValueError, match="no score"):
        run(Thresholder(), images, tmp_path / "out", operating_point="precise")
    assert not (tmp_path / "out").exists()


def test_an_image_without_nuclei_is_done_and_warned_of(tmp_path):
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(tmp_path / "black.png")
    row = run(Thresholder(), tmp_path, tmp_path / "out", pixel_size_um=1).iloc[0]
    assert (row["status"], row["n_nuclei"]) == ("done", 0) and "nothing but noise" in row["warning"]
    assert np.isnan(row["median_diameter_px"])
    nuclei = pd.read_csv(tmp_path / "out" / "nuclei.csv")
    assert len(nuclei) == 0 and {"label", "area_px", "area_um2"} <= set(nuclei.columns)
    assert not tifffile.imread(tmp_path / "out" / "black_labels.tif").any()


def test_unfamiliar_images_are_warned_of(images, tmp_path):
    trained_on = [read_any_image(file).pixels for file in list_images(images)]
    noise = np.random.default_rng(0).integers(0, 20, (60, 90, 1))
    brown = squares()[..., None] * np.array([0.5, 0.3, 0.1]) + 100 + noise
    Image.fromarray(brown.astype(np.uint8)).save(images / "brown.png")
    familiarity = Familiarity.fit_looks(measure_looks(trained_on), [0, 1, 2])
    summary = run(Thresholder(), images, tmp_path / "out", familiarity=familiarity)
    summary = summary.set_index("image")
    assert summary["distance"]["one.png"] == 0 and summary["warning"]["one.png"] == ""
    assert summary["distance"]["brown.png"] > 1
    assert "colours unlike those of the training images" in summary["warning"]["brown.png"]


# ---------------------------------------------------------------- what goes wrong


def test_a_damaged_file_is_reported_and_the_rest_goes_on(images, tmp_path):
    (images / "cut.png").write_bytes((images / "one.png").read_bytes()[:60])
    tifffile.imwrite(
        images / "stack.tif", np.zeros((3, 40, 40), np.uint8), photometric="minisblack"
    )
    tifffile.imwrite(images / "range.tif", np.arange(400, dtype=np.float32).reshape(20, 20))
    summary = run(Thresholder(), images, tmp_path / "out").set_index("image")
    failed = summary[summary["status"] == "failed"]
    assert set(failed.index) == {"cut.png", "stack.tif", "range.tif"}
    assert "damaged" in failed["warning"]["cut.png"]
    assert "3 planes" in failed["warning"]["stack.tif"]
    assert "from 0 to 399" in failed["warning"]["range.tif"]
    assert (summary["status"] == "done").sum() == 3
    assert not list((tmp_path / "out").glob("cut*"))
    Image.fromarray(squares(4)).save(images / "cut.png")
    again = run(Thresholder(), images, tmp_path / "out").set_index("image")
    assert again["status"]["cut.png"] == "done"


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_an_interrupted_run_goes_on_with_the_rest(images, tmp_path, stop_at):
    out, network = tmp_path / "out", Thresholder()
    with pytest.raises(KeyboardInterrupt):
        run(Thresholder(stop_at), images, out)
    run(network, images, out)
    assert network.seen == 3 - (stop_at - 1)
    run(Thresholder(), images, tmp_path / "in one go")
    names = ["nuclei.csv", "one_labels.tif", "drei ü_mask.png", "two nuclei_overlay.png"]
    for name in names:
        assert (out / name).read_bytes() == (tmp_path / "in one go" / name).read_bytes()
    assert len(pd.read_csv(out / "summary.csv")) == 3
    assert not list(out.rglob("*.tmp"))


# ---------------------------------------------------------------- nothing is overwritten


def test_the_same_call_computes_nothing_anew(images, tmp_path):
    run(Thresholder(), images, images)  # results beside the images
    before = read_bytes(images)
    network = Thresholder()
    assert len(run(network, images, images)) == 3
    run(network, images, images, overwrite=True)
    assert network.seen == 0
    assert read_bytes(images) == before
    with_um = run(network, images, images, pixel_size_um=2)  # no reason to compute
    assert network.seen == 0 and len(with_um) == 3
    assert "area_um2" in pd.read_csv(images / "nuclei.csv")


@pytest.mark.parametrize(
    "name", ["one_labels.tif", "one_mask.png", "one_overlay.png", "nuclei.csv"]
)
def test_files_of_others_are_refused_before_anything_is_written(images, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"{name} was not made by this program"):
        run(Thresholder(), images, out)
    assert read_bytes(out) == {name: b"precious"}
    run(Thresholder(), images, out, overwrite=True)
    assert (out / name).read_bytes() != b"precious"


@pytest.mark.parametrize(
    ("change", "message"),
    [({"fingerprint": "another"}, "another network"), ({"diameter_px": 20}, "another diameter_px")],
)
def test_results_of_another_network_or_other_parameters_are_refused(
    images, tmp_path, change, message
):
    out = tmp_path / "out"
    run(Thresholder(), images, out)
    before = read_bytes(out)
    with pytest.raises(FileExistsError, match=message):
        run(Thresholder(), images, out, **change)
    assert read_bytes(out) == before
    network = Thresholder()
    run(network, images, out, **change, overwrite=True)
    assert network.seen >= 3


def test_an_image_that_has_changed_is_not_replaced_unasked(images, tmp_path):
    out = tmp_path / "out"
    run(Thresholder(), images, out)
    content = (images / "one.png").read_bytes()
    (images / "one.png").write_bytes(content)  # another date, the same image
    network = Thresholder()
    run(network, images, out)
    assert network.seen == 0
    Image.fromarray(squares(4)).save(images / "one.png")
    with pytest.raises(FileExistsError, match=r"made of another image than one\.png is now"):
        run(Thresholder(), images, out)
    summary = run(network, images, out, overwrite=True).set_index("image")
    assert network.seen == 1 and summary["n_nuclei"]["one.png"] == 4


def test_a_folder_may_be_done_in_parts_with_other_parameters(images, tmp_path):
    out = tmp_path / "out"
    run(Thresholder(), images, out, pattern="one*")
    summary = run(Thresholder(), images, out, pattern="two*", diameter_px=20)
    assert summary["image"].tolist() == ["one.png", "two nuclei.png"]
    assert "of earlier calls with another diameter_px, 1" in summary.attrs["notes"][0]
    assert len(pd.read_csv(out / "nuclei.csv")) == 3


def test_what_is_gone_from_the_images_is_not_in_the_tables(images, tmp_path):
    out = tmp_path / "out"
    run(Thresholder(), images, out)
    (images / "one.png").unlink()
    summary = run(Thresholder(), images, out)
    assert summary["image"].tolist() == ["drei ü.png", "two nuclei.png"]
    assert "one.png" not in set(pd.read_csv(out / "nuclei.csv")["image"])
    assert "not in the tables, as the image is gone, 1: one.png" in summary.attrs["notes"][0]


def test_files_that_are_left_out_are_counted_and_named(images, tmp_path):
    (images / "slide.svs").write_bytes(b"")
    (images / "a_mask.png").write_bytes(b"")
    (images / "lost.png").symlink_to(images / "nowhere.png")
    note = run(Thresholder(), images, tmp_path / "out").attrs["notes"][0]
    assert note.startswith("left out 3: a_mask.png (a result's name), lost.png (a broken")
    run(Thresholder(), images, images, overwrite=True)
    assert "one_mask.png" not in run(Thresholder(), images, images).attrs["notes"][0]


def test_two_calls_do_not_write_into_one_folder(images, tmp_path):
    out = tmp_path / "out"
    with OutputFolder(out, {}).locked(), pytest.raises(BlockingIOError, match="another process"):
        run(Thresholder(), images, out)
    assert len(run(Thresholder(), images, out)) == 3


def test_the_folder_of_the_results_is_checked_before_the_first_image(images, tmp_path):
    (tmp_path / "out").write_bytes(b"")
    network = Thresholder()
    with pytest.raises(FileExistsError, match="is a file; give a folder"):
        run(network, images, tmp_path / "out")
    assert network.seen == 0


def test_home_is_the_home_folder(images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run(Thresholder(), f"~/{images.name}", "~/out")
    assert (tmp_path / "out" / "summary.csv").exists()


def test_the_pixel_size_of_a_file_is_used_and_named(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", squares(), imagej=True, resolution=(2, 2), metadata={"unit": "um"}
    )
    Image.fromarray(squares()).save(tmp_path / "b.png")
    summary = run(Thresholder(), tmp_path, tmp_path / "out").set_index("image")
    assert summary["pixel_size_um"]["a.tif"] == 0.5 and np.isnan(summary["pixel_size_um"]["b.png"])
    assert summary["pixel_size_from"].tolist() == ["ImageJ", ""]
    areas = pd.read_csv(tmp_path / "out" / "nuclei.csv").groupby("image")["area_um2"].first()
    assert areas["a.tif"] == 81 and np.isnan(areas["b.png"])
    given = run(Thresholder(), tmp_path, tmp_path / "out", pixel_size_um=2)
    assert set(given["pixel_size_from"]) == {"given"}


def test_names_too_long_and_images_too_large_are_failed_rows(images, tmp_path, monkeypatch):
    Image.fromarray(squares()).save(images / f"{'x' * 245}.png")
    monkeypatch.setattr("helpers.segment.folder.free_memory", lambda: 60 * 90 * BYTES_A_PIXEL)
    Image.fromarray(squares(shape=(61, 90))).save(images / "big.png")
    summary = run(Thresholder(), images, tmp_path / "out").set_index("image")
    assert (summary["status"] == "failed").sum() == 2
    assert "has 249 bytes" in summary["warning"].iloc[-1] and "243" in summary["warning"].iloc[-1]
    assert "GB of memory" in summary["warning"]["big.png"]


@pytest.mark.parametrize(
    ("error", "said"),
    [(RuntimeError("trace\n" * 1000), "trace"), (MemoryError(), "too large for this machine")],
)
def test_a_failure_is_one_sentence(images, tmp_path, error, said):
    class Failing(Thresholder):
        def find(self, image, *, scale=1.0, least=None):
            raise error

    warnings = run(Failing(), images, tmp_path / "out")["warning"]
    assert (warnings.str.len() < 350).all() and warnings.str.contains(said).all()


@pytest.mark.parametrize("name", ["NA", "1e5", "001"])
def test_names_that_look_like_numbers_stay_names(tmp_path, name):
    Image.fromarray(squares()).save(tmp_path / f"{name}.png")
    run(Thresholder(), tmp_path, tmp_path)
    nuclei = pd.read_csv(tmp_path / "nuclei.csv", keep_default_na=False)
    assert nuclei["image"].tolist() == [f"{name}.png"] * 2
    assert pd.read_csv(tmp_path / "summary.csv")["image"].tolist() == [f"{name}.png"]


def test_overwriting_that_is_interrupted_leaves_no_old_labels_as_new(images, tmp_path, monkeypatch):
    out, replace = tmp_path / "out", type(tmp_path).replace
    run(Thresholder(), images, out, pattern="one*")

    def stop(path, target):
        if str(target).endswith("one_mask.png"):
            raise KeyboardInterrupt
        return replace(path, target)

    again = {"pattern": "one*", "fingerprint": "another", "overwrite": True}
    monkeypatch.setattr(type(tmp_path), "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        run(Thresholder(), images, out, **again)
    monkeypatch.undo()
    network = Thresholder()
    run(network, images, out, **again)
    assert network.seen == 1
