"""Whether a machine can be the first server of a rack: rights, network card, subnets, password, ports."""

import ipaddress
import json
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.ca import read
from drivers.children import PATH
from drivers.first_answers import NOT_ROOT, Answers, flag
from drivers.given_files import PASSWORD_BYTES_MAX
from drivers.networks import BootTable, check_boot, subnet_of
from formats.problems import Problems, one_of

PREFIXES = (16, 29)
"""A boot network holds the nodes' numbers (up to 255) and a pool; a larger one is a mistake in typing."""
NUMBERS_MAX = 255
HTTP_PORT, JOIN_PORT = 8_080, 8_443
IP_SECONDS_MAX = 10
PROGRAMS = {"java": "default-jre-headless zookeeper", "dnsmasq": "dnsmasq-base ipxe", "nft": "nftables"}
"""What a first server runs by itself, and the Debian packages of it."""
DMI = Path("/sys/class/dmi/id/product_uuid")


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about this machine. ``number``: of this node; ``there``: its address is up already."""

    number: int
    address: str
    prefix: int
    there: bool
    mac: str
    uuid: str


def look(answers: Answers, serving: bool, dmi: Path = DMI) -> Ground:
    """Check this machine and the answers about it. ``serving``: our own netboot service runs and has its ports.

    Raises: InputError with everything that is wrong.
    """
    problems = Problems("rack init --first")
    if os.geteuid() != 0:
        problems.say(NOT_ROOT)
    _check_programs(problems)
    links = _links(problems)
    net = _boot_net(answers, problems)
    _check_management(answers, net, problems)
    _check_password(answers.bmc_password, problems)
    _check_ca(answers, problems)
    link = links.get(answers.interface)
    if link is None:
        problems.add("--interface", answers.interface, f"no such network card; allowed: {one_of(sorted(links))}")
    ground = Ground(number=1, address="", prefix=0, there=False, mac="", uuid=_identity(dmi))
    if net is not None and link is not None:
        _check_others(answers, net, links, problems)
        ground = _on_link(ground, link, net, answers, problems)
        _check_table(answers, ground, problems)
    if not serving and os.geteuid() == 0 and link is not None:
        _check_ports(answers, problems)
    problems.check()
    return ground


def bring_up(ground: Ground, interface: str, gateway: str = "") -> bool:
    """Give this machine its address on the boot network, if it has none there; True if it was given now.

    ``gateway``: the way out, also to management networks that are routed; kept to only with the address.
    Raises: InputError if the kernel refuses.
    """
    if ground.there:
        return False
    address = f"{ground.address}/{ground.prefix}"
    steps = [("link", "set", interface, "up"), ("addr", "add", address, "dev", interface)]
    if gateway:
        steps.append(("route", "replace", "default", "via", gateway, "dev", interface))
    for words in steps:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=IP_SECONDS_MAX, check=False)
        if done.returncode:
            raise InputError([f"ip {' '.join(words)}: {done.stderr.strip()}; needed: a card that takes {address}"])
    return True


def _check_programs(problems: Problems) -> None:
    for program, packages in PROGRAMS.items():
        if shutil.which(program, path=PATH) is None:
            remedy = f"apt-get install {packages}, or an image of profile hyperconverged"
            problems.say(f"{program}: not installed, and the rack begins on this machine; needed: {remedy}")


def _links(problems: Problems) -> dict[str, dict[str, object]]:
    """The network cards as ``ip`` shows them."""
    try:
        done = subprocess.run(["ip", "-j", "addr", "show"], capture_output=True, timeout=IP_SECONDS_MAX, check=True)
        return {link["ifname"]: link for link in json.loads(done.stdout) if link.get("ifname")}
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        problems.say(f"ip addr: {error}; needed: the package iproute2")
        return {}


def _boot_net(answers: Answers, problems: Problems) -> ipaddress.IPv4Network | None:
    try:
        net = ipaddress.IPv4Network(answers.boot)
    except ValueError:
        try:
            meant = f'; did you mean "{ipaddress.IPv4Network(answers.boot, strict=False)}"?'
        except ValueError:
            meant = ""
        problems.add("--boot", answers.boot, f'allowed: an IPv4 subnet such as "10.98.0.0/24"{meant}')
        return None
    if not PREFIXES[0] <= net.prefixlen <= PREFIXES[1]:
        about = f"has {net.num_addresses} addresses; allowed: /{PREFIXES[0]} to /{PREFIXES[1]}"
        problems.add("--boot", answers.boot, about)
        return None
    return net


def _check_management(answers: Answers, net: ipaddress.IPv4Network | None, problems: Problems) -> None:
    management = subnet_of(answers.management, "--management", problems)
    if management is not None and net is not None and management.version == 4 and management.overlaps(net):
        about = f"overlaps --boot, {net}; allowed: BMCs in a subnet of their own"
        problems.add("--management", answers.management, about)


def _check_password(path: Path, problems: Problems) -> None:
    try:
        seen = path.stat()
        data = path.read_bytes() if seen.st_size <= PASSWORD_BYTES_MAX else b"\n\n"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        problems.say(f"{flag('bmc_password')} {path}: cannot be read ({reason}); needed: the BMCs' password, one line")
        return
    if stat.S_IMODE(seen.st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
        mode = f"{stat.S_IMODE(seen.st_mode):04o}"
        problems.say(f"{flag('bmc_password')} {path}: others may read it (mode {mode}); needed: chmod 600 {path}")
    if not data.strip() or b"\n" in data.strip() or b"\0" in data:
        problems.say(f"{flag('bmc_password')} {path}: is not one line; needed: the BMCs' password and nothing else")


def _check_ca(answers: Answers, problems: Problems) -> None:
    if answers.bmc_ca is None:
        return
    if answers.bmc_driver != "redfish":
        problems.say(f"{flag('bmc_ca')} is for Redfish; needed: --bmc-driver redfish, or neither")
    try:
        read(answers.bmc_ca)
    except InputError as error:
        problems.say(f"{flag('bmc_ca')} {error.problems[0]}")


def _check_others(
    answers: Answers, net: ipaddress.IPv4Network, links: dict[str, dict[str, object]], problems: Problems
) -> None:
    """Another card in the same subnet: answers would leave through the wrong one."""
    for name, link in sorted(links.items()):
        for address, _ in _addresses(link):
            if name != answers.interface and address in net:
                problems.add("--boot", answers.boot, f"overlaps {address}, which is on {name}, not {answers.interface}")


def _check_table(answers: Answers, ground: Ground, problems: Problems) -> None:
    """Check the rest of what becomes the inventory's ``[boot]``, before anything is written."""
    about = Problems("rack init --first")
    boot = BootTable(subnet=answers.boot, pool=answers.pool, gateway=answers.gateway, install=answers.install)
    check_boot(boot, [("--interface", ground.number, ground.address)], about)
    if answers.gateway == ground.address:
        about.add("boot.gateway", answers.gateway, f"is this machine's own address on {answers.interface}")
    problems.found += [problem.replace(": boot.", ": --") for problem in about.found]


