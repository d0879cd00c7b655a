"""The keys of the storage that a bundle carries: no more than the new node's image can make use of."""

from pathlib import Path

import msgspec
import pytest

from core.ids import ImageId, NodeId
from drivers import check_machine, snapshot
from drivers.config import NetbootTable, load_config
from drivers.image.manifest import BOOT_FILES, Entry, Manifest, write_manifest
from drivers.init import prepare
from drivers.join.bundle import Bundles
from drivers.join.messages import misplaced
from tests.unit.made_rack import plan

IMAGE = ImageId("0123456789abcdef")
FULL, LESSER = "client.moxie-storage.keyring", "client.moxie-osd.keyring"


def bundled(tmp_path: Path, profile: str, rings: tuple[str, ...], **more: object) -> tuple[dict[str, bool], str]:
    """What n2 gets from n1, which has ``rings``: the storage's files, True for secrets; and its node file."""
    ceph = tmp_path / "ceph"
    ceph.mkdir()
    for ring in rings:
        (ceph / ring).write_text(f"[{ring}]")
    settings = {"storage": {"keyring": str(ceph / FULL), "disk_gib": 7}, **more} if rings else more
    prepare(plan(tmp_path, 2, settings=settings))
    config = load_config(tmp_path / "rack" / "nodes" / "n1" / "node.toml")
    folder = tmp_path / "images" / IMAGE
    folder.mkdir(parents=True)
    files = {name: Entry(sha256="0" * 64, bytes=1) for name in BOOT_FILES}
    if profile:
        write_manifest(folder, Manifest(format=1, profile=profile, version="1", cmdline="", files=files))
    netboot = NetbootTable(interface="eth0", images=tmp_path / "images", ca=tmp_path / "rack" / "ca")
    config = msgspec.structs.replace(config, tables=msgspec.structs.replace(config.tables, netboot=netboot))
    bundle = Bundles(config).bundle(NodeId("n2"), IMAGE)
    assert not any(misplaced(file.path) for file in bundle.files)
    node_file = next(file.data.decode() for file in bundle.files if file.path == "node.toml")
    return {file.path: file.secret for file in bundle.files if file.path.startswith("ceph/client.")}, node_file


def test_a_node_that_may_vote_gets_the_key_for_monitors_and_what_it_hands_on(tmp_path: Path) -> None:
    files, text = bundled(tmp_path, "hyperconverged", (FULL, LESSER))
    assert files == {f"ceph/{FULL}": True, f"ceph/{LESSER}": True}
    assert f'[storage]\nuser = "moxie-storage"\nkeyring = "ceph/{FULL}"\ndisk_gib = 7\n' in text


def test_a_node_that_votes_nowhere_gets_the_key_for_its_disk_only(tmp_path: Path) -> None:
    files, text = bundled(tmp_path, "", (FULL, LESSER), zookeeper={"server": False})
    assert files == {f"ceph/{LESSER}": True}
    assert 'user = "moxie-osd"' in text


def test_from_a_node_with_the_lesser_key_nobody_gets_more(tmp_path: Path) -> None:
    files, text = bundled(tmp_path, "hyperconverged", (LESSER,))
    assert files == {f"ceph/{LESSER}": True}
    assert f'user = "moxie-osd"\nkeyring = "ceph/{LESSER}"' in text


def test_no_key_of_the_storage_is_shown_in_a_snapshot_and_all_are_checked(tmp_path: Path) -> None:
    bundled(tmp_path, "hyperconverged", (FULL, LESSER))
    config = load_config(tmp_path / "rack" / "nodes" / "n1" / "node.toml")
    for number, ring in enumerate((FULL, LESSER)):
        (tmp_path / "ceph" / ring).write_text(f"[client.x]\n\tkey = AQDverysecret{number}==\n")
    assert {b"AQDverysecret0==", b"AQDverysecret1=="} <= set(snapshot.secrets_of(config))
    checked = " ".join(finding.about for finding in check_machine.secrets_of(config))
    assert FULL in checked
    assert LESSER in checked


@pytest.mark.parametrize(
    ("profile", "rings"), [("minimal", (FULL, LESSER)), ("hyperconverged", ()), ("somebody's own", (FULL, LESSER))]
)
def test_a_node_without_ceph_and_a_rack_without_a_storage_of_its_own_have_no_key(
    profile: str, rings: tuple[str, ...], tmp_path: Path
) -> None:
    files, text = bundled(tmp_path, profile, rings)
    assert files == {}
    assert "[storage]" not in text
