"""The root of an image: Debian's packages unpacked, pruned of what no node reads, and free of traces of the build."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from drivers.image.profile import PERL, PICKED, PRUNED, SUITE, Profile
from drivers.image.tools import EPOCH_S, BuildFailure, call

INSTALL_S_MAX = 3_600.0
CACHE_KEPT = 4
"""How many unpacked roots a cache holds; the one that was used longest ago goes first."""
CACHE_FORMAT = "6"
"""Changes whenever the same packages would be unpacked differently, so that an old cache is not used."""
NOT_UNPACKED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
UNPACKED = ("/usr/share/doc/*/copyright",)
_APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Programs of packages run with mounts and processes of their own, which end with them whatever happens to us."""
_HOOKS = ('--setup-hook=mkdir -p "$1/usr/share/man/man1"',)
"""Java does not install where there is no folder for its pages of the manual."""
_FETCH = """set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
kernel=$(apt-cache depends --important {kernel} | sed -n 's/^ *Depends: \\(linux-image-[^ ]*\\)$/\\1/p' | head -n 1)
mkdir "$1/debs"
cd "$1/debs"
apt-get -qq download "$kernel" {picked}
"""


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """Debian as it came: ``root``, and ``debs``, packages that were fetched but not installed."""

    root: Path
    debs: Path


def base_root(profile: Profile, sources: str, state: str, cache: Path, fresh: bool, say: Callable[[str], None]) -> Base:
    """Debian's packages unpacked and configured, from the cache if nothing has changed since.

    ``state``: what the archives held, ``archive_state``. ``fresh``: do not use what is in the cache.
    Raises: BuildFailure.
    """
    inputs = (CACHE_FORMAT, profile.kernel, *profile.packages, *PICKED, sources, state)
    key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
    kept = cache / f"{profile.name}-{key}"
    if kept.is_dir() and not fresh:
        say(f"Debian packages: unpacked before, {kept}")
        os.utime(kept)
        return Base(root=kept / "root", debs=kept / "debs")
    new = cache / f".new-{profile.name}-{os.getpid()}"
    remove(new)
    try:
        _install(profile, sources, new, say)
        remove(kept)
        new.rename(kept)
    finally:
        remove(new)
    for old in sorted(_roots(cache), key=lambda path: path.stat().st_mtime, reverse=True)[CACHE_KEPT:]:
        remove(old)
    return Base(root=kept / "root", debs=kept / "debs")


def copy_root(base: Base, root: Path) -> None:
    """Copy a base root, with owners, modes, and links. Raises: BuildFailure."""
    call(("cp", "-a", "--reflink=auto", str(base.root), str(root)), seconds=600)


def unpack(base: Base, work: Path) -> dict[str, Path]:
    """Unpack the packages that were fetched but not installed; where each lies, by package ("kernel": the kernel's).

    Raises: BuildFailure.
    """
    found: dict[str, Path] = {}
    for deb in sorted(base.debs.glob("*.deb")):
        name = deb.name.partition("_")[0]
        folder = work / "unpacked" / name
        folder.mkdir(parents=True)
        call(("dpkg-deb", "-x", str(deb), str(folder)), seconds=300)
        found["kernel" if name.startswith("linux-image-") else name] = folder
    missing = [name for name in ("kernel", *PICKED) if name not in found]
    if missing:
        raise BuildFailure(f"{', '.join(missing)}: not among the packages that were fetched")
    return found


def add_kernel(root: Path, kernel: Path, dropped: Sequence[str]) -> str:
    """Move a kernel's modules into a root, without those that are ``dropped``, and give its release.

    Raises: BuildFailure.
    """
    places = sorted((kernel / "lib/modules").iterdir())
    if len(places) != 1:
        raise BuildFailure(f"the kernel's package holds {len(places)} sets of modules instead of one")
    release = places[0].name
    target = root / "usr/lib/modules" / release
    target.parent.mkdir(exist_ok=True)
    shutil.move(places[0], target)
    for name in dropped:
        remove(target / "kernel" / name)
    for name in ("build", "source"):
        (target / name).unlink(missing_ok=True)
    call(("depmod", "-b", str(root), release), seconds=120)
    for path in target.glob("*.bin"):
        if path.name not in _MODULE_TABLES:
            path.unlink()
    return release


