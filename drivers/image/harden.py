"""``rack image harden``: an image measured, and what it lost of its hardening said with the remedy."""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.finding import Finding, count, error, findings_text, note, ok
from drivers.image import exposure, yardstick
from drivers.image.hardening import KERNEL_WORDS
from drivers.image.manifest import ROOT, Manifest, read_manifest
from drivers.image.unpacked import listing, unpack
from formats.paint import Paint

KINDS = {"kconfig": "kernel configuration", "cmdline": "kernel command line", "sysctl": "sysctls"}
CHECKER_REMEDY = "install kernel-hardening-checker 0.6.17 or newer (docs/hardening.md says how), or --checker PATH"


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """How the image's kernel did, and Debian 12's default with the same kernel."""

    image: yardstick.Score
    debian: yardstick.Score


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured; ``kernel`` is None where the yardstick could not be run.

    ``units``: exposure of our units, 0 to 10; ``debian_units``: of comparable ones that Debian ships.
    """

    image: str
    kernel: Kernel | None
    units: dict[str, float]
    debian_units: dict[str, float]
    findings: tuple[Finding, ...]


def measure(folder: Path, config: Path | None = None, checker: Path | None = None) -> Report:
    """Measure the image in a folder. ``config``: its kernel's, if it is not in the image; ``checker``: the yardstick.

    Raises: InputError.
    """
    manifest = read_manifest(folder)
    entries = listing(folder / ROOT)
    with tempfile.TemporaryDirectory(prefix="moxie-harden-") as place:
        root = Path(place) / "root"
        unpack(folder / ROOT, root)
        findings = [_words(manifest)]
        kernel = _kernel(root, manifest, config, checker, findings)
        findings += exposure.units(root)
        findings += exposure.logins(root, entries)
        findings += exposure.files(entries)
        findings += exposure.doors(root)
        findings += exposure.read_only(root)
        units = {unit: value for unit in exposure.OURS if (value := exposure.exposure(root, unit)) is not None}
    return Report(
        image=str(folder),
        kernel=kernel,
        units=units,
        debian_units=yardstick.debian().units,
        findings=tuple(findings),
    )


def _words(manifest: Manifest) -> Finding:
    missing = [word for word in KERNEL_WORDS if word not in manifest.cmdline.split()]
    if missing:
        return error("kernel", "command line", f"without {' '.join(missing)}", "build the image anew")
    return ok("kernel", "command line", f"all {len(KERNEL_WORDS)} words of hardening")


def _kernel(
    root: Path, manifest: Manifest, config: Path | None, checker: Path | None, findings: list[Finding]
) -> Kernel | None:
    command = yardstick.find_checker(checker)
    found = config or next(iter(sorted(root.glob("usr/lib/modules/*/config"))), None)
    if not command:
        findings.append(note("kernel", "yardstick", "not run: not installed", CHECKER_REMEDY))
        return None
    if found is None:
        remedy = "--kernel-config FILE (/boot/config-* of the package of the kernel)"
        findings.append(note("kernel", "yardstick", "not run: its kernel's configuration is not in the image", remedy))
        return None
    if not found.is_file():
        raise InputError([f"--kernel-config {found}: no such file; needed: /boot/config-* of the kernel's package"])
    debian = yardstick.debian()
    theirs = yardstick.measure(command, found, debian.cmdline, {**debian.kernel, **debian.sysctl})
    ours = yardstick.measure(
        command, found, f"console=ttyS0 {manifest.cmdline}", yardstick.sysctls(root, debian.kernel)
    )
    for kind in ("cmdline", "sysctl"):
        if ours.passed.get(kind, 0) <= theirs.passed.get(kind, 0):
            findings.append(error("kernel", KINDS[kind], "no better than Debian's default", "build the image anew"))
    return Kernel(image=ours, debian=theirs)


def text(report: Report, paint: Paint) -> str:
    """The report for a person."""
    lines = []
    if report.kernel is not None:
        lines.append(f"{'kernel-hardening-checker, passed of all':<44}{'image':>10}{'Debian 12':>12}")
        ours, theirs = report.kernel.image, report.kernel.debian
        for kind, name in KINDS.items():
            every = ours.all.get(kind, 0)
            left, right = f"{ours.passed.get(kind, 0)}/{every}", f"{theirs.passed.get(kind, 0)}/{every}"
            lines.append(f"  {name:<42}{left:>10}{right:>12}")
        spelled = sum(check.desired_val == yardstick.SPELLED for check in ours.failed)
        lines.append(f"  {spelled} of the image's failures only want a default to be written down")
        for check in ours.failed:
            if check.type != "kconfig" and check.desired_val != yardstick.SPELLED:
                lines.append(f"  failed: {check.option_name} ({KINDS[check.type]}): wanted {check.desired_val}")
        lines.append("")
    lines.append("systemd-analyze security, 0 best, 10 worst")
    lines += [f"  {unit:<42}{value:>10.1f}" for unit, value in report.units.items()]
    lines += [f"  {unit:<42}{'':>10}{value:>12.1f}" for unit, value in report.debian_units.items()]
    return "\n".join([*lines, "", findings_text(report.findings, paint)])


def add_words(parser: argparse.ArgumentParser) -> None:
    """Add what ``rack image harden`` takes to its parser."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="an image's folder")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--kernel-config", type=Path, metavar="FILE", help="the kernel's, if it is not in the image")
    parser.add_argument("--checker", type=Path, metavar="PATH", help="kernel-hardening-checker, or its Python folder")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 if nothing is lost, else 1. Raises: InputError."""
    report = measure(arguments.folder, arguments.kernel_config, arguments.checker)
    if arguments.json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n")
    else:
        sys.stdout.write(text(report, Paint(sys.stdout.isatty())))
    return 1 if count(report.findings)["error"] else 0
