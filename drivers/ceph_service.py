"""``rack storage``: the service of a node that makes the rack's own storage grow, one process beside agent and netboot.

Every few seconds it keeps this node's daemons running, looks at the storage, and does this node's next step
(``drivers.ceph_growth``). It may be killed at any time: what it began is begun again, and the daemons go on without it.
"""

import contextlib
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import NodeId
from drivers import log
from drivers.ceph import Ceph, CephError
from drivers.ceph_cluster import STORAGE_USER, CephBroken
from drivers.ceph_daemons import Keeper, runner_of
from drivers.ceph_growth import (
    AddMonitor,
    AddOsd,
    AddStandby,
    Decision,
    Here,
    RemakeMonitor,
    RemoveMonitor,
    SetMinSize,
    SetSize,
    Step,
    decide,
)
from drivers.ceph_look import Seen, look
from drivers.ceph_parts import Parts, cannot, keep_monitors
from drivers.clock import now_ms, wall_text
from drivers.config import CephTable, Config, StorageTable
from drivers.first_server import is_in_memory
from drivers.roster import read as read_roster
from drivers.state_file import keep
from drivers.zookeeper_session import Kept

LOOK_S = 3.0
PAUSE_MS, PAUSE_MS_MAX = 5_000, 60_000
JOIN_MS_MAX = 120_000
"""A monitor that was made has copied the others' store and joined them by then, or is made anew."""
CONNECT_MS_MAX = 5_000
FOLDER, FILE = "ceph", "storage.json"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """``run_dir/storage.json``: what the service did last and what it waits for, for people on the node."""

    at: str
    did: str = ""
    waits: tuple[str, ...] = ()


def run(config: Config) -> int:
    """Serve until told to stop. Raises: InputError if the node's file asks for what it does not say how to reach."""
    log.always(node=config.node, process="storage")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    table, ceph = config.tables.storage, config.tables.ceph
    if table is None or ceph is None:
        log.event("storage_stands_by", why=f"{config.file} has no [storage]: this node has no part of the storage")
        stopped.wait()
        return 0
    service = Service(config, table, ceph)
    while not stopped.is_set():
        service.turn()
        stopped.wait(LOOK_S)
    service.close()
    log.event("storage_stops")
    return 0


class Pauses:
    """How long to let be what failed: longer after every failure, until it succeeds."""

    def __init__(self) -> None:
        self._until_ms: dict[str, int] = {}
        self._pause_ms: dict[str, int] = {}

    def over(self, what: str) -> bool:
        """Whether it may be tried."""
        return now_ms() >= self._until_ms.get(what, 0)

    def note(self, what: str, failed: bool) -> None:
        """Note how it went."""
        if not failed:
            self._pause_ms.pop(what, None)
            self._until_ms.pop(what, None)
            return
        pause_ms = self._pause_ms.get(what, PAUSE_MS)
        self._pause_ms[what] = min(2 * pause_ms, PAUSE_MS_MAX)
        self._until_ms[what] = now_ms() + pause_ms


