"""Which certificates count no more, as far as an operator's command can know, and how every node hears of it.

What is known of a retired node's certificates: its shared record and its machine's (who joined over the network), the
authority's own notes (``issued``), and its folder of ``rack init``, for an authority that kept no notes yet.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from core.errors import InputError
from core.ids import NodeId
from core.records import MACHINES, NODES, Change, Lifecycle, MachineRecord, NodeRecord
from drivers.access import Access
from drivers.ca import SERIAL, Authority, Pair, serial_of, write_public
from drivers.join import REVOKED_FILE
from drivers.join.published import decode, encode, make, number_of
from drivers.zookeeper_server import looks_into_list

TRIES_MAX = 5
Say = Callable[[str], None]
Retired = Mapping[NodeId, tuple[str, ...]]


class Board(Protocol):
    """Shared records and the published list, as ``drivers.zookeeper_operator.Operator`` has them."""

    def below(self, root: str) -> dict[str, Change]: ...

    def published(self) -> tuple[bytes, int]: ...

    def publish(self, data: bytes, version: int) -> bool: ...


def issued(access: Access, node: NodeId) -> tuple[str, ...]:
    """Serial numbers (hex) of the certificates that authorities within reach signed for a node."""
    found: dict[str, None] = {}
    for folder in authorities(access):
        found |= dict.fromkeys(serial for serial, name in Authority(folder).issued() if name == node)
    with suppress(InputError):  # it joined over the network, or this is not where 'rack init' ran
        found[serial_of(Pair.of(_made(access) / "nodes" / node / "tls", "node").cert)] = None
    return tuple(found)


def authorities(access: Access) -> tuple[Path, ...]:
    """Where an authority may be: beside the operator's folder, or on this node if it boots others."""
    netboot = access.config.tables.netboot
    return (_made(access) / "ca", *([netboot.ca] if netboot is not None else []))


def void_list(board: Board, access: Access, node: NodeId, say: Say) -> bool:
    """Publish the certificates of all retired nodes, so that each node's server refuses them; whether they do.

    ``node`` is whom it is about: the one that was retired or released just now.
    Raises: InputError if the authority's files are of no use.
    """
    tls = access.config.tables.tls
    if tls is None:
        return True  # nobody shows any certificate in this rack
    retired = {gone: (*known, *issued(access, gone)) for gone, known in _retired(board).items()}
    if node in retired and not retired[node]:
        say(f"no certificate of {node} is known here, so none can be void; {_where(access)}")
        return False
    authority = next((one for one in map(Authority, authorities(access)) if one.has_key), None)
    if authority is None:
        data, _ = board.published()
        if node not in retired and decode(data) is None:
            return True
        told = "refuse it" if node in retired else "take it again"
        say(f"the authority's key is not within reach, so only nodes that boot others {told}; {_where(access)}")
        return False
    if not (looks_into_list(access.config) or (authority.folder / REVOKED_FILE).exists()):
        if node in retired:
            needed = "to make them revocable: rack init … --revocation-list (docs/drivers/rack.md)"
            say(f"the certificates of this rack name no list, so that of {node} still counts; {needed}")
        return node not in retired
    return _publish(board, authority, retired, node, say)


def _retired(board: Board) -> dict[NodeId, tuple[str, ...]]:
    """Who is retired, and which certificates the shared records know of each."""
    found: dict[NodeId, tuple[str, ...]] = {}
    for change in board.below(NODES).values():
        if isinstance(change.data, NodeRecord) and change.data.state is Lifecycle.RETIRED:
            found[change.data.node] = change.data.certificates
    for change in board.below(MACHINES).values():
        if isinstance(change.data, MachineRecord) and change.data.node in found:
            found[change.data.node] = (*found[change.data.node], *change.data.certificates)
    return found


def _publish(board: Board, authority: Authority, retired: Retired, node: NodeId, say: Say) -> bool:
    serials = sorted({serial for known in retired.values() for serial in known if SERIAL.fullmatch(serial)})
    for _ in range(TRIES_MAX):
        data, version = board.published()
        there = decode(data)
        if there is None and not serials:
            return True
        new = make(authority, serials, retired, number_of(there, authority.cert))
        if board.publish(encode(new), version):
            write_public(authority.folder / REVOKED_FILE, new.crl.encode("ascii"))
            count = len(set(retired.get(node, ())))
            text = f"{count} certificates of {node} are void" if count else f"the certificates of {node} count again"
            say(f"{text} within a minute")
            return True
    say(f"the list of void certificates changed {TRIES_MAX} times meanwhile; once more, please")
    return False


def _where(access: Access) -> str:
    return f"needed: this command where 'rack init' wrote, with {_made(access) / 'ca'}"


def _made(access: Access) -> Path:
    """The folder that ``rack init`` wrote, as seen from an operator's file."""
    return access.file.absolute().parent.parent
