"""``rack init --first``: this machine becomes the first server of a rack that finds, boots and admits the others.

It makes what ``rack init`` makes for a listed rack, from a few answers: authority, keys, an inventory with one node and
the networks to look in, the node's own files, and where the storage's programs are there, a storage of one node. Each
step is made once and kept; again is harmless, and goes on where an interrupted run ended.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import NodeId
from drivers import first_ground
from drivers.ca import write_public, write_secret
from drivers.first_answers import Answers, from_terminal, gather, keep
from drivers.first_ground import Ground
from drivers.first_storage import Storage, can_be_made, make_storage
from drivers.init import RUN_DIR, CephAccess, Plan, node_folder, operator_file, prepare
from drivers.toml_text import toml_text
from drivers.zookeeper_server import FIRST_SERVER
from formats.catalog import load_catalog
from formats.load import read_toml
from formats.problems import Problems

NETBOOT: dict[str, object] = {
    "name": "netboot",
    "run": "everywhere",
    "health": {"kind": "http", "port": first_ground.HTTP_PORT, "path": "/health", "every_ms": 5_000},
    "process": {"command": ["{python}", "-m", "drivers.cli", "netboot", "--config", "{config}"]},
}
"""The service that boots machines; a catalog that has none gets it."""
STORAGE: dict[str, object] = {
    "name": "storage",
    "run": "everywhere",
    "process": {"command": ["{python}", "-m", "drivers.cli", "storage", "--config", "{config}"]},
}
"""The service that makes the rack's own storage grow; a catalog gets it where the first server makes a storage."""
NETWORK, ACCESS = "bmcs", "rack"
BMC_CA = "bmc-ca.pem"
MEMORY_GIB_MAX, CORES_MAX = 65_536, 4_096


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything goes. ``home``: this node's files; ``out``: authority and operator; ``state_dir``: the rest."""

    home: Path
    out: Path
    state_dir: Path
    run_dir: Path = RUN_DIR

    @property
    def images(self) -> Path:
        """The images that this node boots machines with."""
        return self.state_dir / "images"


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What there is now. ``new``: whether this node had no files before; ``said``: what was done, a sentence each."""

    node: NodeId
    address: str
    image: str
    new: bool
    said: tuple[str, ...]


def make(answers: Answers, places: Places, ceph: CephAccess | None = None, say: Callable[[str], None] = print) -> Made:
    """Make this machine the first server. ``ceph``: a storage that is there already; ``say``: tells what takes long.

    Raises: InputError with everything that is wrong; then nothing was made, or what was made is used the next time.
    """
    from drivers.first_image import put_images, remember_words  # reads whole images; only here
    from drivers.first_operator import hand_over

    ground = look(answers, places)
    said = []
    say("checking the image")
    image, key = put_images(answers, places.images)
    if first_ground.bring_up(ground, answers.interface, answers.gateway):
        said.append(f"gave {answers.interface} the address {ground.address}/{ground.prefix}")
    for folder in (places.out, places.state_dir):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep(answers, places.out)
    growing = ceph is None and can_be_made()
    inventory, catalog = write_inputs(answers, ground, places.out, (NETBOOT, STORAGE) if growing else (NETBOOT,))
    own: Storage | None = None
    if ceph is None:
        own, more = make_storage(places.state_dir / "ceph", answers.node, ground.address, say)
        said += more
    settings: dict[str, object] = {
        **answers.settings,
        "address": {"interface": answers.interface},
        "netboot": {
            "interface": answers.interface,
            "images": places.images,
            "image": image,
            "key": key,
            "ca": places.out / "ca",
            "mode": answers.mode,
        },
        **({"storage": {"user": own.growth.user, "keyring": own.growth.keyring}} if own is not None else {}),
    }
    plan = Plan(
        inventory=inventory,
        catalog=catalog,
        out=places.out,
        first=NodeId(answers.node),
        ceph=own.nodes if own is not None else ceph,
        operator_ceph=own.operator if own is not None else None,
        state_dir=places.state_dir,
        run_dir=places.run_dir,
        settings=settings,
    )
    made = prepare(plan)
    if made.authority_is_new:
        said.append(f"made the rack's authority in {places.out / 'ca'}: a copy of it belongs somewhere else")
    if not ground.uuid:
        said.append(f"this machine's firmware shows no UUID: keep its own BMC out of {answers.management}")
    new = put_home(node_folder(places.out, NodeId(answers.node)), places.home)
    said.append(f"{'wrote' if new else 'renewed'} the files of {answers.node} in {places.home}")
    words = {"moxie.node": answers.node, "moxie.ip": f"{ground.address}/{ground.prefix}", "moxie.mac": ground.mac}
    if remember_words(words | ({"moxie.gw": answers.gateway} if answers.gateway else {})):
        said.append("told the boot loader of this machine its address, for every boot")
    if hand_over(operator_file(places.out).parent):
        said.append("put what the operator's commands need on the key: moxie/operator, for a machine with a keyboard")
    return Made(node=NodeId(answers.node), address=ground.address, image=image, new=new, said=tuple(said))


def look(answers: Answers, places: Places) -> Ground:
    """Look at everything that can be wrong before anything is made: the machine, the images, the catalog.

    Raises: InputError with all of it. Only whether an image is what was signed is seen later: that takes its time.
    """
    from drivers.first_image import find_images

    problems, ground = Problems("rack init --first"), None
    try:
        ground = first_ground.look(answers, first_ground.serves(places.run_dir))
    except InputError as error:
        problems.take(error)
    for check in (lambda: find_images(answers, places.images), lambda: check_catalog(answers)):
        try:
            check()
        except InputError as error:
            problems.take(error)
    problems.check()
    assert ground is not None
    return ground


def check_catalog(answers: Answers) -> None:
    """Read the catalog as it will be, with the services of a first server. Raises: InputError."""
    if answers.catalog is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder) / answers.catalog.name
        merged.write_bytes(toml_text(_services(answers, (NETBOOT, STORAGE))).encode())
        try:
            load_catalog(merged)
        except InputError as error:
            where = f"--catalog {answers.catalog}"
            raise InputError([problem.replace(str(merged), where) for problem in error.problems]) from None


def put_home(folder: Path, home: Path) -> bool:
    """Copy a node's folder to where its supervisor looks; True if nothing was there. Secrets stay secret.

    The mark of the first server is copied with ``node.toml`` only, which comes last: once the ensemble has grown the
    node removes it, and a second copy would let an empty disk begin a second rack.
    """
    new = not (home / "node.toml").exists()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / "node.toml")
    for path in (*paths, folder / "node.toml"):
        name = path.relative_to(folder)
        if name == Path(FIRST_SERVER) and not new:
            continue
        data = path.read_bytes()
        if not _holds(home / name, data):
            secret = not path.stat().st_mode & 0o077
            (write_secret if secret else write_public)(home / name, data)
    return new


def told(made: Made, places: Places, systemd: bool, starts: bool = False) -> str:
    """Say what was done and what comes next; ``starts``: that it is started now."""
    config, operator = places.home / "node.toml", operator_file(places.out)
    start = "systemctl start moxie-daemons moxie" if systemd else f"rack supervisor --config {config}"
    lines = [f"{made.node} at {made.address} is the first server; machines boot image {made.image}"]
    lines += [f"  {sentence}" for sentence in made.said]
    if lost := [str(path) for path in (places.home, places.out) if is_in_memory(path)]:
        lines.append(f"  {' and '.join(lost)} in memory only: lost at the next boot; give this machine a disk for it")
    if starts:
        return "\n".join([*lines, "  starting it"])
    lines += [
        f"  start it:                   {start}",
        f"  once, as soon as it runs:   rack init --seed-records --config {operator}",
        f"  then watch machines join:   rack status --watch --config {operator}",
    ]
    return "\n".join(lines)


def is_in_memory(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Whether a folder is lost with the power."""
    rows = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    best = max(
        (row for row in rows if len(row) > 2 and path.is_relative_to(row[1])), key=lambda row: len(row[1]), default=None
    )
    return best is not None and best[2] in ("tmpfs", "ramfs", "overlay") and _root_is_ours()


