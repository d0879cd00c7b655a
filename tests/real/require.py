"""Whether this machine can run a test against real servers: if not it skips with a reason, or fails if it must not."""

import os
import shutil
import sys

import pytest


def require(*programs: str, root: bool = True) -> None:
    """Skip the test unless every program is on the path (and we are root); fail instead with ``REQUIRE_REAL=1``."""
    missing = [program for program in programs if shutil.which(program, path=_path()) is None]
    reasons = [f"not installed: {', '.join(missing)}"] if missing else []
    if root and os.geteuid() != 0:
        reasons.append("needs root")
    if not sys.platform.startswith("linux"):
        reasons.append("needs Linux")
    if not reasons:
        return
    if os.environ.get("REQUIRE_REAL") == "1":
        pytest.fail("; ".join(reasons))
    pytest.skip("; ".join(reasons))


def _path() -> str:
    """Where programs are looked for: servers live in sbin, which not every user's path has."""
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))
