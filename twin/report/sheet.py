"""The shell of every report page: one HTML file with its style inside, which loads nothing from anywhere."""

from html import escape
from importlib.resources import files
from pathlib import Path

from core.errors import InputError
from twin.table import Table


def sheet(title: str, body: str, script: str = "") -> str:
    """Wrap ``body`` (HTML) into a whole page. ``title`` is plain text."""
    style = files("twin.report").joinpath("page.css").read_text(encoding="utf-8")
    tail = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{style}</style></head>\n<body><main>{body}</main>{tail}</body></html>\n"
    )


def section(heading: str, *parts: str, wide: bool = False) -> str:
    """One section of a page: a heading (plain text), then HTML."""
    kind = ' class="wide"' if wide else ""
    return f"<section{kind}><h2>{escape(heading)}</h2>{''.join(parts)}</section>"


def figure(svg: str, caption: str) -> str:
    """A picture with the sentence that says what it shows."""
    return f'<div class="picture">{svg}</div><p class="why">{escape(caption)}</p>'


def cards(facts: list[tuple[str, str]]) -> str:
    """The few figures that a reader looks for first, as (name, value)."""
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)
    return f'<dl class="cards">{shown}</dl>'


def table(rows: Table) -> str:
    """A table of results."""
    return rows.to_html()


def write_sheet(folder: Path, name: str, html: str) -> Path:
    """Write a page into a folder, which is made if it is not there, and hand back its path.

    Raises: InputError if it cannot be written.
    """
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise InputError([f"--report {folder}: cannot be written ({error.strerror}); needed: a folder"]) from None
    return path
