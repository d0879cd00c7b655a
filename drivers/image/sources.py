"""Where Debian's packages come from: this machine's own apt sources, or what the builder says instead."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from core.errors import InputError
from drivers.image.profile import SUITE

APT = Path("/etc/apt")
LISTS = Path("/var/lib/apt/lists")
_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?\S+\s+(\S+)\s")
FILES_MAX = 100


def sources_text(mirrors: Sequence[str] = (), apt: Path = APT) -> str:
    """The apt sources of the image in one text, which begins with what is given, else is this machine's for Debian 12.

    ``mirrors``: each a URL, a whole line ``deb …``, or a file of sources.
    Raises: InputError if there is none for Debian 12.
    """
    if mirrors:
        return "\n\n".join(_mirror(mirror) for mirror in mirrors) + "\n"
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))][:FILES_MAX]
    parts = [part for file in files if file.is_file() and (part := _for_debian(file))]
    if not parts:
        text = f"{apt}: no source of {SUITE}"
        raise InputError([f"{text}; needed: Debian 12 (lists in {apt}/sources.list.d), or --mirror URL"])
    return "\n\n".join(parts) + "\n"


def archive_state(lists: Path = LISTS) -> str:
    """A digest of what the archives held when this machine last asked them (``apt-get update``)."""
    whole = hashlib.sha256()
    for path in sorted(lists.glob("*InRelease")) + sorted(lists.glob("*_Release")):
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return whole.hexdigest()


def _mirror(text: str) -> str:
    if text.startswith("deb "):
        return text
    if "://" in text:
        return f"deb {text} {SUITE} main"
    path = Path(text)
    if not path.is_file():
        raise InputError([f"--mirror {text[:100]!r}: needed: a URL, a line 'deb URL {SUITE} main', or a file of such"])
    part = _for_debian(path)
    if not part:
        raise InputError([f"{path}: no source of {SUITE} in it; needed: a line 'deb URL {SUITE} main'"])
    return part


def _for_debian(file: Path) -> str:
    """The part of a file of apt sources that is for Debian 12, in the form of its own; mixed forms end in one."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([f"{file}: cannot be read ({error})"]) from None
    if file.suffix == ".sources":
        return "\n\n".join(_lines(part) for part in re.split(r"\n\s*\n", text) if _is_ours(_suites(part)))
    if file.suffix != ".list":
        return ""
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if (found := _ONE_LINE.match(line)) and _is_ours([found[1]]))


def _lines(part: str) -> str:
    """A deb822 paragraph without comments and empty lines, as one-line entries, since the two forms cannot be mixed."""
    fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", part, re.MULTILINE))
    signed = fields.get("Signed-By", "").strip()
    option = f"[signed-by={signed}] " if signed.startswith("/") else ""
    parts = fields.get("Components", "").strip()
    return "\n".join(
        f"deb {option}{address} {suite} {parts}"
        for address in fields.get("URIs", "").split()
        for suite in fields.get("Suites", "").split()
    )


def _suites(part: str) -> list[str]:
    if not re.search(r"^Types:.*\bdeb\b", part, re.MULTILINE) or re.search(r"^Enabled:\s*no", part, re.MULTILINE):
        return []
    found = re.search(r"^Suites:[ \t]*(.*)$", part, re.MULTILINE)
    return found[1].split() if found else []


def _is_ours(suites: Sequence[str]) -> bool:
    return bool(suites) and all(suite == SUITE or suite.startswith(f"{SUITE}-") for suite in suites)
