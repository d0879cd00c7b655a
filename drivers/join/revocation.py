"""Who was taken out of the rack for good: from the shared records to the gate, the join server and ZooKeeper.

The records of machines say who is retired and which certificates were theirs; every node keeps them in ``roster.json``.
A node that holds the authority's key turns them into a list of revoked certificates beside the authority's certificate,
which its ZooKeeper server reads again at least every 30 s while it runs. What an operator published besides
(``drivers.join.published``) counts as well: nodes of the inventory may have no record of a machine.
Source: measured, docs/drivers/join.md; OpenJDK 17, ``sun.security.provider.certpath.URICertStore``.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography import x509

from core.errors import InputError
from core.gate import Gate
from core.identity import same_machine
from core.ids import NO_NODE, NodeId
from core.records import MachineRecord
from drivers.ca import Authority, write_public
from drivers.clock import now_ms, wall_ms
from drivers.join import published
from drivers.join.cut import CUT_EACH_MS, CUT_MS
from drivers.log import event as log
from drivers.roster import FILE, read

Stamp = tuple[int, int, int]


class RetiredMachines:
    """The retired machines that a node knows of. Reads what is kept in ``folder`` again whenever it was changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: Stamp | None = None
        self._records: tuple[MachineRecord, ...] = ()
        self._published_stamp: Stamp | None = None
        self._void: frozenset[int] = frozenset()

    @property
    def records(self) -> tuple[MachineRecord, ...]:
        """Their records, as of now."""
        stamp = _stamp(self._folder / FILE)
        if stamp not in (None, self._stamp) and (found := read(self._folder)) is not None:
            self._stamp, self._records = stamp, tuple(record for record in found if record.retired)
        return self._records  # whoever was retired stays so, also while the file is gone

    @property
    def void(self) -> frozenset[int]:
        """The serial numbers of an operator's list, as of now. This node's agent has found it to be the authority's."""
        stamp = _stamp(self._folder / published.FILE)
        if stamp not in (None, self._published_stamp) and (kept := published.kept_in(self._folder)) is not None:
            self._published_stamp, self._void = stamp, _serials(kept.crl.encode()) or frozenset()
        return self._void

    def machine(self, uuid: str) -> NodeId:
        """The node that the machine of this UUID was; "" if it was not retired."""
        return next((record.node for record in self.records if same_machine(record.guid, uuid)), NO_NODE)

    def certificate(self, serial: str) -> bool:
        """Whether a certificate of this serial number (hex) counts no more."""
        number = _number(serial)
        return number in self.void or number in {_number(o) for record in self.records for o in record.certificates}


class Revoker:
    """Keeps the gate and the list of revoked certificates of one node like the records."""

    def __init__(
        self,
        retired: RetiredMachines,
        authority: Authority,
        file: Path,
        cut: Callable[[NodeId], None] = lambda _: None,
        clock: Callable[[], int] = now_ms,
        listed: Callable[[], bool] = lambda: True,
    ) -> None:
        """``cut`` closes the connections that a node has to this one's ZooKeeper server.

        ``listed``: whether that server goes by a list. Where it never did there are certificates that name none, and a
        list would shut their nodes out.
        """
        self._retired = retired
        self._authority = authority
        self._file = file
        self._cut = cut
        self._clock = clock
        self._listed = listed
        self._cut_until_ms: dict[NodeId, int] = {}
        self._cut_next_ms = 0
        self._taken: tuple[tuple[MachineRecord, ...], frozenset[int]] | None = None

    def look(self, gate: Gate) -> None:
        """Take over what changed; costs a look at two files if nothing did. What fails is logged and tried again."""
        records, void = self._retired.records, self._retired.void
        self._cut_off()
        if self._taken is not None and records is self._taken[0] and void is self._taken[1] and self._file.exists():
            return
        before = {record.node for record in self._taken[0]} if self._taken is not None else set()
        for record in records:
            gate.retire(record.guid, record.node)
            gate.close(record.node)
            if record.node not in before:
                self._cut_until_ms[record.node] = self._clock() + CUT_MS
        try:
            serials = void | frozenset(map(_number, self._serials(records)))
            if serials != revoked(self._file) and self._listed():
                text = self._authority.revoke((f"{serial:x}" for serial in serials), number=wall_ms() // 1_000)
                write_public(self._file, text)
                log("certificates_revoked", nodes=tuple(record.node for record in records), count=len(serials))
            self._taken = records, void
        except InputError as error:
            log("not_revoked", error="; ".join(error.problems))

    def _cut_off(self) -> None:
        """Close what newly retired nodes have open, again and again until the server itself refuses them."""
        now = self._clock()
        if not self._cut_until_ms or now < self._cut_next_ms:
            return
        self._cut_next_ms = now + CUT_EACH_MS
        for node, until_ms in list(self._cut_until_ms.items()):
            self._cut(node)
            if now >= until_ms:
                del self._cut_until_ms[node]

    def _serials(self, records: Iterable[MachineRecord]) -> tuple[str, ...]:
        """What was written into the records, and what this authority itself signed for those nodes."""
        gone = {record.node for record in records}
        known = tuple(serial for record in records for serial in record.certificates)
        return known + tuple(serial for serial, name in self._authority.issued() if name in gone)


def revoked(file: Path) -> frozenset[int] | None:
    """The serial numbers in a list of revoked certificates; None if there is no list that can be read."""
    try:
        return _serials(file.read_bytes())
    except OSError:
        return None


def _serials(pem: bytes) -> frozenset[int] | None:
    try:
        return frozenset(entry.serial_number for entry in x509.load_pem_x509_crl(pem))
    except ValueError:
        return None


def _stamp(file: Path) -> Stamp | None:
    """What differs if a file was written again; None if there is none."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _number(serial: str) -> int:
    """A serial number from its hex form; -1, which no certificate has, for what is none."""
    try:
        return int(serial, 16)
    except ValueError:
        return -1
