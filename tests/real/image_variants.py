"""Images for an upgrade: the next version, and versions with a mistake in them, each built and signed as any image is.

A mistake is made in a copy of our code, as a person makes one; then `rack image build` does what it always does.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from drivers.image.manifest import PRIVATE_KEY
from tests.real.built_image import BUILD_S_MAX, ROOT

PACKAGES = ("core", "formats", "trial", "drivers")


class Mistake(msgspec.Struct, frozen=True, kw_only=True):
    """One line of our code as somebody got it wrong."""

    file: str
    right: str
    wrong: str


BLIND = Mistake(file="drivers/image/profile.py", right='"virtio_blk", ', wrong="")
"""The initrd lacks the driver of the disk: it never finds the root image that it was built for."""
SICK = Mistake(
    file="drivers/netboot/service.py",
    right="""    log.always(node=config.node, process="netboot")\n""",
    wrong="""    raise InputError(["this version cannot read its own settings"])\n""",
)
"""Boots, joins, reaches all there is; but what should run everywhere does not run on it."""


def variant(built: Path, name: str, mistake: Mistake | None = None) -> Path:
    """Build another image, signed with the key of the one in ``built``; its folder, beside that one."""
    key, out, sources = built.parent / PRIVATE_KEY, built.parent / name, built.parent / f"sources-{name}"
    if not key.is_file():
        pytest.fail(f"{key} is missing: other images must be signed with the key of {built}")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    if mistake is not None:
        file = sources / mistake.file
        text = file.read_text(encoding="utf-8")
        assert text.count(mistake.right) == 1, mistake
        file.write_text(text.replace(mistake.right, mistake.wrong), encoding="utf-8")
    words = ("image", "build", "--compress", "lz4", "--version", name, "--out", str(out), "--key", str(key))
    argv = (sys.executable, "-m", "drivers.cli", *words)
    done = subprocess.run(argv, cwd=sources, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    shutil.rmtree(sources)
    return out
