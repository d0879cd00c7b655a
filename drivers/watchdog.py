"""The hardware watchdog: it resets the machine unless it is fed, so that a frozen node is off before long (rule 7).

Opening the device starts it. Only an orderly end stops it again; a process that dies leaves it running, which is meant.
Source: Linux, Documentation/watchdog/watchdog-api.rst and include/uapi/linux/watchdog.h.
"""

import fcntl
import struct
from pathlib import Path

import msgspec

from drivers import log

TIMEOUT_S = 30
"""Within which the machine must be fed; it is fed every second, so that a busy minute of the kernel is survived."""

MAGIC_CLOSE = b"V"
KEEP_ALIVE = b"\0"

_SET_TIMEOUT = 0xC0045706
"""``_IOWR('W', 6, int)``: takes the seconds wanted and answers with those that the device can do."""

SYSFS = Path("/sys/class/watchdog")


class WatchdogShown(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel tells of a watchdog without opening it.

    ``identity``: its driver; ``timeout_s``: 0 if not told; ``nowayout``: it cannot be stopped, so that also an orderly
    end of the supervisor, longer than the timeout, resets the machine; ``active``: somebody feeds it.
    """

    identity: str
    timeout_s: int
    nowayout: bool
    active: bool


class Watchdog:
    """An open, hence running, watchdog at ``path``: a device, or for tests anything that can be written.

    Raises: OSError if it cannot be opened (another process has it, it is missing).
    """

    def __init__(self, path: Path, timeout_s: int = TIMEOUT_S) -> None:
        self._device = path.open("wb", buffering=0)
        self._path = path
        self._silenced = False
        self.timeout_s = _set_timeout(self._device.fileno(), timeout_s)

    def feed(self) -> None:
        """Start its countdown anew; that a device does not take it is said once in the log."""
        self._write(KEEP_ALIVE)

    def close(self) -> None:
        """Stop it, because this process ends in order and as it was told to; feeding is over."""
        if not self._device.closed:
            self._write(MAGIC_CLOSE)
            self._device.close()

    def _write(self, word: bytes) -> None:
        try:
            self._device.write(word)
        except OSError as error:
            if not self._silenced:
                log.event("watchdog_not_fed", path=str(self._path), error=error.strerror or str(error))
            self._silenced = True


def look(path: Path, sysfs: Path = SYSFS) -> WatchdogShown | None:
    """Return what the kernel tells of the watchdog at ``path``; None if it knows none of that name.

    Nothing is opened: that would start it. ``/dev/watchdog`` is the first one.
    """
    name = path.name if path.name[-1:].isdigit() else f"{path.name}0"
    folder = sysfs / name
    if not folder.is_dir():
        return None
    return WatchdogShown(
        identity=_told(folder, "identity"),
        timeout_s=int(_told(folder, "timeout") or 0),
        nowayout=_told(folder, "nowayout") == "1",
        active=_told(folder, "state") == "active",
    )


def _told(folder: Path, name: str) -> str:
    """Return one attribute; "" where the kernel is built without them (CONFIG_WATCHDOG_SYSFS)."""
    try:
        return (folder / name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _set_timeout(descriptor: int, seconds: int) -> int:
    """Ask for a timeout and return the one in force; 0 if the device has none that can be set."""
    asked = bytearray(struct.pack("i", seconds))
    try:
        fcntl.ioctl(descriptor, _SET_TIMEOUT, asked)
    except OSError:
        return 0
    answered: int = struct.unpack("i", asked)[0]
    return answered
