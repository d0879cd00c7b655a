"""A small real cluster that users have written to and that can grow by a host, recovering at Ceph's own pace."""

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from drivers.ceph_cluster import MGR, POOL, CephBroken, CephSettings
from drivers.lab.ceph_local import LocalCluster

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "ceph-mgr", "ceph-authtool", "setpriv")
OSDS, GROUPS = 5, 64
CODED, CODED_GROUPS = "coded", 16
"""A second pool, erasure-coded with two data shards and one coding shard."""
CLEAN_S_MAX = 600
SEEN_CLEAN = 4
"""Figures of PGs lag the map by up to two seconds: they count as clean when they were so often enough, one after the
other."""

SCRIPT = """
import json, os, random, sys, rados
conf, pool, objects = sys.argv[1], sys.argv[2], int(sys.argv[3])
c = rados.Rados(conffile=conf, rados_id="admin"); c.connect(); io = c.open_ioctx(pool)
draw, running = random.Random(6), []
for n in range(objects):
    size = 4 << 20 if n % 20 == 0 else draw.choice((4096, 8192, 16384, 32768))
    running.append(io.aio_write_full(f"rbd_data.1.{n:016x}", os.urandom(size)))
    if len(running) > 16: running.pop(0).wait_for_complete()
for n in range(objects // 40 * int(sys.argv[4])):  # some logs are trimmed, some longer than a new OSD catches up with
    name = f"rbd_data.1.{n * 20 + 1:016x}"
    for _ in range(900 if n % 2 else 200):
        running.append(io.aio_write(name, b"again", 0))
        if len(running) > 16: running.pop(0).wait_for_complete()
for one in running: one.wait_for_complete()
c.shutdown()
"""
FILES = {
    "osd_dump": ("osd", "dump"),
    "osd_crush_dump": ("osd", "crush", "dump"),
    "osd_df_tree": ("osd", "df", "tree"),
    "df_detail": ("df", "detail"),
    "pg_dump": ("pg", "dump"),
    "osd_metadata": ("osd", "metadata"),
}


class GrowingCeph:
    """The running cluster."""

    def __init__(self, local: LocalCluster) -> None:
        self.local = local
        self.conf = local.cluster.conf

    def ask(self, *words: str) -> Any:
        """Run a command of the ``ceph`` program and read its JSON."""
        command = ("ceph", "-c", str(self.conf), "--connect-timeout", "10", *words, "-f", "json")
        said = subprocess.run(command, capture_output=True, timeout=60, check=True).stdout
        return json.loads(said) if said.strip() else None

    def fill(self, objects: int) -> None:
        """Write objects of mostly small size, as users do: a fifth as many into the erasure-coded pool."""
        self.ask("osd", "erasure-code-profile", "set", "two-one", "k=2", "m=1", "crush-failure-domain=host")
        self.ask("osd", "pool", "create", CODED, str(CODED_GROUPS), str(CODED_GROUPS), "erasure", "two-one")
        for pool, count in ((POOL, objects), (CODED, objects // 5)):
            argv = ("/usr/bin/python3", "-I", "-c", SCRIPT, str(self.conf), pool, str(count), str(int(pool == POOL)))
            subprocess.run(argv, check=True, timeout=300)

    def read_into(self, folder: Path) -> Path:
        """Write what an operator would hand to `twin plan` into a folder."""
        folder.mkdir()
        for name, words in FILES.items():
            (folder / f"{name}.json").write_text(json.dumps(self.ask(*words)), encoding="utf-8")
        return folder

    def grow(self) -> None:
        """Add the next host with one OSD, as Ceph is told to since there are installers: new, mkfs, start."""
        cluster, number, unique = self.local.cluster, OSDS, str(uuid.uuid4())
        root, entity = cluster.root, f"osd.{OSDS}"
        section = f"[{entity}]\npublic_addr = 127.0.0.1\ncluster_addr = 127.0.0.1\n"
        self.conf.write_text(
            self.conf.read_text("utf-8") + section + f"crush_location = root=default host=h{number}\n", "utf-8"
        )
        self.ask("osd", "new", unique, str(number))
        caps = ("mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *")
        key = self.ask("auth", "get-or-create-key", entity, *caps)["key"]
        (root / f"{entity}.keyring").write_text(f"[{entity}]\n\tkey = {key}\n", encoding="ascii")
        (root / entity).mkdir()
        words = ("ceph-osd", "-i", str(number), "-c", str(self.conf))
        made = subprocess.run((*words, "--mkfs", "--osd-uuid", unique), capture_output=True, timeout=60, check=False)
        assert made.returncode == 0, made.stderr.decode()[-500:]
        self.local.start(entity, (*words, "-f"))
        until = monotonic() + 60
        while self.ask("osd", "stat")["num_up_osds"] <= OSDS:
            assert monotonic() < until, "the sixth OSD did not come up"
            sleep(0.1)

    def clean_after_s(self) -> float:
        """Wait until every group is clean and has been so for a while; seconds until it was so first."""
        began, first, seen = monotonic(), 0.0, 0
        while monotonic() - began < CLEAN_S_MAX:
            states = {g["state_name"]: g["count"] for g in self.ask("status")["pgmap"]["pgs_by_state"]}
            clean = states == {"active+clean": GROUPS + CODED_GROUPS} and monotonic() - began > 4
            first = first if clean and seen else monotonic() - began
            seen = seen + 1 if clean else 0
            if seen >= SEEN_CLEAN:
                return first
            sleep(0.5)
        raise AssertionError(f"not clean after {CLEAN_S_MAX} s")


@contextmanager
def growing_cluster(ports: tuple[int, int, int], prepare_port: int) -> Iterator[GrowingCeph]:
    """Run one monitor, five OSDs on files, each on a host of its own, and a mgr; with Ceph's own pace of recovery."""
    with TemporaryDirectory(prefix="mx-grow-") as folder:
        settings = CephSettings(
            store="bluestore", monitors=1, groups=GROUPS, grace_s=20, ports=ports, prepare_port=prepare_port
        )
        local = LocalCluster(Path(folder) / "cluster", settings, osds=OSDS)
        cluster = local.cluster
        cluster.prepare()
        text = cluster.conf.read_text("utf-8")
        cluster.conf.write_text(text.replace("osd_recovery_sleep_hdd = 0\n", "osd_recovery_sleep_hdd = 0.1\n"), "utf-8")
        try:
            for index, place in enumerate(cluster.nodes):
                for argv in cluster.daemon_commands(place.name):
                    local.start(f"mon.{place.name}" if argv[0] == "ceph-mon" else f"osd.{index}", argv)
            local.start(MGR, cluster.mgr_command())
            if pending := cluster.wait_ready(60_000):
                raise CephBroken(pending)
            yield GrowingCeph(local)
        finally:
            local.down()
