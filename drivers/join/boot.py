"""What a machine was told when it was booted, ``moxie.*`` on its kernel command line, and who it is itself."""

from pathlib import Path
from typing import Annotated

import msgspec

from core.errors import InputError
from drivers.networks import Port
from formats.problems import Problems

CMDLINE = Path("/proc/cmdline")
PREFIX = "moxie."
CMDLINE_BYTES_MAX = 8 << 10
ALLOWED = {
    "node": "the node's id",
    "mac": "a network card's address such as 52:54:00:77:00:01",
    "server": "the boot server's address",
    "ca": "the SHA-256 of the authority's certificate, 64 hex digits",
    "image": "an image's id, 16 hex digits",
    "token": "64 hex digits",
}
"""What must be there, and what it is."""

Hex64 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """The words. ``ca``: SHA-256 of the authority's certificate in DER, hex; ``ip`` with its prefix length.

    ``token``: good for one certificate, "" where the machine booted from its own disk.
    """

    node: str
    mac: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")]
    server: str
    ca: Hex64
    image: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    token: Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64})?\Z")] = ""
    http: Port = 8080
    join: Port = 8443
    ip: str = ""
    gw: str = ""


class Self(msgspec.Struct, frozen=True, kw_only=True):
    """Where a machine says who it is. ``root_hash``: the SHA-256 that its root image was checked against at boot.

    ``image_key``: the public key that images are signed with, which came with the root image.
    """

    uuid: Path = Path("/sys/class/dmi/id/product_uuid")
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")
    cards: Path = Path("/sys/class/net")
    root_hash: Path = Path("/run/moxie/root.sha256")
    image_key: Path = Path("/usr/lib/moxie/images.pub")


def booted(path: Path = CMDLINE) -> Boot | None:
    """Read the kernel command line; None if nobody wrote a token on it: then there is nothing to join with.

    Raises: InputError if a word is missing or of the wrong form.
    """
    found = words(one_line(path, "the kernel command line", CMDLINE_BYTES_MAX))
    if not found.get("token"):
        return None
    problems = Problems(str(path))
    for key, allowed in ALLOWED.items():
        if key not in found:
            problems.say(f"moxie.{key} is missing; needed: {allowed}")
    problems.check()
    known = {key: found[key] for key in Boot.__struct_fields__ if key in found}
    try:
        return msgspec.convert(known, Boot, strict=False)
    except msgspec.ValidationError as error:
        key = str(error).rpartition("`$.")[2].rstrip("`")
        problems.say(f"moxie.{key}: allowed: {ALLOWED.get(key, 'a port from 1 to 65535')}")
        raise InputError(problems.found) from None


def words(text: str) -> dict[str, str]:
    """The words ``moxie.KEY=VALUE`` of a kernel command line by key; of several the last."""
    pairs = (word.removeprefix(PREFIX).partition("=") for word in text.split() if word.startswith(PREFIX))
    return {key: value for key, _, value in pairs}


def one_line(path: Path, what: str, most: int = 200) -> str:
    """Read a short file. Raises: InputError if it cannot be read, or is not short."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError([f"{path}: cannot be read ({reason}); needed: {what}"]) from None
    if len(data) > most:
        raise InputError([f"{path}: is longer than {most} bytes; needed: {what}"])
    return data.decode("utf-8", "replace").strip()


def card(mac: str, cards: Path) -> str:
    """The name of the network card with an address. Raises: InputError if there is none."""
    found = {}
    for place in sorted(cards.iterdir()) if cards.is_dir() else []:
        if (place / "address").is_file():
            found[place.name] = one_line(place / "address", "a card's address").lower()
    names = [name for name, address in found.items() if address == mac]
    if not names:
        there = ", ".join(f"{name} {address}" for name, address in found.items()) or "none"
        raise InputError([f"moxie.mac={mac}: no card has this address; there: {there}"])
    return names[0]
