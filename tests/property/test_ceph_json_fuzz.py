"""Whatever a folder of Ceph JSON holds: it is read, or refused with file and field. Never a traceback."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from twin.capacity.assumptions import load_assumptions
from twin.capacity.ceph_files import read_ceph
from twin.capacity.cluster import Cluster
from twin.capacity.fill import place_all
from twin.capacity.max_avail import max_avail_bytes
from twin.capacity.usable import usable

SAMPLE = Path("racks/five-hosts")
FILES = ("osd_dump", "osd_crush_dump", "osd_df_tree", "df_detail", "pg_dump", "osd_metadata")
FIGURES = load_assumptions(["survive=none"])
STRANGE: tuple[object, ...] = (None, "x", [], {}, -1, 1 << 62, 0, 1e300, True)


def _small(name: str) -> object:
    """The sample's file with its long lists cut to what placement needs and its long records to what is read."""
    document = json.loads((SAMPLE / f"{name}.json").read_text())
    if name == "pg_dump":
        rows = document["pg_map"]["pg_stats"]
        keep = ("pgid", "state", "up", "acting", "version", "log_start")
        sums = ("num_bytes", "num_objects", "num_object_copies", "num_objects_degraded")
        document = {
            "pg_ready": True,
            "pg_map": {
                "pg_stats": [
                    {key: row[key] for key in keep} | {"stat_sum": {key: row["stat_sum"][key] for key in sums}}
                    for row in rows
                ]
            },
        }
    return document


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ceph")
    for name in FILES:
        (made / f"{name}.json").write_text(json.dumps(_small(name)))
    return made


def _print_of(cluster: Cluster) -> bytes:
    uses = [
        (use.pool, use.pg_bytes.tolist(), use.stored_bytes, use.allocated_bytes, use.copies) for use in cluster.uses
    ]
    return msgspec.json.encode((cluster.osdmap, cluster.osds, cluster.hosts, uses), enc_hook=str)


def _read_or_refused(folder: Path, file: str, known: bytes) -> str:
    """Read the folder, and plan with it if it differs from the sample; a refusal must name a file."""
    try:
        _plan(read_ceph(folder), known)
    except InputError as error:
        problems = error.problems
    else:
        return "read"
    assert any(".json" in problem for problem in problems), (file, problems)
    return problems[0]


def _plan(cluster: Cluster, known: bytes) -> None:
    """Plan with a cluster that is not the sample's."""
    if _print_of(cluster) == known:
        return
    found = usable(cluster, place_all(cluster.osdmap), FIGURES)
    assert 0 <= found.free_bytes <= found.usable_bytes <= found.raw_bytes
    for pool in cluster.osdmap.pools:
        assert max_avail_bytes(cluster, pool) >= 0


def _paths(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of each value; of lists only the first and the last element's."""
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from _paths(value[key], (*at, key))
    elif isinstance(value, list):
        for index in sorted({0, len(value) - 1} if value else ()):
            yield from _paths(value[index], (*at, index))


def _changed(document: object, path: tuple[str | int, ...], value: object, drop: bool = False) -> object:
    whole = deepcopy(document)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return whole


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_anywhere_is_refused_by_name(folder: Path, name: str) -> None:
    path = folder / f"{name}.json"
    whole, known = path.read_bytes(), _print_of(read_ceph(folder))
    try:
        for cut in range(0, len(whole) - 1, 50):
            path.write_bytes(whole[:cut])
            said = _read_or_refused(folder, name, known)
            assert f"{name}.json" in said
            assert "ceph " in said, said
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_strange_value_anywhere_is_read_or_refused(folder: Path, name: str) -> None:
    path, document = folder / f"{name}.json", _small(name)
    whole, known = path.read_bytes(), _print_of(read_ceph(folder))
    try:
        for at, where in enumerate(_paths(document)):
            path.write_text(json.dumps(_changed(document, where, STRANGE[at % len(STRANGE)])))
            _read_or_refused(folder, name, known)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_key_anywhere_is_read_or_refused(folder: Path, name: str) -> None:
    path, document = folder / f"{name}.json", _small(name)
    whole, known = path.read_bytes(), _print_of(read_ceph(folder))
    try:
        for where in _paths(document):
            path.write_text(json.dumps(_changed(document, where, None, drop=True)))
            _read_or_refused(folder, name, known)
    finally:
        path.write_bytes(whole)
