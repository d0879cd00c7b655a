"""Who was taken out of the rack for good: from the shared records to the gate, the join server and ZooKeeper.

The records of machines say who is retired and which certificates were theirs; every node keeps them in ``roster.json``.
A node that holds the authority's key turns them into a list of revoked certificates beside the authority's certificate,
which its ZooKeeper server reads again at least every 30 s while it runs. Source: measured, docs/drivers/join.md;
OpenJDK 17, ``sun.security.provider.certpath.URICertStore``.
"""

from collections.abc import Iterable
from pathlib import Path

from cryptography import x509

from core.errors import InputError
from core.gate import Gate
from core.identity import same_machine
from core.ids import NO_NODE, NodeId
from core.records import MachineRecord
from drivers.ca import Authority, write_public
from drivers.clock import wall_ms
from drivers.log import event as log
from drivers.roster import FILE, read


class RetiredMachines:
    """The retired machines that a node knows of. Reads the roster in ``folder`` again whenever it was changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stamp: tuple[int, int, int] | None = None
        self._records: tuple[MachineRecord, ...] = ()

    @property
    def records(self) -> tuple[MachineRecord, ...]:
        """Their records, as of now."""
        try:
            stat = (self._folder / FILE).stat()
        except OSError:
            return self._records  # whoever was retired stays so, also while the file is gone
        stamp = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if stamp != self._stamp and (found := read(self._folder)) is not None:
            self._stamp, self._records = stamp, tuple(record for record in found if record.retired)
        return self._records

    def machine(self, uuid: str) -> NodeId:
        """The node that the machine of this UUID was; "" if it was not retired."""
        return next((record.node for record in self.records if same_machine(record.guid, uuid)), NO_NODE)

    def certificate(self, serial: str) -> bool:
        """Whether a certificate of this serial number (hex) counts no more."""
        return _number(serial) in {_number(one) for record in self.records for one in record.certificates}


class Revoker:
    """Keeps the gate and the list of revoked certificates of one node like the records."""

    def __init__(self, retired: RetiredMachines, authority: Authority, file: Path) -> None:
        self._retired = retired
        self._authority = authority
        self._file = file
        self._taken: tuple[MachineRecord, ...] | None = None

    def look(self, gate: Gate) -> None:
        """Take over what changed; costs a look at two files if nothing did. What fails is logged and tried again."""
        records = self._retired.records
        if records is self._taken and self._file.exists():
            return
        for record in records:
            gate.retire(record.guid, record.node)
            gate.close(record.node)
        try:
            serials = frozenset(map(_number, self._serials(records)))
            if serials != revoked(self._file):
                text = self._authority.revoke((f"{serial:x}" for serial in serials), number=wall_ms() // 1_000)
                write_public(self._file, text)
                log("certificates_revoked", nodes=tuple(record.node for record in records), count=len(serials))
            self._taken = records
        except InputError as error:
            log("not_revoked", error="; ".join(error.problems))

    def _serials(self, records: Iterable[MachineRecord]) -> tuple[str, ...]:
        """What was written into the records, and what this authority itself signed for those nodes."""
        gone = {record.node for record in records}
        known = tuple(serial for record in records for serial in record.certificates)
        return known + tuple(serial for serial, name in self._authority.issued() if name in gone)


def revoked(file: Path) -> frozenset[int] | None:
    """The serial numbers in a list of revoked certificates; None if there is no list that can be read."""
    try:
        found = x509.load_pem_x509_crl(file.read_bytes())
    except (OSError, ValueError):
        return None
    return frozenset(entry.serial_number for entry in found)


def _number(serial: str) -> int:
    """A serial number from its hex form; -1, which no certificate has, for what is none."""
    try:
        return int(serial, 16)
    except ValueError:
        return -1
