"""JupyterLab as `nuclei lab` starts it: a page that was only opened stays as it was committed."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def clean_metadata(model, **_):
    """Before a notebook is saved, leave out what differs from one Python to the next."""
    if model["type"] == "notebook":
        metadata = model["content"]["metadata"]
        if metadata.get("kernelspec", {}).get("name") == METADATA["kernelspec"]["name"]:
            metadata.update(METADATA)


c.FileContentsManager.pre_save_hook = clean_metadata  # noqa: F821 (Jupyter provides it)
