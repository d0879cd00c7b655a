"""``rack snapshot``: what a simulation of this rack needs, in one folder, without any secret."""

import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from core.errors import InputError
from drivers.access import Access
from drivers.ceph import Ceph, CephError
from drivers.clock import wall_text
from drivers.config import Config
from drivers.journal_file import segments
from drivers.journal_place import FOLDER
from drivers.rack_state import RackState
from drivers.toml_text import toml_text
from drivers.upgrade_rehearsal import files as rehearsal
from drivers.zookeeper_session import Credential

JOURNAL_BYTES_MAX = 64 << 20
"""Of the journal the newest segments are taken whole, up to this many bytes: each replays alone."""
SECRET_BYTES_MIN = 4
"""A shorter secret is no secret, and would be found everywhere."""
CEPH_MS_MAX = 10_000
HIDDEN = b"(secret)"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What ``take`` wrote, by file name, and what could not be had, one sentence each."""

    files: tuple[str, ...]
    missing: tuple[str, ...]


def take(access: Access, rack: RackState, out: Path, parallel: int = 1) -> Taken:
    """Write the snapshot into a new or empty folder. ``parallel``: for the rehearsal of an upgrade in it.

    Raises: InputError if the folder is not empty or cannot be written.
    """
    _prepare(out)
    hidden = secrets_of(access.config)
    files: list[str] = []
    missing: list[str] = list(rack.not_reached())

    def put(name: str, data: bytes) -> None:
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(without(data, hidden))
        except OSError as error:
            raise InputError([f"{path}: cannot be written ({str(error.strerror).lower()}); needed: room"]) from None
        files.append(name)

    put("records.json", _pretty(dict(sorted(rack.records.items()))))
    put("servers.json", _pretty(rack.servers))
    put("views.json", _pretty(rack.agents))
    put("inventory.toml", inventory_text(access.config).encode())
    put("catalog.toml", access.config.tables.catalog.read_bytes())
    for name, data in _journal(access, missing):
        put(name, data)
    for name, data in _ceph(access.config, missing):
        put(name, data)
    calibration = access.config.tables.state_dir / "calibration.toml"
    if calibration.is_file():
        put("calibration.toml", calibration.read_bytes())
    for name, data in rehearsal(access.config, rack, parallel).items():
        put(name, data)
    put("versions.json", _pretty(versions(rack)))
    put("README.md", _readme(rack, [*files, "README.md"], missing).encode())
    return Taken(files=tuple(files), missing=tuple(missing))


def secrets_of(config: Config) -> tuple[bytes, ...]:
    """Every secret that the configuration leads to: whatever of these turns up in a snapshot is blotted out."""
    tables = config.tables
    paths = [tables.heartbeat_key, tables.run_dir / "session"]
    paths += [tables.tls.key] if tables.tls is not None else []
    paths += [tables.ceph.keyring] if tables.ceph is not None else []
    paths += tables.storage.rings if tables.storage is not None else ()
    paths += [machine.bmc.password_file for machine in config.machines.values()]
    paths += [access.password_file for network in config.inventory.networks for access in network.access]
    found: list[bytes] = []
    for path in paths:
        if path is None:
            continue
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if path.name == "session":
            credential = Credential.decode(data)
            found += [credential.password.hex().encode(), credential.password] if credential is not None else []
        elif b"PRIVATE KEY" in data:
            found += [line for line in data.splitlines() if line and not line.startswith(b"-----")]
        elif b"key =" in data:
            found += [line.partition(b"=")[2].strip() for line in data.splitlines() if b"key =" in line]
        else:
            found.append(data.strip())
    return tuple(dict.fromkeys(value for value in found if len(value) >= SECRET_BYTES_MIN))


def without(data: bytes, hidden: tuple[bytes, ...]) -> bytes:
    """The data with every secret blotted out."""
    for value in hidden:
        data = data.replace(value, HIDDEN)
    return data


def inventory_text(config: Config) -> str:
    """The inventory as TOML, without users, passwords and their files."""
    tables: list[dict[str, Any]] = []
    for machine in config.machines.values():
        table: dict[str, Any] = msgspec.to_builtins(machine, builtin_types=(Path,), enc_hook=str)
        table["bmc"] = {name: table["bmc"][name] for name in ("driver", "address", "port")}
        tables.append(table)
    return "# The rack's inventory, without credentials.\n" + toml_text({"node": tables})


def versions(rack: RackState) -> dict[str, object]:
    """What runs here, and what the servers say that they are."""
    found: dict[str, object] = {"python": platform.python_version(), "kernel": platform.release()}
    for package in ("moxie-rack", "kazoo", "pyghmi", "pyroute2", "cryptography", "msgspec"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    found["zookeeper"] = {node: server.version for node, server in rack.servers.items() if server.version}
    return found


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(out.iterdir()):
            raise InputError([f"--out {out}: is not empty; needed: a new folder"])
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
        raise InputError([f"--out {out}: cannot be made ({reason}); needed: a new folder"]) from None


def _journal(access: Access, missing: list[str]) -> Iterator[tuple[str, bytes]]:
    """The newest segments of this node's journal."""
    if not access.local:
        missing.append("journals: each node has its own; run 'rack snapshot --config …/node.toml' there as well")
        return
    tables, left = access.config.tables, JOURNAL_BYTES_MAX
    for folder in (tables.run_dir / FOLDER, tables.state_dir / FOLDER):  # the first is where a full disk spills to
        try:
            for path in reversed(segments(folder)):
                left -= path.stat().st_size
                if left < 0:
                    return
                yield f"journal/{access.config.node}/{folder.parent.name}-{path.name}", path.read_bytes()
        except OSError as error:
            missing.append(f"the journal in {folder}: {str(error.strerror).lower()}")


