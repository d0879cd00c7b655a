"""Whatever stands in a file, loading it ends in a record or in InputError with one sentence for each problem."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from formats.catalog import load_catalog
from formats.rack import load_rack
from trial.targets import parse
from twin.faults import FAULTS
from twin.scenario import load_scenario

ROOT = Path(__file__).parents[2]
LOADERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "scenario": (load_scenario, (ROOT / "scenarios/lose-the-holder/scenario.toml").read_text(encoding="utf-8")),
    "rack": (load_rack, (ROOT / "racks/six.toml").read_text(encoding="utf-8")),
    "group": (load_rack, (ROOT / "racks/cell-250.toml").read_text(encoding="utf-8")),
    "catalog": (load_catalog, (ROOT / "catalog/minimal.toml").read_text(encoding="utf-8")),
}
WORDS = st.sampled_from(
    [
        *("true", "-1", "0", "1", "9" * 25, "nan", "-inf", "1e400", "1979-05-27", "12:30:00", "[]", "{}", "[[]]", '""'),
        *('"n1"', '"all"', '"mariadb"', '"singleton"', "{ count = 2 }", "{ nodes = 3 }", '"\\u0000"', '"{rack}{slot}"'),
        *("[fault]", "[[fault]]", "[expect]", "[[service]]", "[[node]]", "kind", "target", "=", "a.b.c = 1", "\n"),
    ]
)
KEYS = st.sampled_from(["seed", "rack", "catalog", "fault", "expect", "timing", "clients", "trace", "start", "name"])


def problems_of(load: Callable[[Path], object], path: Path) -> list[str]:
    try:
        load(path)
    except InputError as error:
        return error.problems or ["an error without a problem"]
    return []


def ends_well(load: Callable[[Path], object], data: bytes) -> None:
    """Load a file; every problem must be one line that begins with the name of a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scenario.toml"
        path.write_bytes(data)
        for problem in problems_of(load, path):
            assert ".toml: " in problem
            assert "\n" not in problem
            assert len(problem) < 4_000


@pytest.mark.parametrize("kind", LOADERS)
@given(data=st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes(kind: str, data: bytes) -> None:
    ends_well(LOADERS[kind][0], data)


@pytest.mark.parametrize("kind", LOADERS)
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_good_file_with_a_word_replaced(kind: str, data: st.DataObject) -> None:
    load, text = LOADERS[kind]
    words = text.split(" ")
    for _ in range(data.draw(st.integers(1, 4))):
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(WORDS)
    ends_well(load, " ".join(words).encode())


@pytest.mark.parametrize("kind", LOADERS)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_a_good_file_with_a_value_replaced(kind: str, data: st.DataObject) -> None:
    load, text = LOADERS[kind]
    lines = text.splitlines()
    values = [at for at, line in enumerate(lines) if " = " in line]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(values))
        lines[at] = lines[at].split(" = ")[0] + " = " + data.draw(WORDS)
    ends_well(load, "\n".join(lines).encode())


@pytest.mark.parametrize("kind", LOADERS)
@given(cut=st.integers(0, 4_000), drop=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_a_good_file_with_a_piece_missing(kind: str, cut: int, drop: int) -> None:
    load, text = LOADERS[kind]
    ends_well(load, (text[:cut] + text[cut + drop :]).encode())


@given(key=KEYS, word=WORDS)
@settings(max_examples=150, deadline=None)
def test_any_value_under_any_key_of_a_scenario(key: str, word: str) -> None:
    ends_well(load_scenario, f"# Why: x\nduration_ms = 5\n{key} = {word}\n".encode())


@given(
    kind=st.sampled_from(sorted(FAULTS)), keys=st.dictionaries(st.sampled_from(["target", "at_ms", "service"]), WORDS)
)
@settings(max_examples=150, deadline=None)
def test_any_keys_of_any_fault(kind: str, keys: dict[str, str]) -> None:
    head = '# Why: x\nrack = "racks/five.toml"\ncatalog = "catalog/minimal.toml"\nduration_ms = 5\n'
    table = "".join(f"{key} = {value}\n" for key, value in keys.items())
    ends_well(load_scenario, f'{head}[[fault]]\nkind = "{kind}"\n{table}'.encode())


@given(text=st.text(alphabet="n1:,()abo- rsthe", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_target(text: str) -> None:
    try:
        terms = parse(text)
    except ValueError as error:
        terms = ()
        text = str(error)
    assert terms or " " in text
