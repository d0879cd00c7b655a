"""The system's own programs that build an image: whether they are there, and running them to their end."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.errors import InputError

PACKAGE_OF = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "lz4": "lz4",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "grub-mkimage": "grub-common",
    "sfdisk": "fdisk",
    "mformat": "mtools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
}
"""The Debian package of each program that this package runs."""
EPOCH_S = 1_767_225_600
"""The one time stamp in an image, seconds since 1970 (2026-01-01): the hour of building must not be seen in it."""
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_SAID_MAX = 2_000


class BuildFailure(Exception):
    """A step of the build failed though everything that was given to it was right; the text says which and why."""


def search_path() -> str:
    """Where programs are looked for: some live in sbin, which not every user's path has."""
    return os.pathsep.join((os.environ.get("PATH", ""), *_SBIN))


def require(programs: Iterable[str]) -> None:
    """Check that every one of these programs is installed. Raises: InputError naming the packages to install."""
    missing = [program for program in programs if shutil.which(program, path=search_path()) is None]
    if missing:
        packages = " ".join(sorted({PACKAGE_OF[program] for program in missing}))
        raise InputError([f"{', '.join(missing)}: not installed; remedy: apt-get install {packages}"])


def call(
    argv: Sequence[str],
    *,
    seconds: float,
    variables: Mapping[str, str] | None = None,
    text: bytes = b"",
    cwd: Path | None = None,
) -> bytes:
    """Run a program and give its output; ``text`` is its input. Its time stamps are all ``EPOCH_S``.

    ``variables``: of its environment beside the few that all get; an empty one is not set at all.

    Raises: BuildFailure with its last words if it fails, is missing, or takes longer than ``seconds``.
    """
    environment = {
        "PATH": search_path(),
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
        "SOURCE_DATE_EPOCH": str(EPOCH_S),
        "E2FSPROGS_FAKE_TIME": str(EPOCH_S),
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
        **(variables or {}),
    }
    environment = {name: value for name, value in environment.items() if value}
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, timeout=seconds, check=False, env=environment, cwd=cwd
        )
    except FileNotFoundError:
        raise BuildFailure(f"{argv[0]}: no such program") from None
    except subprocess.TimeoutExpired:
        raise BuildFailure(f"{argv[0]}: no end after {seconds:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-_SAID_MAX:]
        raise BuildFailure(f"{argv[0]}: {said or f'exit code {done.returncode}'}")
    return done.stdout
