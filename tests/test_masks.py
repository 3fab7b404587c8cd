"""Masks in files."""

import numpy as np
import pytest
from PIL import Image

from helpers.evaluation.masks import mask_folder, read_mask


def test_a_failing_prediction_leaves_the_old_masks(tmp_path):
    folder = tmp_path / "masks"
    with mask_folder(folder) as write_mask:
        write_mask("old", np.ones((2, 3), bool))
    with pytest.raises(RuntimeError), mask_folder(folder) as write_mask:
        write_mask("new", np.ones((2, 3), bool))
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old.png"]
    with mask_folder(folder) as write_mask:
        write_mask("new", np.zeros((2, 3), bool))
    assert [path.name for path in tmp_path.rglob("*.png")] == ["new.png"]


def test_a_mask_has_two_values_and_its_own_size(tmp_path):
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    with mask_folder(tmp_path / "masks") as write_mask:
        write_mask("a", mask)
    stored = np.asarray(Image.open(tmp_path / "masks" / "a.png"))
    assert stored.dtype == np.uint8 and stored.shape == (5, 7)
    assert (stored == mask * 255).all()
    assert (read_mask(tmp_path / "masks" / "a.png") == mask).all()
