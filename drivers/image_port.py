"""``core.ports.ImagePort``: what this machine boots. Staging is a process of its own, a restart is systemd's.

A machine that was not booted from an image has none of ours to stage: it says so.
"""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import assert_never

import msgspec

from core import effects as fx
from core.events import OpFailed, OpSucceeded, Reason, Staged
from core.ids import NO_IMAGE, ImageId
from core.ports import Emit, ImageEffect
from drivers import log
from drivers.clock import now_ms
from drivers.config import Config

CMDLINE = Path("/proc/cmdline")
IMAGES, KEY = Path("/var/lib/moxie/images"), Path("/usr/lib/moxie/images.pub")
"""Where a node keeps images, and what they must be signed with: the key came with the image that runs."""
MARGIN_S = 2.0
"""The staging process gives up by itself so long before its limit, so that its own words are the answer."""
SERVERS_MAX = 16
"""Servers to ask for an image; one that answers is enough."""
SAID_MAX = 2_000
RESTART = ("systemctl", "--no-block", "reboot")


class Booted(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine booted and from whom, as its kernel command line says. ``server``: ``HOST:PORT`` or ""."""

    image: ImageId = NO_IMAGE
    server: str = ""


def booted(cmdline: Path = CMDLINE) -> Booted:
    """Read the kernel command line; nothing of ours on it: not booted from an image."""
    try:
        words = cmdline.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return Booted()
    found = dict(word.removeprefix("moxie.").partition("=")[::2] for word in words if word.startswith("moxie."))
    image = found.get("image", "")
    if len(image) != 16 or set(image) - set("0123456789abcdef"):
        return Booted()
    server = f"{found['server']}:{found.get('http', '8080')}" if found.get("server") else ""
    return Booted(image=ImageId(image), server=server)


def servers_of(config: Config, booted: Booted) -> tuple[str, ...]:
    """Who may have an image: who booted us, then the rack's other machines, those that follow us by number first."""
    port = config.tables.netboot.http_port if config.tables.netboot is not None else 8080
    own = config.machines.get(config.node)
    number = own.number if own is not None else 0
    others = [machine for machine in config.machines.values() if machine.id != config.node]
    ordered = sorted(others, key=lambda machine: (machine.number < number, machine.number))
    found = (booted.server, *(f"{_host(machine.address)}:{port}" for machine in ordered))
    return tuple(dict.fromkeys(server for server in found if server))[:SERVERS_MAX]


def image_port(config: Config) -> "ImagePort":
    """The image port of a node that was booted from an image."""
    table = config.tables.netboot
    key = KEY if KEY.exists() or table is None or table.key is None else table.key
    images = table.images if table is not None else IMAGES
    machine = booted()
    return ImagePort(machine.image, lambda: servers_of(config, machine), images, key)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


class ImagePort:
    """``servers`` are asked when an image is to be staged; ``stage`` and ``restart`` are the programs for it.

    ``disk``: the disk with the slots, None to look for it.
    """

    def __init__(
        self,
        image: ImageId,
        servers: Callable[[], Sequence[str]],
        images: Path = IMAGES,
        key: Path = KEY,
        disk: Path | None = None,
        stage: Sequence[str] = (sys.executable, "-m", "drivers.image.stage"),
        restart: Sequence[str] = RESTART,
    ) -> None:
        self._image = image
        self._servers = servers
        self._images, self._key, self._disk = images, key, disk
        self._stage, self._restart = tuple(stage), tuple(restart)
        self._child: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, effect: ImageEffect, emit: Emit) -> None:
        """Begin what is asked for; only staging is answered."""
        match effect:
            case fx.StageImage():
                self._begin(effect, emit)
            case fx.RestartInto():
                threading.Thread(target=self._restart_into, args=(effect.image,), name="restart", daemon=True).start()
            case fx.KeepImage():
                threading.Thread(target=self._keep, args=(effect.image,), name="keep", daemon=True).start()
            case _:
                assert_never(effect)

    def close(self) -> None:
        """End a staging that runs; what it has downloaded stays."""
        with self._lock:
            self._closed = True
            child = self._child
        if child is not None:
            child.kill()

    # -- staging -------------------------------------------------------------------------------------------------------

    def _begin(self, effect: fx.StageImage, emit: Emit) -> None:
        if not self._image:
            _fail(emit, effect, "refused", "this machine was not booted from an image", retryable=False)
            return
        threading.Thread(target=self._run, args=(effect, emit), name="stage", daemon=True).start()

    def _run(self, effect: fx.StageImage, emit: Emit) -> None:
        seconds = effect.ms_max / 1000
        argv = [*self._stage, "--image", effect.image, "--images", str(self._images), "--key", str(self._key)]
        argv += ["--seconds", str(max(0.5, seconds - MARGIN_S))]
        argv += ["--disk", str(self._disk)] if self._disk is not None else []
        for server in self._servers():
            argv += ["--server", server]
        child = self._start(argv)
        if child is None:
            _fail(emit, effect, "unavailable", "another image is being staged, or the agent ends")
            return
        log.event("staging", image=effect.image)
        try:
            said, errors = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            _fail(emit, effect, "unanswered", f"not staged within {effect.ms_max} ms")
            return
        finally:
            with self._lock:
                self._child = None
        self._answer(effect, emit, said, errors)

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[str] | None:
        """Start the one staging process; None while another runs, or if it cannot be started."""
        with self._lock:
            if self._child is not None or self._closed:
                return None
            try:
                self._child = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            except OSError as error:
                log.event("staging_failed", error=str(error))
                return None
            return self._child

    def _answer(self, effect: fx.StageImage, emit: Emit, said: str, errors: str) -> None:
        from drivers.image.stage import Outcome

        try:
            outcome = msgspec.json.decode(said, type=Outcome)
        except msgspec.DecodeError:
            _fail(emit, effect, "failed", f"the staging process ended without a word: {errors.strip()[-SAID_MAX:]}")
            return
        log.event("staged", image=effect.image, slot=outcome.slot, failed=outcome.failed, detail=outcome.detail)
        if outcome.failed:
            _fail(emit, effect, outcome.failed, outcome.detail[:SAID_MAX], retryable=outcome.failed != "refused")
        else:
            emit(OpSucceeded(at_ms=now_ms(), op=effect.op, result=Staged(slot=outcome.slot)))

    # -- what boots ----------------------------------------------------------------------------------------------------

    def _restart_into(self, image: ImageId) -> None:
        """Tell the boot loader, then restart in order; a machine without a slot that holds it just restarts."""
        if not self._image:
            log.event("not_restarted", image=image, error="this machine was not booted from an image")
            return
        slot = self._choose(image, keep=False)
        log.event("restarting", image=image, slot=slot)
        try:
            done = subprocess.run(self._restart, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            log.event("not_restarted", image=image, error=str(error))
            return
        if done.returncode:
            log.event("not_restarted", image=image, error=done.stderr.strip()[-SAID_MAX:])

    def _keep(self, image: ImageId) -> None:
        if self._image == image:
            slot = self._choose(image, keep=True)
            log.event("image_kept", image=image, slot=slot)

    def _choose(self, image: ImageId, *, keep: bool) -> str:
        """Have the slot with an image boot, once or from now on; "" if no slot holds it."""
        from core.errors import InputError
        from drivers.image.slots import find_disk, open_disk

        try:
            disk = open_disk(self._disk) if self._disk is not None else find_disk()
            slot = disk.slot_with(image) if disk is not None else None
            if disk is None or slot is None:
                return ""
            if keep:
                disk.keep(slot)
            else:
                disk.try_once(slot)
        except InputError as error:
            log.event("boot_choice_failed", image=image, problems=tuple(error.problems))
            return ""
        return slot


def _fail(emit: Emit, effect: fx.StageImage, reason: Reason, detail: str, retryable: bool = True) -> None:
    emit(OpFailed(at_ms=now_ms(), op=effect.op, reason=reason, retryable=retryable, detail=detail))
