"""An image in words: what it is, how large its parts are, and what was put in."""

from collections import Counter
from pathlib import Path

from core.errors import InputError
from drivers.image.manifest import BOOT_FILES, DISK, PACKAGES, SIGNATURE, image_id, read_manifest

MB = 1_000_000
PACKAGES_BYTES_MAX = 4 << 20


def summary(folder: Path) -> str:
    """The image of a folder in a few lines. Raises: InputError if there is none."""
    manifest = read_manifest(folder)
    signed = "signed" if (folder / SIGNATURE).is_file() else "NOT signed"
    lines = [f"image {image_id(folder)}: {manifest.profile} {manifest.version}, {signed}"]
    width = max(len(name) for name in manifest.files)
    for name, entry in sorted(manifest.files.items(), key=lambda item: (-item[1].bytes, item[0])):
        missing = "" if (folder / name).is_file() else "  MISSING"
        lines.append(f"  {name:{width}}  {entry.bytes / MB:8.1f} MB{missing}")
    total = sum(manifest.files[name].bytes for name in BOOT_FILES)
    lines.append(f"  {'to boot':{width}}  {total / MB:8.1f} MB  ({', '.join(BOOT_FILES)})")
    if (folder / DISK).is_file():
        status = (folder / DISK).stat()
        lines.append(
            f"  {DISK:{width}}  {status.st_size / MB:8.1f} MB  ({status.st_blocks * 512 / MB:.1f} MB of it used)"
        )
    kinds = Counter(line.partition(" ")[0] for line in packages_of(folder).splitlines())
    told = {"deb": "Debian packages", "pypi": "Python libraries"}
    lines.append(f"  {', '.join(f'{kinds[kind]} {text}' for kind, text in told.items())}")
    lines.append(f"  kernel words: {manifest.cmdline or '(none)'}")
    return "\n".join(lines) + "\n"


def packages_of(folder: Path) -> str:
    """The image's list of packages, one a line. Raises: InputError if it cannot be read."""
    path = folder / PACKAGES
    try:
        with path.open("rb") as file:
            return file.read(PACKAGES_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise InputError([f"{path}: cannot be read ({(error.strerror or str(error)).lower()})"]) from None