def _ceph(config: Config, missing: list[str]) -> Iterator[tuple[str, bytes]]:
    """What a capacity planner needs of the storage."""
    if config.tables.ceph is None:
        return
    ceph = Ceph(config.tables.ceph)
    try:
        ceph.connect()
        dumps: Mapping[str, object] = {"status": ceph.health(CEPH_MS_MAX), **ceph.figures(CEPH_MS_MAX)}
        dumps = {**dumps, "versions": ceph.command("versions")}
    except CephError as error:
        missing.append(f"the storage: {error.detail}")
        return
    finally:
        ceph.close()
    for name, dump in dumps.items():
        yield f"ceph/{name.replace(' ', '-')}.json", _pretty(dump)


def _pretty(value: object) -> bytes:
    return json.dumps(msgspec.to_builtins(value, str_keys=True), indent=1, sort_keys=False).encode() + b"\n"


_FILES = {
    "records.json": "the shared records by path, each with the version and the transaction it had",
    "servers.json": "what each ZooKeeper server said of itself",
    "views.json": "what each agent showed of itself",
    "inventory.toml": "the nodes, without credentials",
    "catalog.toml": "the services",
    "calibration.toml": "times measured on this rack",
    "upgrade/": "the rehearsal of an upgrade of this rack: `twin run SNAPSHOT/upgrade`",
    "versions.json": "what runs here",
    "README.md": "this file",
    "journal/": "segments of the node's journal; `twin replay` and `twin explain` read them",
    "ceph/": "the storage's own dumps: `osd dump`, `osd df tree`, `osd crush dump`, `df detail`, `pg dump`, `status`",
}


def _readme(rack: RackState, files: list[str], missing: list[str]) -> str:
    rows = [f"- `{name}`: {text}\n" for name, text in _FILES.items() if any(f.startswith(name) for f in files)]
    gaps = [f"- {said}\n" for said in missing] or ["- nothing\n"]
    return (
        f"# Snapshot of a rack\n\nTaken {wall_text()}: {len(rack.members)} of {len(rack.nodes)} nodes were members. "
        "It holds no password, key or session credential.\n\n"
        f"## Files\n\n{''.join(rows)}\n## Not in it\n\n{''.join(gaps)}"
    )
