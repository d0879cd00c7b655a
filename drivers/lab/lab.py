"""A lab brought up and taken down: ``rack lab up``, ``rack lab down``, and what both of them and a run share."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import NodeId, VolumeName
from drivers.access import load_access
from drivers.ceph import Ceph, CephError
from drivers.ceph_cluster import ADMIN, POOL
from drivers.clock import now_ms
from drivers.config import CephTable
from drivers.lab import bmcs, chassis, network, power
from drivers.lab.build import Blueprint, operator_of, write_files
from drivers.lab.converge import waiting
from drivers.lab.demolition import demolish, namespaces_of
from drivers.lab.layout import STATE_FILE, LabFailure, Layout, read_layout, write_layout
from drivers.lab.observer import Observer
from drivers.lab.rack import LabRack, bmc_of
from drivers.lab.shell import call, enter, inside
from drivers.lab.timeline import Timeline
from drivers.seed import ensemble_size

PROGRAMS = ("ip", "nft", "nsenter", "unshare", "setsid", "flock", "java", "ipmi_sim", "losetup", "mount", "ss")
CEPH_PROGRAMS = ("ceph-mon", "ceph-osd", "ceph-mgr", "ceph-authtool", "monmaptool", "qemu-storage-daemon", "mkfs.ext4")
DEBIAN = (
    "zookeeper ceph-mon ceph-mgr ceph-mgr-modules-core ceph-osd ceph-common ceph-base python3-rados python3-rbd "
    "qemu-utils qemu-block-extra qemu-system-common fuse3 e2fsprogs openipmi iproute2 nftables util-linux procps"
)
MACHINE_PROGRAMS = ("qemu-system-x86_64", "dnsmasq")
MACHINE_DEBIAN = "qemu-system-x86 ipxe-qemu ipxe dnsmasq-base"
VOLUME_BYTES = 256 << 20
SETTLE_MS_MAX = 240_000
LOOK_MS = 500
LOOKS = 2
"""A rack has settled when it looks so this many times in a row."""
SAY_MS = 5_000

Say = Callable[[str], None]


def check_machine(volumes: bool, machines: bool = False) -> None:
    """Raises: InputError saying what this machine lacks and how it is got. ``machines``: emulated ones as well."""
    if os.geteuid() != 0:
        raise InputError(["rack lab: namespaces and mounts need root; remedy: sudo rack lab ..."])
    path = f"/usr/local/sbin:/usr/sbin:/sbin:{os.environ.get('PATH', '')}"
    wanted = PROGRAMS + (CEPH_PROGRAMS if volumes else ()) + (MACHINE_PROGRAMS if machines else ())
    missing = [name for name in wanted if shutil.which(name, path=path) is None]
    if missing:
        packages = f"{DEBIAN} {MACHINE_DEBIAN}" if machines else DEBIAN
        remedy = f"remedy on Debian: apt-get install --no-install-recommends {packages}"
        raise InputError([f"rack lab: these programs are missing: {', '.join(missing)}; {remedy}"])
    if volumes and not Path("/dev/fuse").exists():
        raise InputError(["rack lab: /dev/fuse is missing, volumes cannot be mounted; remedy: modprobe fuse"])
    if volumes and not Path("/dev/loop-control").exists():
        raise InputError(["rack lab: /dev/loop-control is missing, volumes cannot be mounted; remedy: modprobe loop"])


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the lab's folder against other commands. Raises: InputError if one is at it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "remedy: wait for it, or use another --dir and --name"
            raise InputError([f"{folder}: another 'rack lab' command works on this lab; {remedy}"]) from None
        yield


def up(plan: Blueprint, say: Say, from_one: bool = False) -> LabRack:
    """Bring a lab up and wait until it has settled; what was begun is taken away again if that fails.

    ``from_one``: press the first node's button only; the rack has to find and power the others on by itself.

    Raises: InputError if this machine cannot, LabFailure if something does not work.
    """
    layout = plan.layout
    check_machine(layout.volumes)
    check_free(layout)
    try:
        return _up(plan, say, from_one)
    except BaseException:
        say("it did not come up; taking away what was begun")
        demolish(layout.name, layout.folder, layout, say)
        raise


def check_free(layout: Layout) -> None:
    """Raises: InputError if the lab's name or its folder is taken."""
    taken = namespaces_of(layout.name)
    remedy = f"remedy: rack lab down --name {layout.name} --dir {layout.folder}, or another --name and --dir"
    if taken or (layout.folder / STATE_FILE).exists():
        what = f"namespace {taken[0]}" if taken else str(layout.folder / STATE_FILE)
        raise InputError([f"rack lab: a lab of this name is up or was left behind ({what} exists); {remedy}"])
    if layout.folder.exists() and any(layout.folder.iterdir()):
        raise InputError([f"{layout.folder}: is not empty and no lab; remedy: another --dir"])