def run(arguments: argparse.Namespace) -> int:
    """Do it, and say what comes next. Raises: InputError."""
    state_dir = arguments.state.absolute()
    out = (arguments.out or state_dir / "rack").absolute()
    answers = gather(arguments, out, from_terminal())
    places = Places(home=arguments.home.absolute(), out=out, state_dir=state_dir)
    systemd = Path("/etc/systemd/system/moxie.service").exists()
    made = make(answers, places, CephAccess.asked(arguments))
    print(told(made, places, systemd, arguments.start), flush=True)
    if arguments.start:
        from drivers.first_start import start

        start(operator_file(places.out), print)
    return 0


def write_inputs(answers: Answers, ground: Ground, out: Path, more: tuple[dict[str, object], ...]) -> tuple[Path, Path]:
    """Write inventory and catalog, to which those of ``more`` are added that it lacks. Raises: InputError."""
    password = out / "bmc-password"
    if not _holds(password, answers.bmc_password.read_bytes()):
        write_secret(password, answers.bmc_password.read_bytes())
    if answers.bmc_ca is not None and not _holds(out / BMC_CA, answers.bmc_ca.read_bytes()):
        write_public(out / BMC_CA, answers.bmc_ca.read_bytes())
    inventory, catalog = out / "inventory.toml", out / "catalog.toml"
    if not inventory.exists():
        head = (
            "# The rack as its first server began it. More nodes are found; what is known of them may be added here.\n"
        )
        write_public(inventory, (head + toml_text(_inventory(answers, ground, password.name))).encode())
    text = toml_text(_services(answers, more)).encode()
    if not _holds(catalog, text):
        write_public(catalog, text)
    return inventory, catalog


def _services(answers: Answers, more: tuple[dict[str, object], ...]) -> dict[str, object]:
    """The tables of the catalog, with those of ``more`` that it lacks. Raises: InputError."""
    raw: dict[str, object] = {"name": "first"} if answers.catalog is None else read_toml(answers.catalog, "a catalog")
    services = raw.get("service", [])
    if isinstance(services, list):
        named = [one.get("name") for one in services if isinstance(one, dict)]
        raw["service"] = [*(one for one in more if one["name"] not in named), *services]
    return raw


def _inventory(answers: Answers, ground: Ground, password: str) -> dict[str, object]:
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    node: dict[str, object] = {
        "id": answers.node,
        "number": ground.number,
        "address": ground.address,
        "cores": min(os.cpu_count() or 1, CORES_MAX),
        "memory_gib": min(max(memory_gib, 1), MEMORY_GIB_MAX),
        "uuid": ground.uuid or None,
        "macs": [ground.mac] if ground.mac else [],
    }
    access = {"name": ACCESS, "driver": answers.bmc_driver, "user": answers.bmc_user, "password_file": password}
    access |= {"ca": BMC_CA} if answers.bmc_ca is not None else {}
    return {
        "node": [node],
        "network": [{"name": NETWORK, "subnet": answers.management, "access": [access]}],
        "boot": {
            "subnet": answers.boot,
            "pool": answers.pool,
            "gateway": answers.gateway,
            "install": answers.install,
        },
    }


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _root_is_ours() -> bool:
    """Whether this machine runs our image: elsewhere an overlay may well be on a disk."""
    return Path("/run/moxie/image").exists()
