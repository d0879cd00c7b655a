"""Runs the notebooks and writes what they show to docs/gallery: ``python -m docs.notebooks [NAME ...]``."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from traitlets.config import Config

from twin.report.sheet import sheet

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
GALLERY = ROOT / "docs" / "gallery"
CELL_S_MAX = 300
"""A notebook that computes longer than this in one cell is not one to read."""

_STYLE = """<style>
.cell { margin: 14px 0; } .jp-InputArea-prompt, .jp-OutputPrompt, .anchor-link { display: none; }
.highlight pre { background: #f6f8fa; border-radius: 8px; padding: 10px 14px; overflow-x: auto; }
.highlight span { padding: 0; margin: 0; font: inherit; }
svg { max-width: 100%; height: auto; } p, li { max-width: 80ch; }
</style>"""


def notebooks() -> tuple[Path, ...]:
    """All notebooks in order of their numbers."""
    return tuple(sorted(NOTEBOOKS.glob("*.ipynb")))


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from top to bottom, in a kernel of its own that starts in the notebooks' folder.

    Raises: nbclient.exceptions.CellExecutionError if a cell fails; nbclient.exceptions.CellTimeoutError.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is typed only in part
    with TemporaryDirectory() as sockets:  # a kernel that no port of this machine leads to
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})
        where = {"metadata": {"path": str(NOTEBOOKS)}}
        client = NotebookClient(notebook, config=config, kernel_name="python3", timeout=CELL_S_MAX, resources=where)
        return client.execute()


def pictures(notebook: nbformat.NotebookNode) -> list[str]:
    """The pictures that a notebook that was run shows, as SVG, in order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [str(output["data"]["image/svg+xml"]) for output in outputs if "image/svg+xml" in output.get("data", {})]


def render(notebook: nbformat.NotebookNode, title: str) -> str:
    """Lay out a notebook that was run as one page that loads nothing from anywhere."""
    exporter = HTMLExporter(template_name="basic")  # type: ignore[no-untyped-call]  # nbconvert is typed only in part
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    body, _ = exporter.from_notebook_node(notebook)
    return sheet(title, _STYLE + body)


def main(names: list[str]) -> int:
    """Run the notebooks named (all of them without a name), write their pages and pictures, and say how it went."""
    GALLERY.mkdir(exist_ok=True)
    wanted = [path for path in notebooks() if not names or path.stem in names]
    if unknown := sorted(set(names) - {path.stem for path in wanted}):
        print(
            f"{unknown[0]}: no such notebook; there are: {', '.join(path.stem for path in notebooks())}",
            file=sys.stderr,
        )
        return 2
    for path in wanted:
        print(f"{path.stem} ...", flush=True)
        notebook = execute(path)
        (GALLERY / f"{path.stem}.html").write_text(render(notebook, path.stem), encoding="utf-8")
        for number, svg in enumerate(pictures(notebook), start=1):
            (GALLERY / f"{path.stem}-{number}.svg").write_text(svg + "\n", encoding="utf-8")
    print(f"written to {GALLERY.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
