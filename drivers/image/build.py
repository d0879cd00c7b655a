"""Building an image: from the names of packages to a signed folder that a machine boots.

The same inputs give the same bytes: no clock, no order of a file system, nothing of the building machine gets in.
"""

import fcntl
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import ImageId
from drivers.image import manifest as wanted
from drivers.image.disk import DISK_PROGRAMS, write_disk
from drivers.image.grub import BOOT_FOLDER, make_loader
from drivers.image.initramfs import build_initrd
from drivers.image.manifest import Manifest, describe, load_private, public_pem, sign, write_manifest
from drivers.image.overlay import kernel_words, overlay
from drivers.image.profile import MODULES_DROPPED, Profile
from drivers.image.python_tree import DISTRIBUTION, check_python, compile_code, copy_code, needed
from drivers.image.root import Base, add_kernel, add_picked, base_root, copy_root, prune, remove, squash, unpack
from drivers.image.sbom import Package, control_package, installed, packages_text, sbom
from drivers.image.sources import archive_state, sources_text
from drivers.image.tools import call, require

CACHE = Path("/var/cache/moxie/images")
PROGRAMS = ("mmdebstrap", "mksquashfs", "lz4", "dpkg-deb", "depmod", "grub-mkimage")
COMPRESSORS = {
    "zstd": ("zstd", "-Xcompression-level", "12", "-b", "256K"),
    "lz4": ("lz4", "-b", "64K"),
    "xz": ("xz", "-b", "256K"),
}
"""What mksquashfs is told. lz4 packs ten times as fast as zstd, is larger, and a machine boots from it with a
quarter fewer instructions (measured: 3.2 to 4.2 thousand million from systemd to the join); xz is small and slow."""
SOURCES = Path(__file__).parents[2]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be built. ``key`` None: not signed; ``fresh``: nothing from the cache; ``version`` "": the code's."""

    profile: Profile
    out: Path
    key: Path | None = None
    mirrors: tuple[str, ...] = ()
    disk: bool = False
    state_mb: int = 1_024
    version: str = ""
    compress: str = "zstd"
    cache: Path = CACHE
    fresh: bool = False


def build(plan: Plan, say: Callable[[str], None]) -> ImageId:
    """Build an image into ``plan.out`` and give its id; nothing is left there if it fails.

    Raises: InputError if something that the build needs is missing, BuildFailure if a step of it fails.
    """
    os.umask(0o022)
    sources = _check(plan)
    work = plan.cache / f".work-{os.getpid()}"
    new = plan.out.with_name(f".{plan.out.name}.new-{os.getpid()}")
    try:
        for folder in (work, new):
            remove(folder)
            folder.mkdir(parents=True)
        identity = _build(plan, sources, work, new, say)
        if plan.out.exists():
            plan.out.rmdir()
        new.rename(plan.out)
    except OSError as error:
        raise InputError([f"{error.filename or plan.out}: {(error.strerror or str(error)).lower()}"]) from None
    finally:
        remove(work)
        remove(new)
    return identity


def _build(plan: Plan, sources: str, work: Path, out: Path, say: Callable[[str], None]) -> ImageId:
    root, version = work / "root", plan.version or importlib.metadata.version(DISTRIBUTION)
    with _only_one(plan.cache, say):
        base = base_root(plan.profile, sources, archive_state(), plan.cache, plan.fresh, say)
        say("copying the root and unpacking the kernel")
        copy_root(base, root)
        unpacked = unpack(base, work)
        packages = _packages(base, root, version)
    release = add_kernel(root, unpacked["kernel"], (*MODULES_DROPPED, *plan.profile.modules_dropped))
    add_picked(root, unpacked)
    prune(root, plan.profile)
    say("our code and its libraries")
    copy_code(root, SOURCES)
    make_loader(unpacked["grub-pc-bin"], unpacked["grub-efi-amd64-bin"], root / BOOT_FOLDER, work)
    _describe_inside(root, plan, version, packages)
    shutil.copyfile(unpacked["kernel"] / f"boot/config-{release}", root / f"usr/lib/modules/{release}/config")
    overlay(root)
    compile_code(root)
    say(f"packing the root with {plan.compress}")
    squash(root, out / wanted.ROOT, COMPRESSORS[plan.compress])
    say("kernel and initrd")
    shutil.copyfile(unpacked["kernel"] / f"boot/vmlinuz-{release}", out / wanted.VMLINUZ)
    busybox = unpacked["busybox-static"] / "bin/busybox"
    baked = {f"root_{kind}": wanted.digest(out / wanted.ROOT, kind) for kind in ("sha256", "sha512")}
    (out / wanted.INITRD).write_bytes(build_initrd(root, busybox, release, baked, work))
    (out / wanted.PACKAGES).write_text(packages_text(packages), encoding="utf-8")
    (out / wanted.SBOM).write_bytes(sbom(f"moxie-{plan.profile.name}", version, packages))
    for path in out.iterdir():
        path.chmod(0o644)
    identity = write_manifest(out, _manifest(plan, version, out))
    if plan.key is not None:
        sign(out, plan.key)
    if plan.disk:
        say("writing the disk image")
        write_disk(out, root / BOOT_FOLDER, plan.profile.slot_mb, plan.state_mb, work)
    return identity


