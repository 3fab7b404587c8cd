"""Makes a run folder of weights that `train.py` has kept.

    python tools/gpu/adopt.py out/NAME.npz plan.json RUN

RUN gets `network.keras`, `settings.json`, `history.csv` and `training.json`, as a training leaves
them; notebooks 05 and 08 score it from there.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.network.saving import save_network
from helpers.network.unet import build_unet
from helpers.run_folder import RunFolder
from helpers.settings import load_settings, write_settings


def adopt(weights: Path, plan: Path, run: RunFolder, device: str) -> None:
    """Write the files of a run."""
    about = next(each for each in json.loads(plan.read_text()) if each["name"] == weights.stem)
    settings = load_settings(about["settings"]).with_overrides(about.get("overrides", {}))
    loss = json.loads(weights.with_suffix(".json").read_text())["loss"]
    batch, steps = about.get("batch", 32), about["steps"]
    settings = settings.with_training(
        seed=about["seed"],
        batch_size=batch,
        epoch_num=len(loss),
        steps_per_epoch=steps // len(loss),
    )
    network = build_unet(settings)
    with np.load(weights) as kept:
        network.set_weights([kept[f"arr_{place}"] for place in range(len(kept.files))])
    run.write("network.keras", lambda part: save_network(network, part, settings))
    write_settings(settings, run.file("settings.json"))
    run.write_csv("history.csv", pd.DataFrame({"epoch": range(1, len(loss) + 1), "loss": loss}))
    run.write_json("training.json", {"device": device, "epochs": len(loss)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("plan", type=Path)
    parser.add_argument("run")
    parser.add_argument("--device", default="GPU · Keras on jax · mixed_bfloat16")
    parser.add_argument("--replace-published", action="store_true")
    given = parser.parse_args()
    folder = RunFolder(given.run, replace_published=given.replace_published)
    folder.refuse_published()
    adopt(given.weights, given.plan, folder, given.device)
