"""The model card of the network that comes along says what the run's files hold."""

import pandas as pd

from helpers.run_folder import RunFolder
from tools.model_card import credit_sources, render_card


def test_the_committed_card_is_that_of_its_files():
    run = RunFolder("reference")
    assert run.require("README.md").read_text(encoding="utf-8") == render_card(run)


def test_every_data_set_of_a_split_is_credited():
    split = pd.DataFrame({"source": ["stage1_train", "tnbc", "tnbc", "mine"], "split": "train"})
    found = credit_sources(split).set_index("licence")
    assert found["train"].to_dict() == {"CC0": 1, "CC BY 4.0": 2, "unknown": 1}
    assert (
        "Naylor" in found.loc["CC BY 4.0", "citation"] and found.loc["unknown", "title"] == "mine"
    )
    assert credit_sources(split[["split"]])["licence"].tolist() == ["CC0"]
