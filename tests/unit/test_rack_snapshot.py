"""``rack snapshot``: everything a simulation needs is there, and no secret is."""

import json
from pathlib import Path

import pytest

from core.errors import InputError
from core.ids import NodeId
from drivers.access import Access, load_access
from drivers.config import load_inventory
from drivers.init import node_folder, operator_file, prepare
from drivers.snapshot import HIDDEN, secrets_of, take, without
from formats.catalog import load_catalog
from tests.unit.made_rack import plan, rack_state


def node_access(folder: Path) -> Access:
    """The way to a rack from one of its nodes, which has a journal and a session."""
    wanted = plan(folder)
    prepare(wanted)
    access = load_access(node_folder(wanted.out, NodeId("n1")) / "node.toml")
    tables = access.config.tables
    (tables.state_dir / "journal").mkdir(parents=True)
    (tables.state_dir / "journal" / "journal-00000001.jsonl").write_text("[1]\n", encoding="utf-8")
    tables.run_dir.mkdir(parents=True)
    (tables.run_dir / "session").write_text(
        '{"session":7,"password":"00112233445566778899aabbccddeeff"}', encoding="utf-8"
    )
    return access


def test_a_snapshot_holds_records_journal_inventory_and_catalog(tmp_path: Path) -> None:
    out = tmp_path / "snap"
    taken = take(node_access(tmp_path), rack_state(), out)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == sorted(taken.files)
    records = json.loads((out / "records.json").read_text())
    assert records["/moxie/terms/mariadb"]["data"]["epoch"] == 7
    assert json.loads((out / "views.json").read_text())["n4"]["view"]["services"][1]["name"] == "mariadb"
    assert (out / "journal" / "n1" / "n1-journal-00000001.jsonl").read_text() == "[1]\n"
    assert load_catalog(out / "catalog.toml").name == "small"
    readme = (out / "README.md").read_text()
    assert all(f"`{name.split('/')[0]}" in readme for name in taken.files)
    assert "the agent of n5 shows nothing" in readme


def test_the_inventory_of_a_snapshot_is_one_again_but_for_its_credentials(tmp_path: Path) -> None:
    take(node_access(tmp_path), rack_state(), tmp_path / "snap")
    text = (tmp_path / "snap" / "inventory.toml").read_text()
    assert "password" not in text
    assert "user" not in text
    (tmp_path / "open.toml").write_text(text.replace('driver = "ipmi"', 'driver = "none"'), encoding="utf-8")
    assert [m.number for m in load_inventory(tmp_path / "open.toml").values()] == [1, 2, 3]


def test_no_secret_of_the_rack_is_in_a_snapshot_even_where_one_slipped_into_a_journal(tmp_path: Path) -> None:
    access = node_access(tmp_path)
    hidden = secrets_of(access.config)
    assert len(hidden) >= 6
    journal = access.config.tables.state_dir / "journal" / "journal-00000001.jsonl"
    journal.write_bytes(b"slipped: " + b" ".join(hidden) + b"\n")
    out = tmp_path / "snap"
    take(access, rack_state(), out)
    for path in out.rglob("*"):
        if path.is_file():
            assert [value for value in hidden if value in path.read_bytes()] == [], path
            assert b"PRIVATE KEY" not in path.read_bytes()
    assert (out / "journal" / "n1" / "n1-journal-00000001.jsonl").read_bytes().count(HIDDEN) == len(hidden)


def test_every_kind_of_secret_is_known(tmp_path: Path) -> None:
    access = node_access(tmp_path)
    hidden = secrets_of(access.config)
    assert b"hunter-2-secret" in hidden
    assert b"00112233445566778899aabbccddeeff" in hidden
    assert access.config.tables.tls is not None
    assert access.config.tables.tls.key.read_bytes().splitlines()[1] in hidden
    assert without(b"x hunter-2-secret y", hidden) == b"x (secret) y"


def test_an_operators_snapshot_says_where_the_journals_are(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    prepare(wanted)
    taken = take(load_access(operator_file(wanted.out)), rack_state(), tmp_path / "snap")
    assert any(said.startswith("journals: each node has its own") for said in taken.missing)


@pytest.mark.parametrize("name", ["full", "file", "file/below"])
def test_a_folder_that_is_not_new_is_refused(tmp_path: Path, name: str) -> None:
    access = node_access(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="needed: a new folder"):
        take(access, rack_state(), tmp_path / name)
