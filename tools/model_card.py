"""Write a run's model card from its files: `python tools/model_card.py reference`."""

import argparse
import re
from pathlib import Path

import jinja2
import pandas as pd

from helpers.analysis.modality import MODALITIES, display_name
from helpers.analysis.splits import LEFT_OUT, SPLIT_NAMES
from helpers.data.sets import ImageSet, find_set
from helpers.evaluation.nuclei import ERRORS, tabulate_errors
from helpers.network.saving import read_settings
from helpers.run_folder import REFERENCE, RunFolder

SCORES = {"ap_50": "AP .50", "ap_70": "AP .70", "ap_90": "AP .90", "recall_70": "recall .70"}


def render_card(run: RunFolder) -> str:
    """Return the Markdown of a run's card; every figure is read from one of its files."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"modality": display_name, "share": write_share, "urlise": write_link}
    summary = run.read_csv("nuclei_summary.csv").set_index(["modality", "score"])
    tested = [name for name in (*MODALITIES, "all") if name in summary.index]
    split = run.read_csv("split.csv", dtype={"id": str})
    return environment.get_template("model_card.md.j2").render(
        run=run.path.name,
        settings=read_settings(run.require("network.keras")),
        megabytes=run.require("network.keras").stat().st_size / 1e6,
        training=run.read_json("training.json"),
        sides=[*SPLIT_NAMES, LEFT_OUT],
        credits=credit_sources(split),
        taught=count_modalities(split[split["split"] == "train"]),
        n_parameters=run.read_csv("network.csv")["parameters"].sum(),
        nuclei={name: summary.loc[name].to_dict("index") for name in tested},
        scores=SCORES,
        errors=tabulate_errors(run.read_csv("nuclei_scores.csv")).set_index("modality"),
        error_names=ERRORS,
        sizes=run.read_csv("sizes.csv").query("way == 'found'"),
    )


def credit_sources(split: pd.DataFrame) -> pd.DataFrame:
    """Return a row a data set of a split: its title, licence, citation and images on each side.

    Splits from before sources were noted are of the Bowl's images.
    """
    sources = split["source"] if "source" in split else pd.Series("bbbc038", split.index)
    counts = pd.crosstab(sources, split["split"])
    counts = counts.reindex(columns=[*SPLIT_NAMES, LEFT_OUT], fill_value=0)
    known = [find_set(name) or ImageSet(name, "", "", "unknown", "-") for name in counts.index]
    about = pd.DataFrame(known, counts.index)[["title", "licence", "citation"]]
    return about.join(counts)


def count_modalities(split: pd.DataFrame) -> str:
    """Return "296 small fluorescent, 30 large fluorescent, ..."."""
    counts = split["modality"].value_counts()
    return ", ".join(f"{counts[m]} {display_name(m)}" for m in MODALITIES if m in counts)


def write_share(value) -> str:
    """Return ".868", or ".868 (.837 to .899)" for an entry with the ends of its interval."""
    if not isinstance(value, dict):
        return f"{value:.3f}".lstrip("0")
    text = write_share(value["estimate"])
    if pd.isna(value["low"]):
        return f"{text} (one field)"
    return f"{text} ({write_share(value['low'])} to {write_share(value['high'])})"


def write_link(citation: str) -> str:
    """Return a citation whose address can be clicked."""
    return re.sub(r"https:\S+", "<\\g<0>>", citation)


def main() -> None:
    """Write `README.md` into the run's folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("run", nargs="?", default=REFERENCE, help="a folder under results/")
    run = RunFolder(parser.parse_args().run, replace_published=True)
    text = render_card(run)
    print(run.write("README.md", lambda part: part.write_text(text, encoding="utf-8")))


if __name__ == "__main__":
    main()
