"""Running a program to its end, but no longer than a limit, also where it cannot be killed."""

import subprocess
import threading
from collections.abc import Sequence
from typing import IO

import msgspec

SAID_MAX = 4_096


class End(msgspec.Struct, frozen=True, kw_only=True):
    """How a program ended: ``problem`` is empty if well; ``said`` is what it wrote to its output."""

    problem: str = ""
    said: str = ""


def run(argv: Sequence[str], ms_max: int) -> End:
    """Run a program; at the limit it is killed and forgotten, since what hangs in the kernel does not even die."""
    try:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        return End(problem=f"{argv[0]}: {error.strerror}")
    assert process.stdout is not None
    assert process.stderr is not None
    said: dict[str, str] = {}
    ended = threading.Event()

    def read(name: str, pipe: IO[bytes]) -> None:
        with pipe:
            said[name] = pipe.read(SAID_MAX).decode(errors="replace").strip()

    def finish() -> None:
        read("out", process.stdout)  # type: ignore[arg-type] # it was asked for
        read("error", process.stderr)  # type: ignore[arg-type] # it was asked for
        process.wait()
        ended.set()

    threading.Thread(target=finish, name=f"reap {argv[0]}", daemon=True).start()
    if not ended.wait(max(ms_max, 1) / 1_000):
        process.kill()
        return End(problem=f"{argv[0]} did not end within {ms_max} ms")
    if process.returncode:
        words = said["error"].splitlines() or [f"exit status {process.returncode}"]
        return End(problem=words[0], said=said["out"])
    return End(said=said["out"])