def _up(plan: Blueprint, say: Say, from_one: bool) -> LabRack:
    layout, begun_ms = plan.layout, now_ms()
    write_layout(layout)
    layout.folder.chmod(0o700)
    network.build(layout)
    enter(layout.client)  # the storage's first monitor runs on loopback for a moment: not on the machine's
    say(f"network: {len(layout.nodes)} nodes, switches, clients in namespaces {layout.name}-*")
    write_files(plan)
    say("files: certificates, configurations" + (", storage" if layout.volumes else ""))
    for node in layout.nodes:
        if node.plugged and node not in layout.dark:
            bmcs.start(bmc_of(layout, node))
        else:
            chassis.break_it(layout.home(node.id), "nofeed")
    if layout.volumes:
        _start_mgr(plan)
    answering = sum(node.plugged and node not in layout.dark for node in layout.nodes)
    say(f"BMCs: {answering} of {len(layout.nodes)} answer")
    rack = connect(layout)
    boot(rack, say, from_one or layout.found)
    if layout.found:
        say(f"{len(layout.dark)} machines are in no inventory, and without power until the run begins")
        return rack
    if layout.volumes:
        make_volumes(plan)
        say("volumes: " + ", ".join(spec.volume for spec in plan.catalog.specs if spec.volume))
    spare = tuple(node.id for node in layout.nodes if not node.plugged)
    settle(rack, SETTLE_MS_MAX, say, spare)
    say(f"settled {(now_ms() - begun_ms) / 1_000:.1f} s after the start")
    return rack


def connect(layout: Layout) -> LabRack:
    """What is needed to work with a lab that is up; the caller is in its clients' namespace."""
    access = load_access(operator_of(layout.folder))
    return LabRack(layout, Observer(layout, access), Timeline())


def boot(rack: LabRack, say: Say, from_one: bool = False) -> None:
    """Switch the first node on, give the rack its first records, then the others. Raises: LabFailure."""
    layout = rack.layout
    plugged = [node for node in layout.nodes if node.plugged]
    power.power_on(layout, plugged[0].id)
    end_ms = now_ms() + SETTLE_MS_MAX
    while not rack.observer.seed(min(layout.voters, ensemble_size(len(plugged)))):
        if now_ms() > end_ms:
            raise LabFailure(f"the first node's ZooKeeper server does not serve; see {layout.home(plugged[0].id)}")
        time.sleep(LOOK_MS / 1_000)
    say(f"{plugged[0].id} is up and has the rack's first records")
    if not from_one:
        for node in plugged[1:]:
            power.power_on(layout, node.id)


def settle(rack: LabRack, ms_max: int, say: Say, spare: tuple[NodeId, ...] = ()) -> None:
    """Wait until the rack has converged. Raises: LabFailure saying what is pending."""
    pending = await_settled(rack, ms_max, say, spare)
    if pending:
        raise LabFailure(f"the rack has not settled in {ms_max / 1_000:.0f} s: {'; '.join(pending)}")


def await_settled(rack: LabRack, ms_max: int, say: Say, spare: tuple[NodeId, ...] = ()) -> tuple[str, ...]:
    """Wait until the rack has converged at some looks in a row; what is pending after ``ms_max``, else nothing."""
    end_ms, said_ms, good = now_ms() + ms_max, now_ms(), 0
    while True:
        pending = waiting(rack.layout, rack.observer.state(ask_servers=False), spare)
        if not pending:
            pending = waiting(rack.layout, rack.observer.state(), spare)
        good = 0 if pending else good + 1
        if good >= LOOKS or now_ms() > end_ms:
            return pending
        if pending and now_ms() - said_ms > SAY_MS:
            say(f"waiting: {'; '.join(pending[:3])}")
            said_ms = now_ms()
        rack.timeline.run_until(now_ms() + LOOK_MS)


def down(name: str, folder: Path, say: Say) -> None:
    """Take a lab away, whatever is left of it. Raises: LabFailure."""
    try:
        layout = read_layout(folder)
    except InputError:
        layout = None  # its namespaces and its folder are known all the same
    demolish(layout.name if layout is not None else name, folder, layout, say)


def find(name: str, folder: Path) -> Layout:
    """The lab that is up in a folder. Raises: InputError if there is none."""
    layout = read_layout(folder)
    if layout is None or layout.infra not in namespaces_of(layout.name):
        remedy = "remedy: rack lab up" + (f" --name {name} --dir {folder}" if name else "")
        raise InputError([f"{folder}: no lab is up here; {remedy}"])
    return layout


def _start_mgr(plan: Blueprint) -> None:
    """Run the storage's mgr beside the switches: it may live anywhere, and no node's loss is to take it along."""
    log = plan.ceph.root / "mgr.out"
    words = 'log=$1; shift; exec "$@" >>"$log" 2>&1 </dev/null'
    call(("setsid", "--fork", "sh", "-c", words, "sh", str(log), *inside(plan.layout.infra, plan.ceph.mgr_command())))


def make_volumes(plan: Blueprint) -> None:
    """Make the services' volumes as soon as the storage has a quorum. Raises: LabFailure."""
    ceph = plan.ceph
    table = CephTable(conf=ceph.conf, keyring=ceph.keyring(ADMIN), pool=POOL)
    end_ms = now_ms() + SETTLE_MS_MAX
    link = Ceph(table)
    try:
        for volume in [spec.volume for spec in plan.catalog.specs if spec.volume]:
            _make_volume(link, volume, end_ms)
    finally:
        link.close()


def _make_volume(link: Ceph, volume: VolumeName, end_ms: int) -> None:
    while True:
        try:
            link.connect()
            link.ensure_volume(volume, VOLUME_BYTES)
            return
        except CephError as error:
            if now_ms() > end_ms:
                raise LabFailure(f"the storage does not answer: {error}") from None
        time.sleep(LOOK_MS / 1_000)


def key_of(plan: Blueprint) -> str:
    """What makes two labs equal: nodes, services and timers."""
    layout = plan.layout
    parts = (layout.nodes, plan.catalog.specs, plan.timing, plan.real_services, layout.voters, layout.found)
    return msgspec.json.encode(parts).decode()
