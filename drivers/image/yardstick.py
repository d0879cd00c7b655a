"""The kernel of an image against a yardstick of others: ``kernel-hardening-checker``, run on files alone.

Our image and Debian's default are measured with the same kernel: its configuration, its command line, and its sysctls.
Those of a running system are what the kernel begins with (``debian12.toml``, measured) and what ``sysctl.d`` changes.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.children import PATH

PROGRAM = "kernel-hardening-checker"
SECONDS_MAX = 60
DEFAULTS = Path(__file__).parent / "debian12.toml"
SYSCTL_FOLDERS = ("usr/lib/sysctl.d", "lib/sysctl.d", "etc/sysctl.d")
"""The earlier the weaker. Source: sysctl.d(5)."""
SPELLED = "is not off"
"""What is wanted by checks that only want a default to be written down: mitigations are on unless switched off."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check as the program reports it (its own names)."""

    option_name: str
    type: str
    reason: str
    decision: str
    desired_val: str
    check_result: str
    check_result_bool: bool


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """How one system did: the checks passed and all, by kind (``kconfig``, ``cmdline``, ``sysctl``)."""

    passed: dict[str, int]
    all: dict[str, int]
    failed: tuple[Check, ...]


class Default(msgspec.Struct, frozen=True, kw_only=True):
    """What Debian 12 does by itself, as measured: see the file."""

    cmdline: str
    sysctl: dict[str, str]
    kernel: dict[str, str]
    units: dict[str, float]


def debian() -> Default:
    """What Debian 12 does by itself."""
    return msgspec.convert(tomllib.loads(DEFAULTS.read_text(encoding="utf-8")), Default)


def find_checker(given: Path | None = None) -> tuple[str, ...]:
    """The command that runs the yardstick, empty if there is none. ``given``: a program, or a folder of its Python.

    Raises: InputError if what is given is neither.
    """
    if given is None:
        found = shutil.which(PROGRAM, path=PATH) or shutil.which(str(Path(sys.executable).parent / PROGRAM))
        return (found,) if found is not None else ()
    if (given / "kernel_hardening_checker").is_dir():
        start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from kernel_hardening_checker import main; main()"
        return (sys.executable, "-I", "-c", start, str(given))
    if given.is_file():
        return (str(given),)
    raise InputError(
        [f"--checker {given}: no such program; needed: {PROGRAM}, or the folder that holds its Python package"]
    )


def measure(checker: Iterable[str], config: Path, cmdline: str, sysctl: Mapping[str, str]) -> Score:
    """Run the yardstick on one system. Raises: InputError if it does not run, or says what is no report."""
    with tempfile.TemporaryDirectory(prefix="moxie-harden-") as place:
        words, values = Path(place) / "cmdline", Path(place) / "sysctl"
        words.write_text(cmdline + "\n", encoding="ascii")
        lines = [f"{key} = {value}\n" for key, value in sorted(sysctl.items())]
        values.write_text("".join(lines), encoding="utf-8")
        argv = [*checker, "-m", "json", "-c", str(config), "-l", str(words), "-s", str(values)]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError([f"{argv[0]}: {error}"]) from None
    try:
        checks = msgspec.json.decode(done.stdout.strip(), type=list[Check])
    except msgspec.DecodeError as error:
        said = (done.stderr or done.stdout).strip()[-300:]
        raise InputError([f"{PROGRAM}: no report ({error}): {said}; needed: version 0.6.17 or newer"]) from None
    return _score(checks)


def sysctls(root: Path, kernel: Mapping[str, str]) -> dict[str, str]:
    """The sysctls of a system that runs from ``root``: what the kernel begins with, changed as ``sysctl.d`` says.

    What the kernel does not know stays unknown; a star is every name that the kernel has there. Source: sysctl.d(5).
    """
    files: dict[str, Path] = {}
    for folder in SYSCTL_FOLDERS:
        files |= {path.name: path for path in (root / folder).glob("*.conf") if path.is_file()}
    found = dict(kernel)
    for _, path in sorted(files.items()):
        for key, value in settings(path.read_text(encoding="utf-8", errors="replace")):
            found |= {name: value for name in kernel if _matches(name, key)}
    return found


def settings(text: str) -> list[tuple[str, str]]:
    """The settings of one ``sysctl.d`` file, in order."""
    found = []
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith(("#", ";")):
            found.append((key.strip().removeprefix("-").replace("/", "."), value.strip()))
    return found


FILLER = {
    "kernel.ostype": "Linux",
    "kernel.osrelease": "",
    "kernel.hostname": "",
    "kernel.version": "",
    "vm.swappiness": "60",
}
"""The program takes nothing for the output of ``sysctl -a`` that lacks what every such output has."""


def _matches(name: str, key: str) -> bool:
    have, want = name.split("."), key.split(".")
    return len(have) == len(want) and all(b in ("*", a) for a, b in zip(have, want, strict=True))


def _score(checks: list[Check]) -> Score:
    passed: dict[str, int] = {}
    every: dict[str, int] = {}
    for check in checks:
        every[check.type] = every.get(check.type, 0) + 1
        passed[check.type] = passed.get(check.type, 0) + check.check_result_bool
    return Score(passed=passed, all=every, failed=tuple(check for check in checks if not check.check_result_bool))
