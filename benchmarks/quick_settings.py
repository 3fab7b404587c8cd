"""How `settings/quick.json` was chosen: `python benchmarks/quick_settings.py --output FILE`.

The candidates are compared on samples drawn from other seeds than the embedded one, by the IoU on
their validation images. The images that notebook 05 tests on take no part in the choice.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import pandas as pd

from helpers.analysis.fields import find_groups
from helpers.analysis.modality import find_modalities
from helpers.analysis.splits import split_by_group
from helpers.data.data_set import read_data_set
from helpers.data.sample import write_sample
from helpers.run_folder import RunFolder
from helpers.settings import load_settings
from helpers.training.devices import choose_device
from helpers.training.loop import train

SAMPLE_SEEDS = (1, 2)
EPOCHS = 8
"""So that notebook 04 stays near a minute on two cores."""

VALIDATION_RATIO = 0.3
LEARNING_RATES = (0.001, 0.003, 0.01)
LOSSES = ("binary_crossentropy", "binary_crossentropy_dice")


def draw_sides(folder: Path, seed: int) -> list[tuple]:
    """Return (images, labels) for training and for validation, of a sample drawn from `seed`."""
    write_sample(folder / "sample", seed)
    data = read_data_set(folder / "sample", cache_dir=folder / "cache")
    sides = split_by_group(
        find_groups(data.images),
        test_ratio=VALIDATION_RATIO,
        validation_ratio=0,
        seed=seed,
        strata=find_modalities(data.images)["modality"],
    )
    parts = [data.select(sides == side) for side in ("train", "test")]
    return [(part.images, part.labels) for part in parts]


def main() -> None:
    """Train every candidate on every sample and write the validation IoU of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="a JSON file")
    output = parser.parse_args().output
    quick = load_settings("settings/quick.json")
    device = choose_device(quick)
    rows = []
    for seed in SAMPLE_SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            train_set, validation_set = draw_sides(Path(folder), seed)
            for rate, loss in itertools.product(LEARNING_RATES, LOSSES):
                candidate = {"learning_rate": rate, "loss": loss}
                settings = quick.with_training(epoch_num=EPOCHS, seed=seed, **candidate)
                run = RunFolder(Path(folder) / f"{rate}_{loss}")
                history = train(run, settings, train_set, validation_set, device=device)
                rows.append(candidate | {"sample_seed": seed, "iou": history["val_iou"].iloc[-1]})
    table = pd.DataFrame(rows).pivot_table(
        index=["learning_rate", "loss"], columns="sample_seed", values="iou"
    )
    table["mean"] = table.mean(axis=1)
    table = table.round(3).sort_values("mean", ascending=False)
    print(table)
    if output:
        result = {
            "what": f"IoU on validation images of samples drawn from other seeds, {EPOCHS} epochs",
            "device": str(device),
            "candidates": json.loads(table.reset_index().to_json(orient="records")),
        }
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