_MODULE_TABLES = tuple(f"modules.{name}.bin" for name in ("dep", "alias", "symbols", "builtin", "builtin.alias"))
"""What kmod reads; it does not read the texts beside them."""


def add_picked(root: Path, unpacked: dict[str, Path]) -> None:
    """Copy single files of packages that are not installed into a root. Raises: BuildFailure."""
    for package, names in PICKED.items():
        for name in names:
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(unpacked[package] / name, target)
            except FileNotFoundError:
                raise BuildFailure(f"{package}: holds no {name}") from None


def prune(root: Path, profile: Profile) -> None:
    """Remove what no node reads, and every trace of the building machine. The same root comes out each time."""
    for pattern in (*PRUNED, *(() if profile.perl else PERL)):
        for path in sorted(root.glob(pattern)):
            remove(path)
    for name in ("etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/.pwd.lock", "etc/resolv.conf"):
        remove(root / name)
    for name in ("var/cache/ldconfig/aux-cache", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed"):
        remove(root / name)
    (root / "etc/machine-id").write_bytes(b"")
    (root / "etc/hostname").write_text("node\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc/fstab").write_bytes(b"")
    for name in ("etc/hostname", "etc/hosts", "etc/fstab", "etc/machine-id"):
        (root / name).chmod(0o644)
    for name, mode in {"var/log": 0o755, "var/tmp": 0o1777, "tmp": 0o1777, "var/cache": 0o755, "boot": 0o755}.items():
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(mode)
    for name in ("etc/moxie", "var/lib/moxie"):
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(0o700)
    units = root / "etc/systemd/system"
    if profile.coldplug:
        words = " ".join(f"--subsystem-match={name}" for name in profile.coldplug)
        text = f"[Service]\nExecStart=\nExecStart=udevadm trigger --action=add {words}\n"
        folder = units / "systemd-udev-trigger.service.d"
        folder.mkdir()
        (folder / "few.conf").write_text(text)
    for path in sorted(root.glob("dev/*")) + sorted(root.glob("run/*")):
        remove(path)


def squash(root: Path, out: Path, compressor: Sequence[str]) -> None:
    """Pack a root as a squashfs, the same bytes for the same root. Raises: BuildFailure."""
    remove(out)
    options = ("-noappend", "-no-progress", "-no-xattrs", "-no-exports", "-reproducible", "-quiet")
    times = ("-mkfs-time", str(EPOCH_S), "-all-time", str(EPOCH_S))
    argv = ("mksquashfs", str(root), str(out), "-comp", *compressor, *options, *times)
    call(argv, seconds=1_800, variables={"SOURCE_DATE_EPOCH": ""})


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there; links are not followed.

    Raises: BuildFailure if something is mounted in it: what is mounted belongs to somebody else.
    """
    if path.is_dir() and not path.is_symlink():
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        inside = [place for line in mounts if Path(place := line.split()[1]).is_relative_to(path.absolute())]
        if inside:
            raise BuildFailure(f"{path}: {inside[0]} is mounted in it; remedy: umount it, then remove the folder")
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _install(profile: Profile, sources: str, folder: Path, say: Callable[[str], None]) -> None:
    folder.mkdir(parents=True)
    root = folder / "root"
    say(f"Debian packages: {SUITE}, {len(profile.packages)} named ones and what they need; this takes a minute or more")
    fetch = _FETCH.format(kernel=profile.kernel, picked=" ".join(PICKED))
    options = [f"--dpkgopt=path-exclude={glob}" for glob in NOT_UNPACKED]
    options += [f"--dpkgopt=path-include={glob}" for glob in UNPACKED]
    argv = (
        *_APART,
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"),
        *(f"--include={','.join(profile.packages)}", *options, f"--customize-hook={fetch}"),
        *_HOOKS,
        *("", str(root), "-"),
    )
    call(argv, text=sources.encode(), seconds=INSTALL_S_MAX)
    (root / "debs").rename(folder / "debs")


def _roots(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir() and not path.name.startswith(".")]
