"""``rack join``: a machine that was booted with a token exchanges it for all that makes it a node.

It believes nobody but the authority whose fingerprint is on its kernel command line, and joins with no other image than
it was given. While no server answers it asks again, more and more rarely; a refusal is the end of it: the token is
worth nothing then.
"""

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from core.errors import InputError
from drivers.ca import key_pem, request_for, write_public, write_secret
from drivers.clock import now_ms, wall_ms
from drivers.join.boot import CMDLINE, Boot, Self, booted, card, one_line
from drivers.join.image import WrongImage, check
from drivers.join.messages import FILES_MAX, PATH, Asked, Bundle, No, misplaced
from drivers.join.pinned import Unreachable, Untrusted, authority_of, context_of, post

FOLDER = Path("/etc/moxie")
NODE_FILE = "node.toml"
KEY_FILE = "tls/node.key"
INTERFACE = b"{interface}"
"""Stands in ``node.toml`` for the name of the card that the machine booted with, which only it knows."""
ANSWER_S = 15.0
PAUSE_MS = 500
PAUSE_MS_MAX = 15_000
GIVE_UP_MS = 600_000
"""No server in so long: the machine's steward will have started it anew before."""
CLOCK_MS = 60_000
"""A clock that differs by more than this from the join server's is set: certificates and logs need the time of day."""

Say = Callable[[str], None]


class Refused(Exception):
    """The server said no; the text is the reason."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The machine that joins. ``set_clock`` False: its clock is somebody else's (a test)."""

    cmdline: Path = CMDLINE
    folder: Path = FOLDER
    me: Self = Self()
    tokens: tuple[Path, ...] = (Path("/run/moxie/token"), Path("/run/moxie/cmdline"))
    set_clock: bool = True
    give_up_ms: int = GIVE_UP_MS


def main(machine: Machine) -> int:
    """Join; 0 if this is a node now, 1 if it must not or could not become one. Each step is said on standard error.

    Raises: InputError if the machine does not know what it needs to know of itself.
    """
    boot = booted(machine.cmdline)
    if boot is None:
        _say("no moxie.token on the kernel command line: nothing to join with")
        return 0
    try:
        bundle = join(boot, machine, _say)
    except Refused as no:
        _say(f"refused: {no}; this machine does not ask again, its steward will start it anew or give it up")
        return 1
    except WrongImage as error:
        _say(f"wrong image: {error}")
        return 1
    except Untrusted as error:
        _say(f"not our server: {error}; nothing was sent to it")
        return 1
    except Unreachable as error:
        _say(f"given up after {machine.give_up_ms // 1_000} s: {error}")
        return 1
    finally:
        for path in machine.tokens:  # spent or void, it is of no use to anybody: nor is it to be found
            path.unlink(missing_ok=True)
    _say(f"this is node {bundle.node}, certificate {bundle.certificate}, {len(bundle.files)} files in {machine.folder}")
    return 0


def join(boot: Boot, machine: Machine, say: Say) -> Bundle:
    """Join with the token of a boot; what was written.

    Raises: Refused, WrongImage, Untrusted, Unreachable (after ``give_up_ms``), InputError.
    """
    interface = card(boot.mac, machine.me.cards)
    key = ec.generate_private_key(ec.SECP256R1())
    asked = msgspec.json.encode(
        Asked(
            token=boot.token,
            uuid=one_line(machine.me.uuid, "the machine's UUID (only root can read it)").lower(),
            mac=boot.mac,
            image=boot.image,
            csr=request_for(key, boot.node).decode(),
            boot_id=one_line(machine.me.boot_id, "the boot's id"),
        )
    )
    until_ms, pause_ms = now_ms() + machine.give_up_ms, PAUSE_MS
    while True:
        try:
            check(boot, machine.me)
            bundle = _ask(boot, asked)
            break
        except Unreachable as error:
            if now_ms() + pause_ms >= until_ms:
                raise
            say(f"{error}; once more in {pause_ms / 1_000:.1f} s")
            time.sleep(pause_ms / 1_000 * random.uniform(0.5, 1.0))  # forty machines are not to come at once again
            pause_ms = min(PAUSE_MS_MAX, 2 * pause_ms)
    if machine.set_clock:
        _set_clock(bundle.time_ms, say)
    write(bundle, key_pem(key), interface, machine.folder)
    return bundle


def write(bundle: Bundle, key: bytes, interface: str, folder: Path) -> None:
    """Write a node's files; ``node.toml`` comes last, so that where it is nothing is missing.

    Raises: InputError if a file cannot be written, or the bundle is no node's.
    """
    names = [file.path for file in bundle.files]
    if any(map(misplaced, names)) or NODE_FILE not in names or len(names) > FILES_MAX:
        raise InputError(["the join server's bundle holds what no node has; needed: a server of this version"])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / NODE_FILE).unlink(missing_ok=True)
    write_secret(folder / KEY_FILE, key)
    for file in sorted(bundle.files, key=lambda file: file.path == NODE_FILE):
        data = file.data.replace(INTERFACE, interface.encode()) if file.path == NODE_FILE else file.data
        (write_secret if file.secret else write_public)(folder / file.path, data)
    os.sync()


def _ask(boot: Boot, asked: bytes) -> Bundle:
    context = context_of(authority_of(boot.server, boot.join, boot.ca, ANSWER_S))
    status, data = post(context, boot.server, boot.join, PATH, asked, ANSWER_S)
    try:
        if status == 200:
            return msgspec.json.decode(data, type=Bundle)
        if status in (400, 403):
            raise Refused(msgspec.json.decode(data, type=No).refused)
    except msgspec.DecodeError as error:
        raise Unreachable(f"{boot.server}:{boot.join} answers {status} with what is no answer: {error}") from None
    raise Unreachable(f"{boot.server}:{boot.join} answers {status}")


def _set_clock(time_ms: int, say: Say) -> None:
    off_ms = time_ms - wall_ms()
    if time_ms and abs(off_ms) > CLOCK_MS:
        try:
            time.clock_settime_ns(time.CLOCK_REALTIME, time_ms * 1_000_000)
            say(f"the clock was {abs(off_ms) // 1_000} s {'behind' if off_ms > 0 else 'ahead'}; it is set")
        except OSError as error:
            say(f"the clock is {abs(off_ms) // 1_000} s off and cannot be set: {error}")


def _say(text: str) -> None:
    print(f"rack join: {text}", file=sys.stderr, flush=True)
