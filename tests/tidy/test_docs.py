"""The documents agree with the code: generated pages fresh, code map complete, links alive, scenarios explained."""

import re
from pathlib import Path

import pytest

from docs.generate import OUT, kinds, pages, scenarios, why
from tests.tidy.source import PACKAGES, ROOT, modules, name, tracked

SCENARIOS_MIN = 35


def test_the_generated_pages_are_fresh() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in OUT.glob("*.md")}
    rendered = pages()
    assert sorted(written) == sorted(rendered), "run 'make docs'"
    assert [page for page, text in rendered.items() if written[page] != text] == [], "run 'make docs'"


def test_the_code_map_names_every_package_and_module_and_nothing_else() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.split("## Code map", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`((?:core|formats|trial|twin|drivers)/[\w/]*(?:\.py)?)`", section))
    there = {name(path) for path in modules(*PACKAGES) if path.name != "__init__.py"}
    folders = {name(path.parent) + "/" for path in modules(*PACKAGES)}
    assert sorted(entry for entry in named if entry not in there | folders) == [], "stale entries"
    assert sorted(folders - named) == [], "packages without an entry"
    single = {path for path in there if not path.startswith(("twin/faults/", "twin/report/", "twin/world/"))}
    assert sorted(single - named) == [], "modules without an entry"


@pytest.mark.parametrize("path", [path for path in tracked() if path.suffix == ".md"], ids=name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_every_fault_is_used_by_a_scenario() -> None:
    from twin.faults import FAULTS

    used = {kind for path in scenarios() for kind in kinds(path)}
    assert sorted(set(FAULTS) - used) == []


def test_every_scenario_has_a_reason_and_a_golden_digest() -> None:
    found = scenarios()
    assert len(found) >= SCENARIOS_MIN
    assert [path.parent.name for path in found if not path.read_text(encoding="utf-8").startswith("# Why: ")] == []
    assert [path.parent.name for path in found if len(why(path)) < 30] == []
    missing = [path.parent.name for path in found if not (path.parent / "golden.txt").exists()]
    assert missing == [], "run 'make golden REWRITE=1' and read the diff"


def test_every_term_of_the_glossary_is_there_once_in_order() -> None:
    text = (ROOT / "docs" / "GLOSSARY.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\*\*(.+?)\*\*", text, flags=re.MULTILINE)
    assert len(terms) > 30
    assert terms == sorted(set(terms), key=str.lower)
