"""The image that emulated machines boot in tests: built once a session, or given by ``MOXIE_IMAGE``.

from tests.real.built_image import built_image  # noqa: F401 - a fixture
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from drivers.image import manifest
from tests.real.require import require

ROOT = Path(__file__).parents[2]
BUILD_S_MAX = 900
PROGRAMS = ("mmdebstrap", "mksquashfs", "qemu-system-x86_64", "dnsmasq", "ipmi_sim", "java", "nsenter", "nft")


@pytest.fixture(scope="session")
def built_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed image folder, with ``images.pub`` beside it. Packed quickly rather than small."""
    require(*PROGRAMS)
    if given := os.environ.get("MOXIE_IMAGE"):
        return Path(given)
    folder = tmp_path_factory.mktemp("images")
    private, _ = manifest.make_keys(folder)
    words = ("image", "build", "--compress", "lz4", "--out", str(folder / "minimal"), "--key", str(private))
    argv = (sys.executable, "-m", "drivers.cli", *words)
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_S_MAX, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    return folder / "minimal"
