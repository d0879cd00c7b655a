"""Records as ZooKeeper keeps them: their bytes, the ensemble's configuration, and what an error of a server means.

Records are JSON with their tag. What a newer version wrote and this one does not know survives this one's writes.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from core.ids import NodeId
from core.records import AnyRecord, EnsembleRecord
from drivers.config import Machine, ZooKeeperTable

DATA_BYTES_MAX = 1_000_000
"""A transaction of more is refused here. Source: ``jute.maxbuffer`` is 0xfffff, and more drops the connection."""

OK, MISSING, DENIED, VERSION, EXISTS, NO_WATCHER = 0, -101, -102, -103, -110, -121
LOST, EXPIRED, MOVED = -4, -112, -118
"""Error numbers. Source: ``org.apache.zookeeper.KeeperException.Code``."""
_NOT_THE_CAUSE = (OK, -2)
"""What the other writes of a failed transaction are answered with: rolled back, and not tried."""

Why = Literal["unanswered", "session", "conflict", "refused", "unavailable", "failed"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An error in the words of ``core.events.OpFailed``."""

    reason: Why
    detail: str
    retryable: bool = True


_FAILURES: dict[int, Failure] = {
    LOST: Failure(reason="unanswered", detail="the connection was lost"),
    -5: Failure(reason="failed", detail="the server could not read the request", retryable=False),
    -6: Failure(reason="refused", detail="the server does not know the request", retryable=False),
    -7: Failure(reason="unanswered", detail="the server timed out"),
    -8: Failure(reason="failed", detail="the server did not understand the members", retryable=False),
    -13: Failure(reason="unavailable", detail="no quorum of the new configuration is in sync"),
    -14: Failure(reason="unavailable", detail="another reconfiguration is under way"),
    MISSING: Failure(reason="conflict", detail="does not exist"),
    DENIED: Failure(reason="refused", detail="the access list does not allow it", retryable=False),
    VERSION: Failure(reason="conflict", detail="is at another version"),
    -108: Failure(reason="conflict", detail="an ephemeral has no children"),
    EXISTS: Failure(reason="conflict", detail="exists"),
    -111: Failure(reason="conflict", detail="has children"),
    EXPIRED: Failure(reason="session", detail="the session is over", retryable=False),
    -114: Failure(reason="failed", detail="the server does not know the access list's scheme", retryable=False),
    -115: Failure(reason="refused", detail="the server does not accept who we are", retryable=False),
    MOVED: Failure(reason="unavailable", detail="the session moved to another connection"),
    -119: Failure(reason="unavailable", detail="the server has no quorum"),
    -122: Failure(reason="unanswered", detail="the server timed out"),
    -123: Failure(reason="refused", detail="the ensemble's configuration is fixed", retryable=False),
    -127: Failure(reason="unavailable", detail="the server has too much to do"),
}

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyRecord] = msgspec.json.Decoder(AnyRecord)


def failure(error: int) -> Failure:
    """Say what an error of the server means for what was asked."""
    return _FAILURES.get(error) or Failure(reason="failed", detail=f"error {error} of the server")


def failed_write(errors: Iterable[int]) -> tuple[int, Failure] | None:
    """Find which write of a transaction failed it, and how; None if none did."""
    found = tuple(errors)
    causes = [(index, error) for index, error in enumerate(found) if error not in _NOT_THE_CAUSE]
    if causes:
        return causes[0][0], failure(causes[0][1])
    return (-1, failure(-2)) if any(found) else None


# -- records -----------------------------------------------------------------------------------------------------------


class Read(msgspec.Struct, frozen=True):
    """A record with what else its bytes say: fields of a newer version, in the shape of the JSON."""

    record: AnyRecord
    unknown: Mapping[str, object]


def encode(record: AnyRecord, unknown: Mapping[str, object] | None = None) -> bytes:
    """Write a record; ``unknown`` are fields to keep that were read with the version it replaces."""
    if not unknown:
        return _encoder.encode(record)
    built = msgspec.to_builtins(record)
    return _encoder.encode(_merged(built, unknown))


def decode(data: bytes) -> Read | None:
    """Read a record; None if these bytes are none that this version knows."""
    try:
        record = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if _encoder.encode(record) == data:
        return Read(record, {})
    return Read(record, _unknown(msgspec.json.decode(data), msgspec.to_builtins(record)))


def _unknown(raw: Mapping[str, object], known: Mapping[str, object]) -> dict[str, object]:
    """What ``raw`` has and ``known`` has not, also in tables within."""
    found: dict[str, object] = {}
    for name, value in raw.items():
        if name not in known:
            found[name] = value
        else:
            mine = known[name]
            if isinstance(value, dict) and isinstance(mine, dict) and (inner := _unknown(value, mine)):
                found[name] = inner
    return found


def _merged(known: Mapping[str, object], unknown: Mapping[str, object]) -> dict[str, object]:
    found = dict(known)
    for name, value in unknown.items():
        mine = found.get(name)
        if isinstance(mine, dict) and isinstance(value, dict):
            found[name] = _merged(mine, value)
        elif name not in found:
            found[name] = value
    return found


# -- the ensemble ------------------------------------------------------------------------------------------------------


def member_line(machine: Machine, table: ZooKeeperTable, tls: bool) -> str:
    """One voter as the configuration names it.

    ZooKeeper takes no line without a plain port for clients, and no port twice: with TLS it is one on the server's own
    loopback address, where nobody may do anything without a certificate (``enforce.auth``), so nobody can.
    """
    address = f"[{machine.address}]" if ":" in machine.address else machine.address
    line = f"server.{machine.number}={address}:{table.quorum_port}:{table.election_port}:participant"
    return f"{line};{f'127.0.0.{machine.number}:{table.client_port + 1}' if tls else f'{address}:{table.client_port}'}"


def ensemble(text: bytes, machines: Mapping[NodeId, Machine]) -> EnsembleRecord | None:
    """Read the ensemble's configuration; None if these bytes are none.

    A voter that the inventory does not know is called ``server.NUMBER``.
    """
    names = {machine.number: node for node, machine in machines.items()}
    voters: list[NodeId] = []
    config = -1
    for line in text.decode("utf-8", "replace").split():
        key, _, value = line.partition("=")
        number = key.removeprefix("server.")
        if key == "version":
            config = _hex(value)
        elif key.startswith("server.") and number.isdigit() and ":observer" not in value:
            voters.append(names.get(int(number), NodeId(key)))
    return EnsembleRecord(config=config, voters=tuple(sorted(voters))) if config >= 0 else None


def server_number(node: NodeId, machines: Mapping[NodeId, Machine]) -> int | None:
    """The number of a voter, also of one that the inventory does not know; None if it has none."""
    machine = machines.get(node)
    if machine is not None:
        return machine.number
    number = node.removeprefix("server.")
    return int(number) if number.isdigit() else None


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return -1
