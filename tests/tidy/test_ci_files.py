"""The ready-made CI files: they parse, and every command in them is one that the command line accepts."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.tidy.source import ROOT
from twin.cli import command_line
from twin.swarm.profile import PROFILES

CI = ROOT / "docs" / "ci"
FILES = sorted(CI.glob("*.yml"))
README = CI / "README.md"


def strings(node: object) -> list[str]:
    """List every string of a parsed file, wherever it is."""
    if isinstance(node, dict):
        return [text for value in node.values() for text in strings(value)]
    if isinstance(node, list):
        return [text for value in node for text in strings(value)]
    return [node] if isinstance(node, str) else []


def commands(path: Path) -> list[list[str]]:
    """List the commands of a file, those of this project, with every calculated number as 1."""
    text = path.read_text(encoding="utf-8")
    lines = strings(yaml.safe_load(text)) if path.suffix == ".yml" else re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\$\(\([^)]*\)\)|\$\{\{[^}]*\}\}", "1", line) for text in lines for line in text.splitlines()]
    split = [shlex.split(line, comments=True) for line in plain]
    return [words for words in split if words and Path(words[0]).name in {"make", "twin"}]


def targets() -> list[str]:
    """List the targets of the Makefile."""
    return re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", [*FILES, README], ids=lambda path: path.name)
def test_every_command_of_a_ci_file_is_accepted(path: Path) -> None:
    found = commands(path)
    assert len(found) >= 3
    for words in found:
        if words[0] == "make":
            assert [word for word in words[1:] if word not in targets()] == []
        else:
            command_line().parse_args(words[1:])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_ci_file_keeps_the_report_the_junit_file_and_the_tapes(path: Path) -> None:
    whole = path.read_text(encoding="utf-8")
    for words in commands(path):
        if "swarm" in words:
            arguments = command_line().parse_args(words[1:])
            assert arguments.junit.parent == arguments.failures.parent == arguments.report
            assert whole.count(str(arguments.report)) > 3, "the folder is uploaded too"


def test_the_page_names_every_profile() -> None:
    text = README.read_text(encoding="utf-8")
    (listed,) = re.findall(r"`--profile` \(([^)]*)\)", text)
    assert tuple(re.findall(r"[a-z]+", listed.split(" has ")[0])) == PROFILES


def test_there_is_a_file_for_each_of_the_two() -> None:
    assert [path.name for path in FILES] == ["github-actions.yml", "gitlab-ci.yml"]


@pytest.mark.parametrize("target", ["swarm", "nightly"])
def test_the_makefile_runs_a_command_that_is_accepted(target: str) -> None:
    done = subprocess.run(["make", "-n", "-o", "setup", target], cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if "twin swarm" in line]
    command_line().parse_args(shlex.split(line)[1:])