class Service:
    """One node's service. ``waits``: what was not as it will be at the last turn; ``did``: the last step."""

    def __init__(self, config: Config, table: StorageTable, ceph: CephTable) -> None:
        self._config = config
        self._table = table
        self._client_conf = ceph.conf
        self._root = config.tables.state_dir / FOLDER
        self._parts = Parts(self._root, config.node, config.me.address)
        self._keeper = Keeper(runner_of(self._root))
        self._ceph = Ceph(msgspec.structs.replace(ceph, user=table.user, keyring=table.keyring))
        self._kept = Kept(config.tables.run_dir, config.tables.state_dir)
        self._pauses = Pauses()
        self._kept_waits: tuple[str, ...] = ()
        self._absent_since_ms: int | None = None
        self.waits: tuple[str, ...] = ()
        self.did = ""

    def close(self) -> None:
        """Let the storage go. The daemons go on."""
        self._ceph.close()

    def turn(self) -> None:
        """Keep the daemons, look, and do one step. What goes wrong is said and tried again later."""
        said = list(self._problems("keep", self._keep))
        said += self._problems("look", self._grow) if self._pauses.over("look") else self._kept_waits
        self._say(tuple(dict.fromkeys(said)))

    def _problems(self, what: str, act: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        """Do something; what is waited for, or what went wrong, as sentences. After that there is a pause for it."""
        try:
            said = act()
        except CephError as error:
            said, failed = (error.detail,), True
        except CephBroken as error:
            said, failed = (str(error),), True
        except InputError as error:
            said, failed = tuple(error.problems), True
        except OSError as error:
            said, failed = (f"{error.filename or self._root}: {(error.strerror or str(error)).lower()}",), True
        else:
            failed = False
        self._pauses.note(what, failed)
        return said

    def _keep(self) -> tuple[str, ...]:
        return self._keeper.keep(self._parts.daemons())

    def _grow(self) -> tuple[str, ...]:
        self._ceph.connect(CONNECT_MS_MAX)
        seen = look(self._ceph, self._kept.voters(), gone(self._config.tables.state_dir))
        if self._parts.fsid not in ("", seen.fsid):
            raise CephBroken(
                f"{self._root} belongs to another storage ({self._parts.fsid}): take it away to bring this node's disk"
            )
        self._follow(seen)
        decision = self._decide(seen)
        waits = decision.waits
        for step in decision.steps:
            what = type(step).__name__
            if self._pauses.over(what):
                waits += self._problems(what, partial(self._do, step, seen))
                break
            waits += (f"{what} failed, and is tried again",)
        self._kept_waits = waits
        return waits

    def _decide(self, seen: Seen) -> Decision:
        here = Here(
            node=self._config.node,
            osd=self._parts.osd() is not None and not self._parts.forgotten(seen),
            monitor=self._parts.has("mon"),
            manager=self._parts.has("mgr"),
            cannot=cannot(self._root, is_in_memory(self._config.tables.state_dir)),
            trusted=self._table.user == STORAGE_USER,
        )
        decision = decide(here, seen.cluster)
        absent_ms = self._absent_ms(seen)
        if absent_ms is None:
            return decision
        wanted = [step for step in decision.steps if isinstance(step, AddMonitor)]
        if absent_ms < JOIN_MS_MAX:
            others = tuple(step for step in decision.steps if step not in wanted)
            return Decision(steps=others, waits=(*decision.waits, "this node's monitor copies what the others have"))
        if not wanted and (name := self._stop("mon.")):
            self._parts.drop(name)
            log.event("storage_forgot", daemon=name)
        return decision

    def _absent_ms(self, seen: Seen) -> int | None:
        """For how long a monitor that is made here has not been one of the storage's; None if there is no such."""
        if self._config.node in seen.cluster.monitors or not self._parts.has("mon"):
            self._absent_since_ms = None
        elif self._absent_since_ms is None:
            self._absent_since_ms = now_ms()
        return None if self._absent_since_ms is None else now_ms() - self._absent_since_ms

    def _follow(self, seen: Seen) -> None:
        """Have clients and daemons that start from now on know the monitors of now."""
        for conf in {self._client_conf, self._parts.conf}:
            if conf.exists() and keep_monitors(conf, seen.mon_host):
                log.event("storage_monitors", monitors=seen.cluster.monitors, path=str(conf))

    def _do(self, step: Step, seen: Seen) -> tuple[str, ...]:
        """Carry a step out. Raises: CephError, CephBroken, InputError, OSError."""
        began = now_ms()
        match step:
            case AddOsd():
                self._drop_forgotten(seen)
                self._parts.begin(seen, self._table.disk_gib << 30)
                done = f"made {self._parts.make_osd(self._ceph)}"
            case AddMonitor() | RemakeMonitor():
                self._parts.begin(seen, self._table.disk_gib << 30)
                self._stop("mon.")
                done = f"made {self._parts.make_monitor(self._ceph, seen)}"
                self._absent_since_ms = now_ms()
            case AddStandby():
                done = f"made {self._parts.make_manager(self._ceph)}"
            case RemoveMonitor(node):
                self._ceph.command("mon rm", name=node)
                done = f"removed the monitor of {node}"
            case SetSize(pool, size):
                self._ceph.command("osd pool set", pool=pool, var="size", val=str(size))
                done = f"pool {pool} keeps {size} copies from now on"
            case SetMinSize(pool, min_size):
                self._ceph.command("osd pool set", pool=pool, var="min_size", val=str(min_size))
                done = f"a write to pool {pool} needs {min_size} copies from now on"
        self.did = done
        log.event("storage_grows", did=done, took_ms=now_ms() - began)
        return self._keep()

    def _drop_forgotten(self, seen: Seen) -> None:
        """Take away an OSD that was purged: its data is of no use to anybody."""
        if self._parts.forgotten(seen):
            name = self._stop("osd.")
            log.event("storage_forgot", daemon=name)
            self._parts.drop(name)

    def _stop(self, start: str) -> str:
        """Stop this node's daemon of a kind; its name, "" if it has none."""
        for name, argv in self._parts.daemons().items():
            if name.startswith(start):
                self._keeper.stop(name, argv)
                return name
        return ""

    def _say(self, waits: tuple[str, ...]) -> None:
        if waits != self.waits:
            log.event("storage_waits", waits=waits)
        self.waits = waits
        shown = Shown(at=wall_text(), did=self.did, waits=waits)
        folder = self._config.tables.run_dir
        with contextlib.suppress(OSError):  # keep says what it cannot write
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep(folder / FILE, msgspec.json.encode(shown) + b"\n")


def gone(folder: Path) -> tuple[NodeId, ...]:
    """The nodes that were taken out of the rack for good, by the roster in a folder, unless another has followed."""
    records = read_roster(folder) or ()
    living = {record.node for record in records if not record.retired}
    return tuple(sorted({record.node for record in records if record.retired and record.node} - living))
