"""Records of one client: what was read becomes changes, writes become operations, and unknown fields survive both."""

import logging
from collections.abc import Mapping, Sequence

import msgspec

from core import effects as fx
from core.ids import NodeId
from core.records import ENSEMBLE, Change
from drivers import zookeeper_jute as jute
from drivers.config import Machine
from drivers.zookeeper_codec import DATA_BYTES_MAX, Failure, decode, encode, ensemble
from drivers.zookeeper_mirrors import Seen
from drivers.zookeeper_tree import grants

_LOG = logging.getLogger(__name__)


class Operations(msgspec.Struct, frozen=True):
    """A transaction as it is sent, and the version that each write leaves."""

    ops: tuple[jute.Request, ...]
    versions: tuple[int, ...]


class Problem(msgspec.Struct, frozen=True):
    """A transaction that is not sent, because of write ``index`` (-1: none in particular)."""

    failure: Failure
    index: int = -1


class Records:
    """What one client has read and writes. ``tls``: paths are created with access lists."""

    def __init__(self, node: NodeId, machines: Mapping[NodeId, Machine], tls: bool) -> None:
        self._node = node
        self._machines = machines
        self._tls = tls
        self._unknown: dict[str, tuple[int, Mapping[str, object]]] = {}
        self._told: dict[str, int] = {}

    def change(self, path: str, seen: Seen) -> Change | None:
        """Make a change of what was read; None if there is something that is no record."""
        if seen.data is None:
            self._unknown.pop(path, None)
            return Change(path=path, zxid=seen.zxid)
        if path == ENSEMBLE:
            record = ensemble(seen.data, self._machines)
            return Change(path=path, zxid=seen.zxid, version=seen.version, data=record) if record is not None else None
        read = decode(seen.data) if seen.data else None
        if read is None:
            self._warn(path, seen)
            return None
        if read.unknown:
            self._unknown[path] = (seen.version, read.unknown)
        else:
            self._unknown.pop(path, None)
        return Change(path=path, zxid=seen.zxid, version=seen.version, data=read.record, owner=seen.owner)

    def operations(self, writes: Sequence[fx.Write]) -> Operations | Problem:
        """Turn writes into operations, or say why they cannot succeed."""
        ops: list[jute.Request] = []
        versions: list[int] = []
        for index, write in enumerate(writes):
            if not isinstance(write, fx.Create) and write.version < 0:
                # to the server a negative version is any version
                return Problem(
                    Failure(reason="conflict", detail=f"{write.path} is at no version {write.version}"), index
                )
            op, version = self._operation(write)
            ops.append(op)
            versions.append(version)
        size = sum(len(op.body) for op in ops)
        if size > DATA_BYTES_MAX:
            detail = f"{size} bytes are more than the {DATA_BYTES_MAX} that the servers take at once"
            return Problem(Failure(reason="refused", detail=detail, retryable=False))
        return Operations(tuple(ops), tuple(versions))

    def _operation(self, write: fx.Write) -> tuple[jute.Request, int]:
        match write:
            case fx.Check():
                return jute.check(write.path, write.version), write.version
            case fx.Create():
                rights = grants(write.path, self._node, self._tls)
                return jute.create(write.path, encode(write.data), rights, ephemeral=write.ephemeral), 0
            case fx.Put():
                version, unknown = self._unknown.get(write.path, (-1, {}))
                kept = unknown if version == write.version else {}
                return jute.put(write.path, encode(write.data, kept), write.version), write.version + 1
            case fx.Remove():
                return jute.remove(write.path, write.version), 0

    def _warn(self, path: str, seen: Seen) -> None:
        if seen.data and self._told.get(path) != seen.version:
            self._told[path] = seen.version
            _LOG.error("%s holds a record that this version of Moxie does not know; it is left alone", path)
