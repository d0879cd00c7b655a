"""The register of a service read to its end: everything that was ever written there, in the order it took effect."""

import socket

import msgspec

from core.ids import Epoch, NodeId
from drivers.clock import now_ms
from drivers.lab.services import Endpoint

ATTEMPT_S = 10.0


class Row(msgspec.Struct, frozen=True):
    """One write that the register keeps."""

    value: int
    node: NodeId
    epoch: Epoch


def rows(endpoint: Endpoint, after: int, ms_max: int) -> list[Row] | None:
    """The writes whose value is greater than ``after``, in the order they took effect; None if nobody answers."""
    end_ms = now_ms() + ms_max
    while now_ms() < end_ms:
        try:
            return _ask(endpoint, after)
        except (OSError, ValueError):
            continue  # it moves, or starts: the next attempt finds it
    return None


def out_of_order(found: list[Row]) -> str:
    """Say which write of an older epoch took effect after one of a newer one, or ""."""
    newest: Row | None = None
    for row in found:
        if newest is not None and row.epoch < newest.epoch:
            older, newer = f"{row.value} of epoch {row.epoch} on {row.node}", f"epoch {newest.epoch} on {newest.node}"
            return f"write {older} took effect after one of {newer}"
        newest = row
    return ""


def _ask(endpoint: Endpoint, after: int) -> list[Row]:
    with socket.create_connection((endpoint.address, endpoint.port), ATTEMPT_S) as link, link.makefile("rb") as lines:
        link.sendall(b"rows %d\n" % after)
        found: list[Row] = []
        for line in lines:
            if line == b"end\n":
                return found
            value, node, epoch = line.split()
            found.append(Row(int(value), NodeId(node.decode()), Epoch(int(epoch))))
    raise ValueError("the answer ended early")
