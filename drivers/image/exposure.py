"""What of an image can be reached or misused, from outside or inside: units, doors, accounts, files."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from drivers.children import PATH
from drivers.finding import Finding, error, note, ok, warning
from drivers.image.hardening import ENABLED, MASKED, MOUNTS_FOR_ALL
from drivers.image.unpacked import Entry

SECONDS_MAX = 60
OURS = ("moxie.service", "moxie-join.service", "moxie-readonly.service", "nftables.service")
EXPOSURE_MAX = 5.0
"""Above this systemd itself calls a unit "medium" or worse. Source: systemd 252, analyze-security.c."""
LAY_OVER = "hardening.lay_over at the end of the build"
UNIT_MUST = ("NoNewPrivileges", "ProtectSystem", "CapabilityBoundingSet", "SystemCallFilter", "RestrictNamespaces")
"""What every unit of ours says about itself, whatever its score. Only what mounts for all cannot have the second."""
_OVERALL = re.compile(r"Overall exposure level for \S+: ([0-9.]+)")
LOGINS = ("sshd", "telnetd", "in.telnetd", "rlogind", "dropbear", "login", "agetty")
"""Programs that let somebody in; ``login`` and ``agetty`` are there in every Debian and never started here."""
SERVERS = LOGINS[:5]


def units(root: Path) -> Iterator[Finding]:
    """How exposed our units are, and whether each says what it must."""
    for unit in (*OURS, *sorted(set(ENABLED) - set(OURS))):
        files = _files_of(root, unit)
        if not files:
            yield error("units", unit, "is not in the image", "build the image anew")
            continue
        if not unit.endswith(".service"):
            continue
        said = {line.partition("=")[0] for file in files for line in file.read_text(encoding="utf-8").splitlines()}
        must = [key for key in UNIT_MUST if not (key == "ProtectSystem" and unit in MOUNTS_FOR_ALL)]
        if missing := [key for key in must if key not in said]:
            yield error("units", unit, f"says nothing of {', '.join(missing)}", "drivers/image/root has the unit")
        yield _exposure(root, unit)


def exposure(root: Path, unit: str) -> float | None:
    """The exposure of a unit, 0 to 10; None where ``systemd-analyze`` does not say."""
    program = shutil.which("systemd-analyze", path=PATH)
    if program is None:
        return None
    argv = (program, "security", "--no-pager", "--offline=yes", f"--root={root}", unit.replace("@.", "@x."))
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _OVERALL.search(done.stdout)
    return float(found[1]) if found is not None else None


def _exposure(root: Path, unit: str) -> Finding:
    value = exposure(root, unit)
    if value is None:
        return note("units", unit, "its exposure was not measured", "apt-get install systemd")
    text = f"exposure {value:.1f} of 10"
    if value > EXPOSURE_MAX:
        return error("units", unit, text, f"at most {EXPOSURE_MAX}: see systemd-analyze security {unit}")
    return ok("units", unit, text)


def logins(root: Path, entries: Sequence[Entry]) -> Iterator[Finding]:
    """Whether anybody could log in: no server for it, no shell on a terminal, no account with a password."""
    system = root / "etc/systemd/system"
    open_ = [unit for unit in MASKED if not (system / unit).is_symlink() and not _empty(system / unit)]
    if open_:
        yield error("logins", "masked units", f"not masked: {', '.join(open_)}", LAY_OVER)
    else:
        yield ok("logins", "masked units", f"{len(MASKED)} units can never be started, all login shells among them")
    programs = sorted(entry.path for entry in entries if Path(entry.path).name in SERVERS and entry.kind == "-")
    if programs:
        yield error("logins", "servers", f"{', '.join(programs)} in the image", "leave the package out")
    else:
        yield ok("logins", "servers", "no SSH or other login server in the image")
    yield _accounts(root)
    keys = sorted(entry.path for entry in entries if entry.path.endswith("/authorized_keys"))
    if keys:
        yield error("logins", "keys", f"{', '.join(keys)} in the image", "no key of a person belongs into an image")


def _accounts(root: Path) -> Finding:
    shadow = root / "etc/shadow"
    if not shadow.is_file():
        return error("logins", "/etc/shadow", "is not there: nothing says that root is locked", "build the image anew")
    rows = [line.split(":") for line in shadow.read_text(encoding="utf-8").splitlines() if line]
    open_ = [row[0] for row in rows if len(row) < 2 or not row[1].startswith(("!", "*"))]
    if open_ or "root" not in {row[0] for row in rows}:
        text = f"an account with a password, or with none at all: {', '.join(open_) or 'root'}"
        return error("logins", "/etc/shadow", text, LAY_OVER)
    return ok("logins", "/etc/shadow", f"all {len(rows)} accounts are locked, root among them")


def files(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Whether any file gives its caller another's rights, or can be changed by anybody."""
    for what, found, fine in (
        ("set-user or set-group programs", [entry for entry in entries if entry.privileged], "none"),
        (
            "files that everybody may write",
            [one for one in entries if one.writable and one.kind in "-d"],
            "none",
        ),
        ("files that do not belong to a system account", [entry for entry in entries if entry.uid >= 1_000], "none"),
    ):
        if found:
            names = ", ".join(entry.path for entry in found[:5])
            yield error("files", what, f"{len(found)}: {names}", LAY_OVER)
        else:
            yield ok("files", what, fine)


