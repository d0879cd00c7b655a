"""Every notebook runs from top to bottom, and is stored without what it showed."""

import json
from pathlib import Path

import pytest

from docs.notebooks import NOTEBOOKS, execute, notebooks, pictures, render


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_a_picture(path: Path) -> None:
    shown = execute(path)
    drawn = pictures(shown)
    assert drawn
    assert all(svg.startswith("<svg") for svg in drawn)
    page = render(shown, path.stem)
    assert "Traceback" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_explains_itself(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []
    assert "".join(cells[0]["source"]).startswith("# ")
    assert len(cells) - len(code) >= len(code) - 1, "text before each piece of code"
    assert max(len("".join(cell["source"]).splitlines()) for cell in code) <= 12, (
        "a notebook asks; what computes is in twin/"
    )


def test_the_readme_names_every_notebook() -> None:
    text = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in notebooks() if f"`{path.name}`" not in text] == []
