"""The report of a run: a picture and one HTML page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path

from core.errors import InputError
from trial.gates import Gate
from trial.verdict import Outcome, to_json
from twin.report.page import page
from twin.report.picture import draw_png, draw_svg
from twin.story import Story

FILES = ("index.html", "timeline.png", "timeline.svg", "outcome.json")


def write_report(folder: Path, story: Story, outcome: Outcome, gates: Sequence[Gate] = ()) -> Path:
    """Write the report into ``folder`` (made if missing) and name its page; ``gates`` are those of the scenario.

    Raises: InputError if the folder cannot be written.
    """
    svg = draw_svg(story)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "timeline.svg").write_text(svg, encoding="utf-8")
        (folder / "timeline.png").write_bytes(draw_png(story))
        (folder / "outcome.json").write_bytes(to_json(outcome))
        target = folder / "index.html"
        target.write_text(page(story, outcome, svg, gates), encoding="utf-8")
    except OSError as error:
        raise InputError([f"{folder}: the report cannot be written ({error.strerror}); needed: a folder"]) from None
    return target
