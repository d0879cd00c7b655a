"""Determinism: core and twin read no clock, no randomness, no environment, and never order by a set or a hash."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.source import PURE, ROOT, modules, name, tree

BANNED_MODULES = {
    "asyncio",
    "concurrent",
    "logging",
    "multiprocessing",
    "os",
    "queue",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
BANNED_CALLS = {"hash", "id", "open", "input", "print"}
CLOCK_READS = {"now", "today", "utcnow"}
EXEMPT = {
    "twin/cli.py": {"os", "print"},  # the command prints
    "twin/cli_journal.py": {"print"},  # the command prints
    "twin/cli_run.py": {"time", "print"},  # the command measures its wall time and prints
    "twin/cli_check.py": {"time"},  # as above
    "twin/cli_swarm.py": {"time", "os", "print"},  # as above; how many processors there are, what can be written
    "twin/cli_scale.py": {"time", "multiprocessing"},  # steps are timed; each rack is measured alone in a process
    "twin/cli_tape.py": {"time", "print"},
    "twin/cli_advise.py": {"print"},
    "twin/packing/quiet.py": {"os"},  # redirects stdout around a library that prints to it whatever it is told
    "twin/swarm/dask_engine.py": {"logging", "threading"},  # Dask logs, and its workers may have several threads
    "twin/swarm/engine.py": {"multiprocessing"},  # each campaign runs alone in one of the processes
    "twin/world/zookeeper_feed.py": {"id"},  # identity as a key of what is grouped, never for an order
}
SOURCES = modules(*PURE)


def allowed(path: Path, what: str) -> bool:
    return what in EXEMPT.get(name(path), set())


def imported(path: Path) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.lineno, node.module.split(".")[0]))
    return found


def test_nothing_outside_the_events_is_read() -> None:
    assert [
        f"{name(path)}:{line}: {module}"
        for path in SOURCES
        for line, module in imported(path)
        if module in BANNED_MODULES and not allowed(path, module)
    ] == []


def test_every_exemption_is_still_needed() -> None:
    def calls(path: Path) -> set[str]:
        nodes = (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
        return {node.func.id for node in nodes if isinstance(node.func, ast.Name)}

    stale = {
        path: sorted(what - {module for _, module in imported(ROOT / path)} - calls(ROOT / path))
        for path, what in EXEMPT.items()
        if (ROOT / path).exists()
    }
    assert {path: what for path, what in stale.items() if what} == {}
    assert [path for path in EXEMPT if not (ROOT / path).exists()] == []


def test_no_call_depends_on_the_process_it_runs_in() -> None:
    found: list[str] = []
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS and not allowed(path, node.func.id):
                found.append(f"{name(path)}:{node.lineno}: {node.func.id}()")
            if isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_READS:
                if ast.unparse(node.func.value).split(".")[-1] in {"datetime", "date"}:
                    found.append(f"{name(path)}:{node.lineno}: {ast.unparse(node.func)}()")
    assert found == []


def test_the_core_does_no_io_at_all() -> None:
    outside = {"pathlib", "io", "shutil", "json", "sys", "tomllib"}
    assert [f"{name(p)}:{line}: {m}" for p in modules("core") for line, m in imported(p) if m in outside] == []


def is_set(node: ast.expr) -> bool:
    """Whether an expression is visibly a set: a literal, a comprehension, ``set(...)``, or a union of such."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in {"set", "frozenset"}
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub):
        return is_set(node.left) or is_set(node.right)
    return False


ORDERED = {"enumerate", "iter", "list", "next", "tuple", "zip"}


def iterated(node: ast.AST) -> list[ast.expr]:
    """List what a node iterates over in an order that somebody can see."""
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        return [generator.iter for generator in node.generators]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ORDERED:
        return node.args[:1]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "join":
        return node.args[:1]
    return [node.value] if isinstance(node, ast.Starred) else []


UNORDERED = {"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"}


def test_no_set_is_iterated_over() -> None:
    found: list[str] = []
    for path in SOURCES:
        harmless: set[ast.AST] = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in UNORDERED:
                harmless.update(node.args)
        for node in ast.walk(tree(path)):
            if node not in harmless and any(is_set(what) for what in iterated(node)):
                found.append(f"{name(path)}:{getattr(node, 'lineno', 0)}")
    assert found == []


@pytest.mark.parametrize("text", ["for x in {1, 2}: pass", "[x for x in set(y)]", "list({1} | y)", "','.join({1})"])
def test_the_check_for_sets_sees_them(text: str) -> None:
    assert any(is_set(what) for node in ast.walk(ast.parse(text)) for what in iterated(node))


BLOCK = """
import importlib, importlib.abc, pkgutil, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"simpy", "networkx", "numpy", "matplotlib", "kazoo", "pyghmi", "twin", "drivers"}:
            raise ImportError(f"core reached for {name}")
        return None

sys.meta_path.insert(0, Blocked())
import core
names = [module.name for module in pkgutil.walk_packages(core.__path__, "core.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_the_core_runs_without_any_library_of_the_two_worlds() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCK], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert int(done.stdout) > 10
