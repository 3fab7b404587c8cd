"""Several data sets at once, the layouts in which they are published, and what belongs together."""

import numpy as np
import pandas as pd
import pytest

from conftest import box, files_of, png, some_image, tiff
from helpers.analysis.fields import find_groups
from helpers.analysis.splits import keep_back, split_by_group
from helpers.data.sets import SETS
from helpers.parameters import ParameterError, check_values
from helpers.run_folder import name_locations
from helpers.session import start_session

TWO = box(2, 2, 5, 5, value=7) + box(12, 12, 5, 5, value=9)
MASK = (TWO > 0) * np.uint8(255)


def plain(*names):
    """Files of images with one label image each."""
    images = {f"images/{name}.png": png(some_image(n)) for n, name in enumerate(names)}
    return images | {f"labels/{name}.png": png(TWO) for name in names}


PUBLISHED = {
    "nuinsseg": {
        f"{folder}/{file}": content
        for organ in ("human bladder", "mouse fat")
        for folder, number in ((organ, 1), (organ, 2))
        for name in [f"{organ.replace(' ', '_')}_0{number}"]
        for file, content in {
            f"tissue images/{name}.png": png(some_image(len(name) + number)),
            f"label masks/{name}.tif": tiff(TWO),
            f"label masks modify/{name}.tif": tiff(box(0, 0, 9, 9)),
            f"mask binary/{name}.png": png(MASK),
            f"Imagj_zips/{name}.zip": b"",
        }.items()
    },
    "tnbc": {
        f"TNBC_and_Brain_dataset/{kind}_0{slide}/0{slide}_{number}.png": png(content)
        for slide, number in ((1, 1), (1, 2), (2, 1))
        for kind, content in (("Slide", some_image(slide + 5 * number)), ("GT", MASK))
    },
    "bsst265": {
        name: content
        for number in (0, 1)
        for name, content in {
            f"rawimages/Neuroblastoma_{number}.tif": tiff(some_image(number)),
            f"groundtruth/Neuroblastoma_{number}.tif": tiff(TWO),
            f"visualized_groundtruth/Neuroblastoma_{number}.png": png(TWO),
            "image_description.csv": b"Image_Name;Diagnosis\n",
        }.items()
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("packed", [False, True])
def test_sets_are_read_as_their_authors_publish_them(read, write_set, name, packed):
    data = read(write_set(PUBLISHED[name], "downloaded", packed=packed))
    assert (data.table["n_nuclei"] == 2).all()
    assert data.faults.empty, "what is not needed is no fault"
    groups = data.table.set_index("id")["known_group"].str.removeprefix("downloaded/").to_dict()
    assert (
        groups
        == {
            "nuinsseg": {f"{o}_0{n}": o for o in ("human_bladder", "mouse_fat") for n in (1, 2)},
            "tnbc": {"01_1": "01", "01_2": "01", "02_1": "02"},
            "bsst265": {"Neuroblastoma_0": "", "Neuroblastoma_1": ""},
        }[name]
    )


def test_a_file_of_groups_counts_in_a_published_layout_too(read, write_set):
    more = {"TNBC_and_Brain_dataset/groups.csv": b"id,group\n01_1,x\n02_1,x\n"}
    data = read(write_set(PUBLISHED["tnbc"] | more, "mine"))
    assert data.table["known_group"].tolist() == ["mine/x", "", "mine/x"]


def test_a_published_set_in_the_plain_layout_is_known_by_its_name(read, write_set):
    data = read(write_set(plain("01_1", "01_2", "02_1"), "tnbc", packed=True))
    assert data.table["n_nuclei"].tolist() == [2, 2, 2]
    assert data.table["known_group"].tolist() == ["tnbc/01", "tnbc/01", "tnbc/02"]


def test_a_file_says_what_belongs_together(read, write_set):
    inside = {"groups.csv": b"\xef\xbb\xbfid,group\na.png,p1\nb,p2\nc,p1\n"}
    path = write_set(plain("a", "b", "c", "d") | inside, "mine")
    data = read(path)
    assert data.table["known_group"].tolist() == ["mine/p1", "mine/p2", "mine/p1", ""]
    assert data.faults.empty
    joined = find_groups(data.images, data.table["known_group"])
    assert joined[0] == joined[2] and find_groups(data.images)[0] != find_groups(data.images)[2]
    (path / "groups.csv").unlink()
    beside = path.with_name("groups.csv")
    beside.write_text("source,image,group\nother,a,p3\nmine,d,p4\n")
    assert read(path).table["known_group"].tolist() == ["", "", "", "mine/p4"]
    beside.write_text("id,group\na,p5\n")
    assert read(path).table["known_group"].tolist() == [""] * 4, "it may be about anything"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,patient\na,1\n", r"has the columns name, patient, but must have `id` and `group`"),
        ("id,group\nx,1\n", r"rows for x, but none for an image, such as 'a'"),
    ],
)
def test_a_file_of_groups_that_cannot_be_meant_is_refused(read, write_set, text, message):
    with pytest.raises(ValueError, match=message):
        read(write_set(plain("a", "b") | {"groups.csv": text.encode()}))
    with pytest.raises(ValueError, match="`known` has 1 entries for 2 images"):
        find_groups([some_image(), some_image(1)], ["a"])


