"""The list of revoked certificates that an operator's command publishes, for every node that cannot sign one itself.

Nodes that hold the authority's key make their list from the records of machines (``drivers.join.revocation``). Others
cannot, and a node of the inventory may have no record of a machine. So ``rack retire`` signs the whole list where the
authority is, and leaves it at one path of the ensemble; each agent looks there, and takes what the authority signed and
is newer than what it has. Whoever may write there can hold a list back, and not make one.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from core.errors import InputError
from core.ids import NodeId
from drivers import zookeeper_server as server
from drivers.clock import now_ms, wall_ms
from drivers.config import Config
from drivers.join.cut import CUT_EACH_MS, CUT_MS, cut_off
from drivers.log import event as log
from drivers.loop import Crew, Loop
from drivers.state_file import write_whole

if TYPE_CHECKING:
    from cryptography import x509

    from drivers.ca import Authority

FILE = "revoked.json"
"""Its name in ``state_dir``: what was published, once it was found to be the authority's."""
BYTES_MAX = 900 << 10
"""Below ZooKeeper's limit for one node (``jute.maxbuffer``, 1 MiB): some 20,000 certificates."""
LOOK_MS, ANSWER_MS_MAX = 10_000, 5_000

Peek = Callable[[str, Callable[[bytes], None], int], None]
"""Reads what lies at a path of the ensemble; the answer comes in the loop, or never."""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What is published. ``crl``: the signed list in PEM; ``nodes``: who was retired, so that they are cut off."""

    crl: str
    nodes: tuple[NodeId, ...] = ()


def encode(published: Published) -> bytes:
    """Write it as it lies in the ensemble."""
    return msgspec.json.encode(published)


def decode(data: bytes) -> Published | None:
    """Read what lies there; None if it is nothing of the kind."""
    try:
        return msgspec.json.decode(data, type=Published) if len(data) <= BYTES_MAX else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def make(authority: "Authority", serials: Iterable[str], nodes: Iterable[NodeId], before: int) -> Published:
    """Sign a list of these certificates (serial numbers in hex), newer than number ``before``.

    Raises: InputError if the authority's key is missing, or the list would be too long to be published.
    """
    number = max(wall_ms() // 1_000, before + 1)
    made = Published(crl=authority.revoke(serials, number=number).decode("ascii"), nodes=tuple(sorted(nodes)))
    if len(encode(made)) > BYTES_MAX:
        raise InputError(["the list of revoked certificates is too long to be published; needed: a new authority"])
    return made


def read_list(published: Published, ca: Path) -> "x509.CertificateRevocationList | None":
    """The list, if the authority with this certificate signed it."""
    from cryptography import x509  # an agent loads this only when a list changed
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        found = x509.load_pem_x509_crl(published.crl.encode())
        key = x509.load_pem_x509_certificate(ca.read_bytes()).public_key()
        if isinstance(key, ec.EllipticCurvePublicKey) and found.is_signature_valid(key):
            return found
    except (OSError, ValueError, TypeError, InvalidSignature):
        return None
    return None


def number_of(published: Published | None, ca: Path) -> int:
    """How new a list is, by the number that grows with every list; -1 if it is none of this authority."""
    from cryptography import x509

    found = read_list(published, ca) if published is not None else None
    try:
        return found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number if found is not None else -1
    except x509.ExtensionNotFound:
        return -1


def kept_in(folder: Path) -> Published | None:
    """What a node took last; None if it never did."""
    path = folder / FILE
    try:
        return decode(path.read_bytes()) if path.stat().st_size <= BYTES_MAX else None
    except OSError:
        return None


class Follower:
    """Has one node follow what is published at ``path``, and cut off who was retired.

    A node that signs its own list has the boot service put both together: there the server's list is not written here.
    """

    def __init__(self, config: Config, loop: Loop, peek: Peek, path: str) -> None:
        self._config = config
        self._loop = loop
        self._peek = peek
        self._path = path
        self._crew = Crew(loop, "revoked", 1)
        self._refused = b""
        self._nodes: tuple[NodeId, ...] = ()
        self._cut_until_ms = self._cut_next_ms = 0
        if config.tables.tls is not None:
            loop.post(self._look)

    def _look(self) -> None:
        self._loop.after(LOOK_MS if now_ms() >= self._cut_until_ms else CUT_EACH_MS, self._look)
        if not self._crew.busy:
            self._peek(self._path, self._take, ANSWER_MS_MAX)
            if now_ms() < self._cut_until_ms:
                self._crew.do(self._cut_off, _nothing)

    def _take(self, data: bytes) -> None:
        if data and data != self._refused and not self._crew.busy:
            self._crew.do(lambda: self.take(data), _nothing)

    def take(self, data: bytes) -> bool:
        """Take up a list if it is the authority's and not older than what there is; whether this node goes by it."""
        tables = self._config.tables
        assert tables.tls is not None
        published, kept = decode(data), kept_in(tables.state_dir)
        if published is not None and published != kept:
            if self._older(published, kept, tables.tls.ca):
                self._refused = data
                log("list_refused", why="not signed by this rack's authority, or older than what is known")
                return False
            before = kept.nodes if kept is not None else ()
            self._nodes = tuple(node for node in published.nodes if node not in before and node != self._config.node)
            self._cut_until_ms = now_ms() + (CUT_MS if self._nodes else 0)
        try:
            if published is not None and published != kept:
                tables.state_dir.mkdir(parents=True, exist_ok=True)
                write_whole(tables.state_dir / FILE, data)
                log("list_taken", nodes=published.nodes)
            return published is not None and self._hand_over(published)
        except (OSError, InputError) as error:
            log("list_not_taken", error=str(error))
            return False

    def _older(self, published: Published, kept: Published | None, ca: Path) -> bool:
        return number_of(published, ca) <= number_of(kept, ca)

    def _hand_over(self, published: Published) -> bool:
        """Give the list to this node's server, if it goes by one; it reads it again by itself."""
        file = server.revoked_file(self._config)
        if self._config.tables.netboot is not None:
            return True
        if not server.looks_into_list(self._config):
            return False  # a rack whose certificates name no list: with one its server would take nobody
        data = published.crl.encode("ascii")
        if not file.exists() or file.read_bytes() != data:
            from drivers.ca import write_public

            write_public(file, data)
        return True

    def _cut_off(self) -> None:
        for node in self._nodes:
            cut_off(self._config, node)


def _nothing(_: object) -> None:
    """Whatever came of it is in the log."""
