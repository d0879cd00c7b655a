"""What a boot server must still know after it was killed and started again: windows, who came through, which orders.

Without it a window would open a second time, and machines that are booting would be refused what they were promised.
There is nothing secret in it: of tokens only digests are kept.
"""

from pathlib import Path

import msgspec

from core.gate import Window
from drivers.ca import write_secret
from drivers.log import event as log
from drivers.netboot.wire import Allow


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One machine that may boot, or might: its order, its window and how far it has come."""

    order: Allow
    window: Window
    stages: tuple[str, ...] = ()
    asked_from: str = ""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, as it stands in the file. Times are of the boot ``boot_id`` only."""

    boot_id: str
    wards: tuple[Kept, ...] = ()
    keys: tuple[str, ...] = ()


class Memory:
    """The file of one service."""

    def __init__(self, path: Path, boot_id_path: Path) -> None:
        self._path = path
        self._boot_id = boot_id_path.read_text(encoding="ascii").strip()

    def save(self, wards: tuple[Kept, ...], keys: tuple[str, ...]) -> None:
        """Write it; nobody sees half of it. Raises: InputError if it cannot be written."""
        write_secret(self._path, msgspec.json.encode(Remembered(boot_id=self._boot_id, wards=wards, keys=keys)))

    def load(self) -> Remembered:
        """What the last service of this boot knew; nothing if there was none, or if it cannot be read."""
        nothing = Remembered(boot_id=self._boot_id)
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=Remembered)
        except FileNotFoundError:
            return nothing
        except (OSError, msgspec.DecodeError) as error:
            log("windows_forgotten", error=str(error))
            return nothing
        return found if found.boot_id == self._boot_id else nothing