def test_several_sets_are_one_and_each_image_knows_its_source(read, write_set):
    first = write_set(plain("a", "b"), "first", packed=True)
    masks = [box(2, 2, 5, 5), box(12, 12, 5, 5), box(0, 0, 0, 0)]  # the last one is empty
    second = write_set(files_of("a", some_image(8), masks), "second")
    data = read(f"{first}, {second}")
    assert data.ids == ["first-a", "first-b", "second-a"]
    assert data.table["source"].tolist() == ["first", "first", "second"]
    for place, image in enumerate((some_image(0), some_image(1), some_image(8))):
        assert np.array_equal(data.images[place], image)
    assert [labels.max() for labels in data.select([2, 0]).labels] == [2, 2]
    assert data.faults["id"].tolist() == ["second-a"]
    alone = read(first)
    assert alone.ids == ["a", "b"] and len({alone.key, read(second).key, data.key}) == 3


def test_locations_that_cannot_be_told_apart_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds two of the name 'x'; rename one"):
        name_locations("a/x.zip,b/x")
    with pytest.raises(ValueError, match="must name data sets, but holds none"):
        name_locations(" , ")
    (tmp_path / "one,two").mkdir()
    assert list(name_locations(tmp_path / "one,two")) == ["one,two"], "a comma may be in a name"


def test_a_source_that_is_left_out_is_tested_and_leaks_nothing():
    sources = np.repeat(["a", "b", "c"], [20, 10, 10])
    groups = np.arange(40)
    groups[0] = groups[25]  # a copy of an image of b
    settled = keep_back(groups, list(map(str, groups)), tested=sources == "b")
    split = split_by_group(
        groups, test_ratio=0, validation_ratio=0.1, seed=0, sources=sources, settled=settled
    )
    assert ((split == "test") == (sources == "b")).all()
    assert split[0] == "left out"
    counts = pd.crosstab(sources, split)
    assert counts.loc["a", "validation"] == 2 and counts.loc["c", "validation"] == 1


def test_a_source_that_is_not_there_is_refused_with_the_nearest(write_set):
    data = ",".join(str(write_set(plain("a"), name)) for name in ("tnbc", "nuinsseg"))
    values = {"settings": "settings/quick.json", "data": data}
    check_values(values | {"test_sources": "tnbc"})
    with pytest.raises(ParameterError, match=r"no 'tnbcs'; did you mean 'tnbc'"):
        check_values(values | {"test_sources": "tnbcs"})
    with pytest.raises(ParameterError, match="nothing is left to train on"):
        check_values(values | {"test_sources": "tnbc, nuinsseg"})
    with pytest.raises(ParameterError, match="there is nothing at nowhere"):
        check_values(values | {"data": "sample,nowhere"})


def test_each_published_set_has_a_licence_and_a_citation():
    assert {"bbbc038", "stardist", "nuinsseg", "tnbc", "bsst265"} <= set(SETS)
    for each in SETS.values():
        assert each.licence in ("CC0", "CC BY 4.0") and "https://doi.org/" in each.citation


@pytest.mark.parametrize(
    "name", ["tnbc", "bsst265", pytest.param("nuinsseg", marks=pytest.mark.slow)]
)
def test_the_real_sets_are_read_without_faults(shared_sources, name):
    session = start_session("settings/quick.json", str(shared_sources / f"{name}.zip"))
    data = session.read_data()
    n_images, n_nuclei = {"nuinsseg": (664, 30664), "tnbc": (50, 4027), "bsst265": (79, 7762)}[name]
    assert (len(data), data.table["n_nuclei"].sum(), len(data.faults)) == (n_images, n_nuclei, 0)
    table = pd.read_csv(shared_sources / "groups.csv", dtype=str)
    table = table[table["source"] == name].set_index("image")["group"]
    assert data.table["known_group"].tolist() == [f"{name}/{table[each]}" for each in data.ids]