def _on_link(
    ground: Ground, link: dict[str, object], net: ipaddress.IPv4Network, answers: Answers, problems: Problems
) -> Ground:
    """This machine's number and address: those that the card has already, else the first."""
    if link.get("link_type") == "loopback":
        problems.add("--interface", answers.interface, "no machine boots over the loopback; allowed: a network card")
    here = [(address, prefix) for address, prefix in _addresses(link) if address in net]
    address, prefix = here[0] if here else (net.network_address + 1, net.prefixlen)
    number = int(address) - int(net.network_address)
    if not 0 < number <= NUMBERS_MAX:
        about = f"its address {address} would be number {number}; allowed: one of the first {NUMBERS_MAX} of {net}"
        problems.add("--interface", answers.interface, about)
    return msgspec.structs.replace(
        ground,
        number=number,
        address=str(address),
        prefix=prefix,
        there=bool(here),
        mac=str(link.get("address", "")),
    )


def _addresses(link: dict[str, object]) -> list[tuple[ipaddress.IPv4Address, int]]:
    rows = link.get("addr_info")
    found = rows if isinstance(rows, list) else []
    return [(ipaddress.IPv4Address(row["local"]), row["prefixlen"]) for row in found if row.get("family") == "inet"]


def _check_ports(answers: Answers, problems: Problems) -> None:
    """Whether DHCP, HTTP and the join server find their ports free."""
    from drivers.netboot.occupied import check_tcp, check_udp  # only where machines are booted

    for check, port, place in (
        (check_udp, 67, answers.interface),
        (check_udp, 69, answers.interface),
        (check_tcp, HTTP_PORT, "0.0.0.0"),
        (check_tcp, JOIN_PORT, "0.0.0.0"),
    ):
        try:
            check(port, place, "rack init --first")
        except InputError as error:
            problems.take(error)


def _identity(path: Path) -> str:
    """The UUID of this machine, by which its own BMC is known when it is found; "" where the firmware shows none."""
    try:
        text = path.read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if len(set(text.replace("-", ""))) > 2 else ""


def serves(run_dir: Path) -> bool:
    """Whether a netboot service of ours runs here: then the ports are taken by nobody else."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(str(run_dir / "netboot.sock"))
        except OSError:
            return False
    return True
