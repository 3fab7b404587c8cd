import numpy as np
import pandas as pd
import pytest

from helpers.analysis import audit
from helpers.analysis.modality import guess_nuclei

ROUND = np.hypot(*(np.indices((96, 96)) % 32 - 16)) < 8
LABELS = np.repeat(np.repeat(np.arange(9).reshape(3, 3) + 1, 32, 0), 32, 1) * ROUND
GLOWING = np.where(ROUND, 120, 10).astype(np.uint8)
STAINED = np.where(ROUND[..., None], (90, 40, 130), (210, 170, 220)).astype(np.uint8)


def test_the_guess_is_the_rarer_side_whatever_the_polarity_and_depth():
    for image in (GLOWING, 255 - GLOWING, STAINED, GLOWING.astype(np.uint16) * 200):
        np.testing.assert_array_equal(guess_nuclei(image), ROUND)
    assert not guess_nuclei(np.full((9, 9), 7, np.uint8)).any()


def test_the_audit_counts_and_measures_by_modality():
    table = audit.audit_images([GLOWING, GLOWING, STAINED], [LABELS, None, LABELS])
    assert table.index.tolist() == ["small_fluorescent", "purple_tissue"]
    assert table["images"].tolist() == [2, 1] and table["fields"].tolist() == [1, 1]
    assert table["nuclei"].tolist() == [9, 9]
    diameter = np.sqrt(4 / np.pi * np.bincount(LABELS.ravel())[1:])
    assert table["median_px"].tolist() == pytest.approx([np.median(diameter)] * 2)
    nuclei, ground = STAINED[ROUND].mean(), STAINED[~ROUND].mean()
    contrasts = [110 / 130, (nuclei - ground) / (nuclei + ground)]
    assert table["contrast"].tolist() == pytest.approx(contrasts)
    assert table["contrast_guess"].tolist() == pytest.approx(contrasts)
    assert np.isnan(table["hue"].iloc[0]) and 240 < table["hue"].iloc[1] < 300


def test_without_masks_the_audit_says_what_it_cannot_know():
    table = audit.audit_images([GLOWING, STAINED])
    assert table[["nuclei", "median_px", "contrast"]].isna().all(axis=None)
    assert table["contrast_guess"].notna().all()
    assert any("darker part in 1 of 2 images" in line for line in audit.list_warnings(table))
    assert audit.list_warnings(audit.audit_images([])) == []


def test_hues_on_both_sides_of_red_do_not_average_to_cyan():
    reds = [np.full((8, 8, 3), colour, np.uint8) for colour in ((200, 100, 110), (200, 110, 100))]
    hue = audit.audit_images(reds, modalities=["purple_tissue"] * 2, groups=[0, 1])["hue"].iloc[0]
    assert min(hue, 360 - hue) < 1


def test_what_is_unequal_is_said_with_its_numbers():
    table = pd.DataFrame(
        {
            "images": [451, 4],
            "fields": [190, 1],
            "median_px": [15.0, 60.0],
            "contrast": [0.8, -0.1],
        },
        index=["small_fluorescent", "pink_purple_tissue"],
    ).assign(contrast_guess=np.nan)
    rare, single, polarity, size = audit.list_warnings(table)
    assert "4 of 455 images" in rare and "113 of small fluorescent" in rare
    assert "one field of view" in single and "darker part in 4 of 455" in polarity
    assert "4.0 times" in size
    assert audit.list_warnings(table.iloc[:1]) == []


def test_a_modality_that_brightness_does_not_show_is_predicted_to_fail():
    debris = np.indices(ROUND.shape)[1] < 20
    hidden = np.where(debris, 250, GLOWING // 4).astype(np.uint8)
    modalities = ["small_fluorescent", "small_fluorescent", "grayscale_tissue", "grayscale_tissue"]
    images = [GLOWING, GLOWING, hidden, hidden]
    table = audit.predict_failures(images, [LABELS] * 4, modalities, [0, 0, 1, 2])
    assert table.index.tolist() == ["small_fluorescent", "grayscale_tissue"]
    assert table["fails"].tolist() == [False, True]
    assert table["threshold_iou"].iloc[0] == 1 and table["risk"].iloc[0] == 0
    assert table["rank"].tolist() == [2, 1] and table["rarity_rank"].tolist() == [1, 2]
