"""Writes a plan of trainings for `train.py`: `ablation` or `final`.

A run is trained on `sources` ("bowl" is the training side of the reference run's split) and tested
on the sources in `test`, of which it has seen nothing ("validation" is that side of the split).
"""

import argparse
import json
from pathlib import Path

ALL = ["bowl", "nuinsseg", "tnbc", "bsst265"]
UNSEEN = {"stained": ["nuinsseg"], "other": ["tnbc", "bsst265"]}
"""Sources left out together; each variant is trained once without either."""
PLAIN = {"scale": 1.4, "gamma": 1.0, "dyes": 0.0, "nuclei": 0.0, "paste": 0.0}
VARIANTS = {
    "plain": {},
    "all": {"scale": 2.0, "gamma": 1.5, "dyes": 0.5, "nuclei": 0.4, "paste": 0.3},
    "nuclei": {"nuclei": 0.4},
    "gamma": {"gamma": 1.5},
    "dyes": {"dyes": 0.5},
    "paste": {"paste": 0.3},
    "scale": {"scale": 2.0},
}
DECODER = "model_structure.decoder_params"
DECODERS = {"today": {f"{DECODER}.skip": "concatenate", f"{DECODER}.convolutions": 2}}


def plan_ablation(steps: int = 3000, seeds: int = 1) -> list[dict]:
    """Return one run for each variant, seed and group of sources left out."""
    runs = []
    for seed in range(1, seeds + 1):
        for name, changes in VARIANTS.items():
            overrides = {f"augmentation.{k}": v for k, v in (PLAIN | changes).items()}
            runs += leave_out(name, seed, steps, overrides)
        for name, overrides in DECODERS.items():
            runs += leave_out(f"decoder_{name}", seed, steps, overrides)
        tested = ["nuinsseg", "tnbc", "bsst265", "validation"]
        runs.append(describe(f"bowl_alone_{seed}", ["bowl"], tested, seed, steps))
    return runs


def plan_final(steps: int = 9000, seeds: int = 3) -> list[dict]:
    """Return the networks that ship and those of their tables, most wanted first."""
    runs = [describe("nuclei", ALL, ["validation"], 1, steps, keep=True)]
    for seed in range(1, seeds + 1):
        name = f"reference_{seed}"
        runs.append(describe(name, ["bowl"], ["validation"], seed, steps, keep=True))
        for source in ALL[1:]:
            others = [name for name in ALL if name != source]
            name = f"without_{source}_{seed}"
            runs.append(describe(name, others, [source], seed, steps, keep=seed == 1))
    return runs


def leave_out(name: str, seed: int, steps: int, overrides: dict) -> list[dict]:
    """Return the runs of a variant, one for each group of sources left out."""
    return [
        describe(
            f"{name}_{group}_{seed}", [s for s in ALL if s not in unseen],
            [*unseen, "validation"], seed, steps, overrides=overrides,
        )
        for group, unseen in UNSEEN.items()
    ]  # fmt: skip


def describe(name: str, sources: list[str], test: list[str], seed: int, steps: int, **more) -> dict:
    """Return one run."""
    run = {"name": name, "sources": sources, "test": test, "seed": seed, "steps": steps}
    return run | {"settings": "settings/nuclei.json"} | more


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", choices=["ablation", "final"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seeds", type=int)
    given = vars(parser.parse_args())
    plan = {"ablation": plan_ablation, "final": plan_final}[given.pop("plan")]
    out = given.pop("out")
    runs = plan(**{name: value for name, value in given.items() if value is not None})
    out.write_text(json.dumps(runs, indent=1))
    print(f"{len(runs)} runs of {sum(run['steps'] for run in runs)} steps")
