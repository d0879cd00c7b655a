"""Who was taken out of the rack for good: from the shared records to the gate, the join server and ZooKeeper.

The records of machines say who is retired and which certificates were theirs; every node keeps them in ``roster.json``.
A node that holds the authority's key turns them into a list of revoked certificates beside the authority's certificate,
which its ZooKeeper server reads again at least every 30 s while it runs. Source: measured, docs/drivers/join.md;
OpenJDK 17, ``sun.security.provider.certpath.URICertStore``.
"""

import subprocess
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
from drivers.config import Config
from drivers.log import event as log
from drivers.roster import FILE, read

CUT_MS = 40_000
"""For so long a retired node's connections are closed: by then every server has read its list again."""
CUT_EACH_MS = 5_000
CUT_S_MAX = 2.0


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

    def __init__(
        self,
        retired: RetiredMachines,
        authority: Authority,
        file: Path,
        cut: Callable[[NodeId], None] = lambda _: None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """``cut`` closes the connections that a node has to this one's ZooKeeper server."""
        self._retired = retired
        self._authority = authority
        self._file = file
        self._cut = cut
        self._clock = clock
        self._cut_until_ms: dict[NodeId, int] = {}
        self._cut_next_ms = 0
        self._taken: tuple[MachineRecord, ...] | None = None

    def look(self, gate: Gate) -> None:
        """Take over what changed; costs a look at two files if nothing did. What fails is logged and tried again."""
        records = self._retired.records
        self._cut_off()
        if records is self._taken and self._file.exists():
            return
        before = {record.node for record in self._taken or ()}
        for record in records:
            gate.retire(record.guid, record.node)
            gate.close(record.node)
            if record.node not in before:
                self._cut_until_ms[record.node] = self._clock() + CUT_MS
        try:
            serials = frozenset(map(_number, self._serials(records)))
            if serials != revoked(self._file):
                text = self._authority.revoke((f"{serial:x}" for serial in serials), number=wall_ms() // 1_000)
                write_public(self._file, text)
                log("certificates_revoked", nodes=tuple(record.node for record in records), count=len(serials))
            self._taken = records
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


def cut_off(config: Config, node: NodeId) -> None:
    """Close every connection from a node's address to this node's ZooKeeper server; what fails is logged.

    Source: ``ss -K`` of iproute2, which needs root and a kernel with INET_DIAG_DESTROY (Debian's has it).
    """
    machine = config.machines.get(node)
    if machine is None:
        return
    port = f":{config.tables.zookeeper.client_port}"
    command = ("ss", "-K", "-n", "-H", "-t", "dst", machine.address, "sport", "=", port)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CUT_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log("not_cut_off", about=node, error=str(error))
        return
    if done.returncode or done.stdout.strip():
        log("cut_off", about=node, connections=len(done.stdout.splitlines()), error=done.stderr.strip()[:200])


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
