"""The storage as Moxie uses it: who has a volume open, the fence with its barrier (rule 6), blocks, health and figures.

Every call is bounded by its ``ms_max`` and may be made from any thread. A failure is a ``CephError`` with one of the
reasons of ``core.events``.
"""

import re
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from core.events import Reason
from core.ids import NodeId, VolumeName
from drivers.ceph_link import FarLink, LinkError, NearLink, open_link
from drivers.clock import now_ms
from drivers.config import CephTable

ANSWER_MS_MAX = 5_000
"""Limit of a call that does not say its own."""
LASTING_MS = 10 * 365 * 86_400_000
"""Every entry is made for ten years, and lifted when its hardware has booted again: one that expires un-fences, and a
second "add" does not make an entry last longer (16.2 keeps the first). Source: docs/drivers/ceph.md."""
UNTIL = re.compile(r"until (\S+) \(")
"""The time in what the monitors say of a new entry: "blocklisting ADDRESS until TIME (SECONDS sec)"."""
NAMES_MAX = 64
"""Names tried for each placement group before giving up; 64 groups take about 300 names in all."""
FENCE_OBJECT = "moxie-fence"
SEEN_OBJECT = "moxie-seen"


class CephError(Exception):
    """A call to the storage went wrong. ``detail`` is a sentence for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Osd(msgspec.Struct, frozen=True, kw_only=True):
    """One storage daemon: ``host`` is its bucket in the CRUSH map, ``address`` where it was last reached."""

    id: int
    host: str
    up: bool
    address: str = ""


class Deadline:
    """The time left until a limit."""

    def __init__(self, ms_max: int) -> None:
        self._until_ms = now_ms() + ms_max

    def left(self) -> int:
        """Milliseconds left. Raises: CephError when there are none."""
        left = self._until_ms - now_ms()
        if left <= 0:
            raise CephError("unanswered", "the limit has passed")
        return left


class Ceph:
    """One connection to the storage, which is itself one client instance, of no volume."""

    def __init__(self, table: CephTable) -> None:
        self._table = table
        self._link: NearLink | FarLink | None = None
        self._lock = threading.Lock()
        self._instance = ""
        self._volume_pools: dict[VolumeName, tuple[int, ...]] = {}
        self._objects: dict[tuple[int, int], tuple[str, ...]] = {}
        self._confirmed: dict[str, tuple[tuple[int, int], ...]] = {}

    # -- the connection ---------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether ``connect`` has succeeded; the library reconnects by itself from then on."""
        return self._instance != ""

    @property
    def address(self) -> str:
        """The IP address by which the storage knows this node."""
        return self._instance.rsplit(":", 1)[0].removeprefix("[").removesuffix("]")

    def connect(self, ms_max: int = ANSWER_MS_MAX) -> None:
        """Connect, if that was not done yet. Raises: CephError ``unavailable``, or ``refused`` for a wrong key."""
        with self._lock:
            if self.connected:
                return
            for path in (self._table.conf, self._table.keyring):
                if path is not None and not path.exists():
                    raise CephError("unavailable", f"{path} does not exist; it comes from the storage's administrator")
            keyring = str(self._table.keyring) if self._table.keyring is not None else ""
            link: NearLink | FarLink | None = None
            try:
                link = open_link(str(self._table.conf), self._table.user, keyring)
                instance = link.connect(ms_max)
            except LinkError as error:
                if link is not None:
                    link.close()
                reason: Reason = "refused" if error.reason == "refused" else "unavailable"
                raise CephError(reason, f"cannot connect as client.{self._table.user}: {error.detail}") from error
            self._link, self._instance = link, instance

    def close(self) -> None:
        """Let the connection go."""
        with self._lock:
            link, self._link, self._instance = self._link, None, ""
        if link is not None:
            link.close()

    def command(
        self, prefix: str, *, target: str = "mon", ms_max: int = ANSWER_MS_MAX, text_in: str = "", **args: object
    ) -> Any:
        """Send a command, with ``text_in`` as its input, to ``mon``, ``mgr`` or ``osd.N``; return its JSON.

        Raises: CephError.
        """
        link = self._linked()
        try:
            return link.command(target, {"prefix": prefix, **args}, ms_max, text_in)
        except LinkError as error:
            raise _translated(error) from error

    # -- volumes ----------------------------------------------------------------------------------------------------

    def instances(self, volume: VolumeName, ms_max: int = ANSWER_MS_MAX) -> tuple[str, ...]:
        """List the addresses ("IP:0/NONCE") of the client instances that have a volume open, in order.

        One that was killed stays listed until its watch runs out (30 s) or it is fenced. Raises: CephError.
        """
        link = self._linked()
        try:
            return tuple(link.watchers(self._table.pool, volume, ms_max))
        except LinkError as error:
            raise _translated(error) from error

    def ensure_volume(self, volume: VolumeName, size_bytes: int, ms_max: int = ANSWER_MS_MAX) -> bool:
        """Make a volume if there is none; whether it was made. One that is there keeps its size. Raises: CephError."""
        link = self._linked()
        try:
            return link.make_image(self._table.pool, volume, size_bytes, ms_max)
        except LinkError as error:
            raise _translated(error) from error

    # -- the fence --------------------------------------------------------------------------------------------------

    def fence(self, volume: VolumeName, address: str, block_ms: int, ms_max: int = ANSWER_MS_MAX) -> None:
        """Block an instance for at least ``block_ms`` from now and wait for the barrier: no later write succeeds.

        The answer of the monitors is not enough: writes succeeded up to 93 ms later. Source: facts/ceph.md section 3.
        Again for the same instance it only looks that the entry is there and lasts. Raises: CephError; ``unanswered``
        leaves the fence unconfirmed, though it may have taken place.
        """
        deadline = Deadline(ms_max)
        known = self._confirmed.get(address)
        whole = known is not None and self.blocked(address, deadline.left())
        if self._block(address, deadline) < block_ms:
            # Somebody else's shorter entry. Without it for a moment the instance may write, which harms nobody before
            # this, its first fence, is complete: nobody else has the volume open yet (rule 3).
            self._lift(address, deadline.left())
            whole = False
            if (left_ms := self._block(address, deadline)) < block_ms:
                raise CephError("failed", f"the entry for {address} lasts {left_ms} ms only")
        pools = self._pools_of(volume, deadline.left())
        groups = self._groups(pools, deadline.left())
        if whole and known == groups:
            return
        while True:
            self._barrier(groups, deadline)
            again = self._groups(pools, deadline.left())
            if again == groups:
                break
            groups = again
        self._confirmed[address] = groups

    def _block(self, address: str, deadline: Deadline) -> int:
        """Enter an instance, or leave the entry that it has; return for how long that will last, in ms."""
        said = self.command(
            "osd blocklist", ms_max=deadline.left(), blocklistop="add", addr=address, expire=LASTING_MS / 1_000
        )
        found = UNTIL.search(str(said))
        entry = self.command("osd dump", ms_max=deadline.left())["blocklist"].get(address)
        if found is None or entry is None:
            raise CephError("failed", f"the monitors have no entry for {address}: {said}")
        # Both times are the monitors' own, so that no clock of ours is part of it.
        short = datetime.fromisoformat(found[1]) - datetime.fromisoformat(entry)
        return LASTING_MS - int(short.total_seconds() * 1_000)

    def lift(self, address: str, ms_max: int = ANSWER_MS_MAX) -> None:
        """Forget a blocked instance; one that is not blocked is none. Raises: CephError."""
        self._lift(address, ms_max)

    def _lift(self, address: str, ms_max: int) -> None:
        self._confirmed.pop(address, None)
        self.command("osd blocklist", ms_max=ms_max, blocklistop="rm", addr=address)

    def blocked(self, address: str, ms_max: int = ANSWER_MS_MAX) -> bool:
        """Whether the monitors have an entry for exactly this instance. Raises: CephError."""
        return address in self.command("osd dump", ms_max=ms_max)["blocklist"]

    def prepare(self, volume: VolumeName, ms_max: int = ANSWER_MS_MAX) -> None:
        """Work out now what a fence of this volume would need, so that the first one is quick. Raises: CephError."""
        deadline = Deadline(ms_max)
        pools = self._pools_of(volume, deadline.left())
        for pool, pg_num in self._groups(pools, deadline.left()):
            self._objects_of(pool, pg_num, deadline)

    def _pools_of(self, volume: VolumeName, ms_max: int) -> tuple[int, ...]:
        """Name the pools of a volume, by id; they never change."""
        if volume not in self._volume_pools:
            link = self._linked()
            try:
                self._volume_pools[volume] = tuple(link.pools(self._table.pool, volume, ms_max))
            except LinkError as error:
                raise _translated(error) from error
        return self._volume_pools[volume]

    def _groups(self, pools: tuple[int, ...], ms_max: int) -> tuple[tuple[int, int], ...]:
        """Pair each pool with its number of placement groups now."""
        dump = self.command("osd dump", ms_max=ms_max)
        count = {int(pool["pool"]): int(pool["pg_num"]) for pool in dump["pools"]}
        if any(pool not in count for pool in pools):
            raise CephError("failed", f"a pool is gone: {pools}")
        return tuple((pool, count[pool]) for pool in pools)

    def _objects_of(self, pool: int, pg_num: int, deadline: Deadline) -> tuple[str, ...]:
        """Name one object for each placement group of a pool."""
        key = (pool, pg_num)
        if key not in self._objects:
            link, found = self._linked(), dict[str, str]()
            name = next(p["pool_name"] for p in self.command("osd dump", ms_max=deadline.left())["pools"]
                        if p["pool"] == pool)  # fmt: skip
            for number in range(pg_num * NAMES_MAX):
                words = {"prefix": "osd map", "pool": name, "object": f"{FENCE_OBJECT}-{number}"}
                try:
                    answer = link.command("mon", words, deadline.left())
                except LinkError as error:
                    raise _translated(error) from error
                found.setdefault(str(answer["pgid"]), f"{FENCE_OBJECT}-{number}")
                if len(found) == pg_num:
                    break
            else:
                raise CephError("failed", f"no object found for some group of pool {name}")
            self._objects[key] = tuple(name for _, name in sorted(found.items()))
        return self._objects[key]

    def _barrier(self, groups: tuple[tuple[int, int], ...], deadline: Deadline) -> None:
        """Have every group take a write of ours that carries the newest map: it cannot before it has that map too."""
        link = self._linked()
        try:
            for pool, pg_num in groups:
                names = list(self._objects_of(pool, pg_num, deadline))
                link.latest_map(deadline.left())
                link.write_all(pool, names, deadline.left())
        except LinkError as error:
            raise _translated(error) from error

    # -- daemons, health and figures --------------------------------------------------------------------------------

    def osds(self, ms_max: int = ANSWER_MS_MAX) -> tuple[Osd, ...]:
        """List the storage daemons, in order of ids. Raises: CephError."""
        tree = self.command("osd tree", ms_max=ms_max)["nodes"]
        hosts = {child: str(node["name"]) for node in tree if node["type"] == "host" for child in node["children"]}
        dump = self.command("osd dump", ms_max=ms_max)["osds"]
        return tuple(
            Osd(
                id=o["osd"],
                host=hosts.get(o["osd"], ""),
                up=bool(o["up"]),
                address=str(o.get("public_addr", "")).rpartition(":")[0].strip("[]"),
            )
            for o in dump
        )

    def mark_down(self, host: str, ms_max: int = ANSWER_MS_MAX) -> tuple[int, ...]:
        """Mark the daemons of a host down that count as up, and name them; one that lives comes up again by itself.

        For a host that was proved off: the storage would notice only after its heartbeat grace. Raises: CephError.
        """
        deadline = Deadline(ms_max)
        found = tuple(osd.id for osd in self.osds(deadline.left()) if osd.host == host and osd.up)
        if found:
            self.command("osd down", ms_max=deadline.left(), ids=[str(osd) for osd in found])
        return found

    def take_out(self, osds: Sequence[int], ms_max: int = ANSWER_MS_MAX) -> None:
        """Have the data of daemons copied to others; those that are out already stay so. Raises: CephError."""
        self.command("osd out", ms_max=ms_max, ids=[str(osd) for osd in osds])

    def needed(self, osd: int, ms_max: int = ANSWER_MS_MAX) -> str:
        """Why a daemon must not be destroyed yet, as the storage says it; "" if nothing is lost with it.

        Raises: CephError.
        """
        try:
            self.command("osd safe-to-destroy", target="mgr", ms_max=ms_max, ids=[str(osd)])
        except CephError as error:
            if error.reason in ("failed", "unavailable"):
                return error.detail
            raise
        return ""

    def purge(self, osd: int, ms_max: int = ANSWER_MS_MAX) -> None:
        """Forget a daemon for good, with its place in the CRUSH map and its key.

        The storage looks itself once more whether anything is lost with it. Raises: CephError.
        """
        self.command("osd purge", target="mgr", ms_max=ms_max, id=osd, yes_i_really_mean_it=True)

    def forget_host(self, host: str, ms_max: int = ANSWER_MS_MAX) -> bool:
        """Take an empty host out of the CRUSH map; whether there was one. Raises: CephError."""
        nodes = self.command("osd tree", ms_max=ms_max)["nodes"]
        empty = any(node["type"] == "host" and node["name"] == host and not node["children"] for node in nodes)
        if empty:
            self.command("osd crush rm", ms_max=ms_max, name=host)
        return empty

    def monitors(self, ms_max: int = ANSWER_MS_MAX) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Name the monitors, and those of them that agree now. Raises: CephError."""
        said = self.command("quorum_status", ms_max=ms_max)
        return tuple(str(one["name"]) for one in said["monmap"]["mons"]), tuple(map(str, said["quorum_names"]))

    def remove_monitor(self, name: str, ms_max: int = ANSWER_MS_MAX) -> None:
        """Count a monitor no more; one that runs ends by itself. Raises: CephError."""
        self.command("mon rm", ms_max=ms_max, name=name)

    def seen(self, node: NodeId, ms_max: int) -> None:
        """Write a small object of this node: whether the storage takes writes from here. Raises: CephError."""
        link = self._linked()
        try:
            link.write_to(self._table.pool, f"{SEEN_OBJECT}-{node}", ms_max)
        except LinkError as error:
            raise _translated(error) from error

    def setting(self, daemon: str, key: str, ms_max: int = ANSWER_MS_MAX) -> str:
        """Tell the value of a setting that a daemon (``mon.a``, ``osd.0``) really uses. Raises: CephError."""
        answer = self.command("config show", ms_max=ms_max, target="mgr", who=daemon, key=key)
        return str(answer).strip()

    def health(self, ms_max: int = ANSWER_MS_MAX) -> dict[str, Any]:
        """Tell the cluster's status, with health, quorum, daemons and placement groups. Raises: CephError."""
        return dict(self.command("status", ms_max=ms_max))

    def figures(self, ms_max: int = ANSWER_MS_MAX) -> dict[str, Any]:
        """Gather what a capacity planner needs, each under the name of its command. Raises: CephError."""
        deadline = Deadline(ms_max)
        return {
            "osd dump": self.command("osd dump", ms_max=deadline.left()),
            "osd crush dump": self.command("osd crush dump", ms_max=deadline.left()),
            "df detail": self.command("df", ms_max=deadline.left(), detail="detail"),
            "osd df tree": self.command("osd df", target="mgr", ms_max=deadline.left(), output_method="tree"),
            "pg dump": self.command("pg dump", target="mgr", ms_max=deadline.left()),
        }

    def _linked(self) -> NearLink | FarLink:
        link = self._link
        if link is None:
            raise CephError("unavailable", "not connected to the storage")
        return link


def _translated(error: LinkError) -> CephError:
    reasons: dict[str, Reason] = {"unanswered": "unanswered", "unavailable": "unavailable", "refused": "refused"}
    return CephError(reasons.get(error.reason, "failed"), error.detail)