def doors(root: Path) -> Iterator[Finding]:
    """Whether the rules drop what they do not name, what they let in, and whether ``nft`` takes them."""
    path = root / "etc/nftables.conf"
    if not path.is_file():
        yield error("doors", "/etc/nftables.conf", "is not there: everything gets in", "build the image anew")
        return
    text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.strip().startswith("#"))
    for hook in ("input", "forward"):
        if re.search(rf"hook {hook} priority [\w-]+; policy drop;", text):
            yield ok("doors", hook, "dropped unless a rule lets it in")
        else:
            yield error("doors", hook, "what no rule names gets in", f"policy drop in the chain of hook {hook}")
    found = re.findall(r"(tcp|udp) dport \{?\s*([0-9,\s-]+?)\s*\}? accept", text)
    listed = "; ".join(f"{protocol} {' '.join(ports.replace(',', ' ').split())}" for protocol, ports in found)
    yield note("doors", "listed ports", listed or "none")
    yield _taken(path)


def _taken(path: Path) -> Finding:
    program = shutil.which("nft", path=PATH)
    if program is None or os.geteuid() != 0:
        return note("doors", "nft --check", "not asked: needs root and nftables", "run this as root")
    try:
        done = subprocess.run(
            [program, "--check", "--file", str(path)], capture_output=True, text=True, timeout=SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        return warning("doors", "nft --check", str(failure), "apt-get install nftables")
    if done.returncode:
        return error("doors", "nft --check", done.stderr.strip().splitlines()[0][:200], "correct the rules")
    return ok("doors", "nft --check", "takes the rules")


def read_only(root: Path) -> Iterator[Finding]:
    """Whether the root file system ends up read-only, and logs in memory with a bound."""
    wanted = root / "etc/systemd/system/sysinit.target.wants/moxie-readonly.service"
    if wanted.is_symlink():
        yield ok("root", "/", "remounted read-only before any service starts")
    else:
        yield error("root", "/", "stays writable", LAY_OVER)
    conf = root / "etc/systemd/journald.conf.d/moxie.conf"
    text = conf.read_text(encoding="utf-8") if conf.is_file() else ""
    if "Storage=volatile" in text and "RuntimeMaxUse=" in text:
        yield ok("root", "logs", "in memory, with a bound")
    else:
        yield error("root", "logs", "not bounded, or not in memory", "etc/systemd/journald.conf.d/moxie.conf")


def _files_of(root: Path, unit: str) -> list[Path]:
    """A unit's file and what is dropped in beside it."""
    homes = [root / part / unit for part in ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")]
    main = next((path for path in homes if path.is_file()), None)
    return [] if main is None else [main, *sorted((homes[0].parent / f"{unit}.d").glob("*.conf"))]


def _empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
