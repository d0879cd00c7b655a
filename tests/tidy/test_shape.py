"""Size, names and docstrings: the part of the house style that a machine can check."""

import ast
import re
from pathlib import Path

import pytest

from tests.tidy.source import PACKAGES, ROOT, functions, modules, name, tree

MODULE_LINES_MAX = 400
TEST_LINES_MAX = 800  # a table of cases may be long and still be one subject
FUNCTION_LINES_MAX = 60
BANNED = re.compile(r"(Manager|Handler|Helper|Util|Info|Data)s?$|^(Manager|Handler|Helper|Util|Info|Data)(?=[A-Z]|$)")
BANNED_FILES = re.compile(r"(^|_)(manager|handler|helper|helpers|util|utils|info|data)(_|$)")
OURS = modules(*PACKAGES, "bench", "tests", "docs")
SHIPPED = modules(*PACKAGES, "bench")


def test_the_sources_are_found() -> None:
    assert len(modules("core")) > 10
    assert len(modules("twin")) > 10


def test_no_module_is_two_subjects() -> None:
    long = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in OURS}
    limits = {path: TEST_LINES_MAX if path.startswith("tests/") else MODULE_LINES_MAX for path in long}
    assert {path: lines for path, lines in long.items() if lines > limits[path]} == {}


def test_no_function_is_two_subjects() -> None:
    long = {
        f"{name(path)}:{node.name}": lines
        for path in OURS
        for node in functions(path)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    }
    assert long == {}


def test_no_name_says_that_its_subject_was_not_found() -> None:
    classes = [
        f"{name(path)}:{node.name}"
        for path in OURS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and BANNED.search(node.name)
    ]
    files = [name(path) for path in OURS if BANNED_FILES.search(path.stem)]
    assert classes + files == []


def test_every_module_says_what_it_is() -> None:
    assert [name(path) for path in OURS if tree(path).body and not ast.get_docstring(tree(path))] == []


@pytest.mark.parametrize("path", SHIPPED, ids=name)
def test_every_public_name_has_a_docstring(path: Path) -> None:
    assert [f"{name(path)}:{line}: {what}" for line, what in undocumented(tree(path).body)] == []


INHERITED = {"apply", "check", "submit", "text"}
"""Methods whose Protocol (``core.ports``) or base (``twin.faults.base``) says what they do."""


def undocumented(body: list[ast.stmt], inside: str = "") -> list[tuple[int, str]]:
    """List public classes, functions and methods without a docstring.

    Left out: what its own few lines say (a record of up to three fields, a function of up to six lines), methods of a
    Protocol, ``INHERITED``, and reactions named after their event (``on_answer``).
    """
    found: list[tuple[int, str]] = []
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_") or node.name in INHERITED:
            continue
        if node.name.startswith("on_"):
            continue
        if ast.get_docstring(node) is None and not says_itself(node):
            found.append((node.lineno, f"{inside}{node.name}"))
        if isinstance(node, ast.ClassDef) and not any(ast.unparse(base) == "Protocol" for base in node.bases):
            found += undocumented(node.body, f"{node.name}.")
    return found


def says_itself(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Whether a definition is so short that a docstring could only repeat it."""
    if isinstance(node, ast.ClassDef):
        return len(node.body) <= 3 and all(isinstance(part, ast.AnnAssign | ast.Pass) for part in node.body)
    return (node.end_lineno or node.lineno) - node.body[0].lineno < 6


def test_docstrings_end_their_first_sentence() -> None:
    loose = [
        f"{name(path)}:{node.lineno}: {node.name}"
        for path in SHIPPED
        for node in functions(path)
        if (text := ast.get_docstring(node)) and not re.search(r"[.:;!?)`]$", text.split("\n\n")[0].rstrip())
    ]
    assert loose == []


def test_no_test_folder_shadows_a_package() -> None:
    assert [folder.name for folder in (ROOT / "tests").iterdir() if folder.name in PACKAGES] == []
