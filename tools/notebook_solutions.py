"""Run the folded solutions of a notebook's exercises, in its kernel, after its last cell."""

import re

import nbformat


def read_solutions(notebook) -> list[str]:
    """Return the Python of every folded solution of a notebook, in order."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    folded = re.findall(r"<details>.*?</details>", text, re.DOTALL)
    return [code for part in folded for code in re.findall(r"```python\n(.*?)```", part, re.DOTALL)]


def pytest_collection_modifyitems(items):
    """Append the solutions of each notebook that nbval has collected."""
    last = {item.parent: place for place, item in enumerate(items) if hasattr(item, "cell_num")}
    for page, place in reversed(last.items()):
        cells = [
            type(items[place]).from_parent(
                page,
                name=f"Solution {number}",
                cell_num=items[place].cell_num + number,
                cell=nbformat.v4.new_code_cell(code, execution_count=1000 + number),
                options=items[place].options | {"check": False},  # keeps the defaults of nbval
            )
            for number, code in enumerate(read_solutions(page.nb), 1)
        ]
        items[place + 1 : place + 1] = cells
