"""What a first server has to be told: from the command line, from the time before, from a person, or by default."""

import argparse
import ipaddress
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from core.errors import InputError
from drivers.ca import write_public
from drivers.toml_text import toml_text
from formats.load import Name, build, read_toml
from formats.problems import Problems, one_of

FILE = "first-server.toml"
RUNNING = Path("/run/moxie/image")
"""Holds the id of the image that this machine booted, if it booted one of ours."""
IMAGES, IMAGE_KEY = Path("/var/lib/moxie/images"), Path("/usr/lib/moxie/images.pub")
"""Where images are kept, and the key that an image brings along to check others."""
NEEDED = {
    "boot": 'the subnet in which machines boot, such as "10.98.0.0/24"',
    "interface": "the network card on that subnet",
    "management": 'the subnet of the BMCs, such as "10.98.1.0/24"',
    "bmc_password": "a file with the password of the BMCs, one line, readable by root only",
    "images": "the folder of the image that machines boot",
}
"""What there is no default for, in the order of asking, and how it is asked for."""
PATHS = ("bmc_password", "bmc_ca", "catalog", "images", "image_key")
SETTINGS = ("timing", "zookeeper", "give_up_ms", "restart_ms", "journal_mib")
"""What of a node's file may be answered as well: the same for every node, and handed to those that join."""
NOT_ROOT = "it writes this node's keys and sets addresses; needed: run it as root"
FIXED = ("node", "boot", "interface", "management")
"""What a rack that was begun keeps: addresses, certificates and records are made from it."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """All that a first server is told; see ``drivers.first_words``. Paths are absolute; no secret is in it.

    ``catalog`` None: no service but the one that boots machines. ``settings``: more of ``node.toml``, as the tables
    ``SETTINGS`` in it, the same on every node that joins.
    """

    node: Name
    boot: str
    interface: str
    management: str
    bmc_password: Path
    images: Path
    catalog: Path | None = None
    pool: str = ""
    gateway: str = ""
    install: str = ""
    mode: Literal["dhcp", "proxy"] = "dhcp"
    bmc_driver: Literal["ipmi", "redfish"] = "ipmi"
    bmc_user: str = "admin"
    bmc_ca: Path | None = None
    image: str = ""
    image_key: Path | None = None
    settings: dict[str, object] = {}


def gather(arguments: argparse.Namespace, out: Path, ask: Callable[[str], str] | None = None) -> Answers:
    """Put the answers together: what is said now, what was said before, what a person says when asked.

    ``ask``: how, None: not at all. Raises: InputError with everything that is missing, or differs from before.
    """
    problems = Problems("rack init --first")
    before = read_before(out)
    now = {**_from_file(arguments.answers), **_said(arguments)}
    for name in FIXED:
        if name in before and name in now and now[name] != before[name]:
            about = f"this rack was begun with {before[name]}; needed: the same, or another --out"
            problems.add(flag(name), now[name], about)
    found = {"node": "n1", **_from_the_key(), **before, **now}
    for name, question in NEEDED.items():
        if name not in found and ask is not None:
            said = ask(f"{question}: ").strip()
            if said:
                found[name] = str(Path(said).absolute()) if name in PATHS else said
        if name not in found:
            problems.say(f"{flag(name)} is missing; needed: {question}")
    if problems.found and os.geteuid() != 0:
        problems.say(NOT_ROOT)
    problems.check()
    answers = build(found, Answers, problems)
    if answers is not None:
        _check_settings(answers.settings, problems)
    problems.check()
    assert answers is not None
    return answers if answers.pool else msgspec.structs.replace(answers, pool=usual_pool(answers.boot))


def from_terminal() -> Callable[[str], str] | None:
    """How a person is asked; None where nobody is there to answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None

    def ask(question: str) -> str:
        sys.stderr.write(question)
        sys.stderr.flush()
        return sys.stdin.readline()

    return ask


def keep(answers: Answers, out: Path) -> None:
    """Remember the answers for the next time. Raises: InputError if they cannot be written."""
    head = "# What `rack init --first` was told; it begins from here when it is run again.\n"
    table = msgspec.to_builtins(answers, builtin_types=(Path,), enc_hook=str)
    write_public(out / FILE, (head + toml_text(table)).encode())


def read_before(out: Path) -> dict[str, object]:
    """What was said before; empty at the first time. Raises: InputError if it cannot be read."""
    path = out / FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError([f"{path}: cannot be read ({error}); needed: what it wrote itself, or remove it"]) from None


def flag(name: str) -> str:
    """The word of the command line for an answer."""
    return "--" + name.replace("_", "-")


def usual_pool(subnet: str) -> str:
    """The upper quarter of a subnet without its last few addresses; "" if it is no such subnet."""
    try:
        net = ipaddress.IPv4Network(subnet)
    except ValueError:
        return ""
    size = net.num_addresses
    first, last = size * 3 // 4, max(size - 6, size * 3 // 4)
    return f"{net.network_address + first}-{net.network_address + last}"


def _check_settings(settings: dict[str, object], problems: Problems) -> None:
    """Check them as if the node's file were there already."""
    from drivers.config import check_tables  # reads catalogs and inventories; only here

    for name in sorted(settings.keys() - set(SETTINGS)):
        problems.add(f"settings.{name}", settings[name], f"no such key; allowed: {one_of(SETTINGS)}")
    check_tables({name: value for name, value in settings.items() if name in SETTINGS}, problems)


def _from_the_key() -> dict[str, object]:
    """What a machine that runs our image from its disk knows by itself: it boots the others with the same image."""
    try:
        image = RUNNING.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return {}
    return {"images": str(IMAGES), "image": image, "image_key": str(IMAGE_KEY)} if image else {}


def _from_file(path: Path | None) -> dict[str, object]:
    """The answers of a file; its paths are meant from its own folder. Raises: InputError."""
    if path is None:
        return {}
    found = read_toml(path, "a file of answers")
    for name in PATHS:
        if isinstance(value := found.get(name), str):
            found[name] = str(path.absolute().parent / value)
    return found


def _said(arguments: argparse.Namespace) -> dict[str, object]:
    names = ("node", "boot", "interface", "management", "pool", "gateway", "install", "bmc_driver", "bmc_user", "image")
    found: dict[str, object] = {name: value for name in names if (value := getattr(arguments, name))}
    for name in PATHS:
        path = getattr(arguments, name)
        if path is not None:
            found[name] = os.path.abspath(path)  # noqa: PTH100  # a path to a symbolic link stays one
    if arguments.proxy:
        found["mode"] = "proxy"
    return found