def _manifest(plan: Plan, version: str, out: Path) -> Manifest:
    return Manifest(
        format=wanted.FORMAT,
        profile=plan.profile.name,
        version=version,
        cmdline=" ".join(kernel_words()),
        files=describe(out, (*wanted.BOOT_FILES, wanted.PACKAGES, wanted.SBOM)),
    )


def _check(plan: Plan) -> str:
    """Look before leaping: everything that can be known to be missing is named at once. Gives the apt sources."""
    problems: list[str] = []
    if os.geteuid() != 0:
        problems.append("rack image build: not root; needed: root, since the image's files belong to many users")
    if plan.out.is_dir() and any(plan.out.iterdir()):
        problems.append(f"--out {plan.out}: is not empty; needed: a new or empty folder")
    elif plan.out.exists() and not plan.out.is_dir():
        problems.append(f"--out {plan.out}: is no folder; needed: a new or empty folder")
    if not plan.out.absolute().parent.is_dir():
        problems.append(f"--out {plan.out}: {plan.out.absolute().parent} is no folder; needed: a folder to put it in")
    sources = ""
    for check in (
        lambda: require((*PROGRAMS, *(DISK_PROGRAMS if plan.disk else ()))),
        check_python,
        needed,
        lambda: load_private(plan.key) if plan.key is not None else None,
    ):
        try:
            check()
        except InputError as error:
            problems += error.problems
    try:
        sources = sources_text(plan.mirrors)
    except InputError as error:
        problems += error.problems
    if problems:
        raise InputError(problems)
    _check_space(plan)
    return sources


def _check_space(plan: Plan) -> None:
    try:
        plan.cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError([f"--cache {plan.cache}: {(error.strerror or str(error)).lower()}"]) from None
    for folder, mb in ((plan.cache, plan.profile.space_mb), (plan.out.absolute().parent, 2 * plan.profile.slot_mb)):
        free = shutil.disk_usage(folder).free >> 20
        if free < mb:
            raise InputError([f"{folder}: {free} MB free; needed: {mb} MB to build {plan.profile.name}"])


def _packages(base: Base, root: Path, version: str) -> tuple[Package, ...]:
    """Everything in the image that somebody gave a version."""
    unpacked = [control_package(call(("dpkg-deb", "-f", str(deb)), seconds=60).decode()) for deb in _debs(base)]
    python = [Package(origin="pypi", name=one.name, version=one.version) for one in needed()]
    ours = Package(origin="moxie", name=DISTRIBUTION, version=version)
    return tuple(sorted((*installed(root), *unpacked, *python, ours)))


def _debs(base: Base) -> list[Path]:
    return sorted(base.debs.glob("*.deb"))


def _describe_inside(root: Path, plan: Plan, version: str, packages: tuple[Package, ...]) -> None:
    """What the running image can tell about itself, and the key that it checks other images with."""
    folder = root / "usr/share/moxie"
    folder.mkdir()
    (folder / wanted.PACKAGES).write_text(packages_text(packages), encoding="utf-8")
    if plan.key is not None:
        key = root / "usr/lib/moxie" / wanted.PUBLIC_KEY
        key.write_bytes(public_pem(load_private(plan.key).public_key()))
        key.chmod(0o644)
    release = root / "usr/lib/os-release"
    text = release.read_text(encoding="utf-8")
    release.write_text(f"{text}IMAGE_ID=moxie-{plan.profile.name}\nIMAGE_VERSION={version}\n", encoding="utf-8")
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextmanager
def _only_one(cache: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the cache: two builds at once would unpack the same thing twice, or clear it away from each other."""
    with (cache / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another build that uses {cache}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
