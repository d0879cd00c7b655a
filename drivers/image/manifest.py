"""What an image folder holds, and whether it is what its maker signed.

``manifest.json`` lists every other file with its SHA-256 and size; ``manifest.sig`` is the Ed25519 signature of its
bytes. An image's id is the beginning of the manifest's SHA-256, so two images with one id hold the same bytes.
"""

import hashlib
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.errors import InputError
from core.ids import ImageId
from drivers.ca import write_public, write_secret

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VMLINUZ, INITRD, ROOT = "vmlinuz", "initrd.img", "root.squashfs"
PACKAGES, SBOM, DISK = "packages.txt", "sbom.spdx.json", "disk.img"
BOOT_FILES = (VMLINUZ, INITRD, ROOT)
"""What a machine needs to boot; the others are for people."""
PRIVATE_KEY, PUBLIC_KEY = "images.key", "images.pub"
FORMAT = 1
BYTES_MAX = 1 << 20
"""A manifest is a few hundred bytes; longer than this it is none."""
FILES_MAX = 64
SIGNATURE_BYTES = 64
ID_DIGITS = 16


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of an image: ``sha256`` in hex."""

    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An image as its maker describes it. ``cmdline``: kernel words that belong to it; ``files`` by name."""

    format: int
    profile: str
    version: str
    cmdline: str
    files: dict[str, Entry]


def read_manifest(folder: Path) -> Manifest:
    """Read an image's manifest, without checking it against the files or the signature.

    Raises: InputError if it is missing, or says something that no manifest may say.
    """
    return _decode(folder / MANIFEST, _read(folder / MANIFEST))


def image_id(folder: Path) -> ImageId:
    """The id of the image in a folder. Raises: InputError if there is no manifest."""
    return _identity(_read(folder / MANIFEST))


def verify(folder: Path, public_key: Path) -> ImageId:
    """Check signature, sizes and digests of an image, and give its id. Reads every byte of it.

    Raises: InputError naming each file that is missing or was tampered with.
    """
    signed = _signed(folder, public_key)
    manifest = _decode(folder / MANIFEST, signed)
    problems = [
        problem for name, entry in sorted(manifest.files.items()) if (problem := _difference(folder / name, entry))
    ]
    if problems:
        raise InputError(problems)
    return _identity(signed)


def check_signature(folder: Path, public_key: Path) -> ImageId:
    """Check the signature of a manifest alone, and give the image's id. Raises: InputError."""
    return _identity(_signed(folder, public_key))


def describe(folder: Path, names: tuple[str, ...]) -> dict[str, Entry]:
    """The entries of files in a folder. Raises: InputError if one cannot be read."""
    return {name: Entry(sha256=digest(folder / name), bytes=(folder / name).stat().st_size) for name in sorted(names)}


def write_manifest(folder: Path, manifest: Manifest) -> ImageId:
    """Write ``manifest.json`` and give the image's id. Raises: InputError if it cannot be written."""
    write_public(
        folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"
    )
    return image_id(folder)


def sign(folder: Path, private_key: Path) -> None:
    """Sign the manifest of an image folder. Raises: InputError if there is no manifest or no key."""
    write_public(folder / SIGNATURE, load_private(private_key).sign(_read(folder / MANIFEST)))


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Make the pair of keys that signs images, the private one for its owner only; never over a pair that is there.

    Raises: InputError if one of the two is there, or the folder cannot be written.
    """
    private, public = folder / PRIVATE_KEY, folder / PUBLIC_KEY
    there = [path for path in (private, public) if path.exists()]
    if there:
        raise InputError([f"{there[0]}: is there already; needed: another folder, or remove it if nothing uses it"])
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_secret(private, secret)
    write_public(public, public_pem(key.public_key()))
    return private, public


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key as a PEM file holds it."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_private(path: Path) -> Ed25519PrivateKey:
    """Read the key that signs images. Raises: InputError."""
    remedy = "needed: a key that `rack image keys DIR` made"
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        raise InputError([f"{path}: holds no private key; {remedy}"]) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError([f"{path}: is not an Ed25519 key; {remedy}"])
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """Read the key that images are checked with. Raises: InputError."""
    remedy = f"needed: the {PUBLIC_KEY} that `rack image keys DIR` made"
    try:
        key = serialization.load_pem_public_key(_read(path))
    except ValueError:
        raise InputError([f"{path}: holds no public key; {remedy}"]) from None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError([f"{path}: is not an Ed25519 key; {remedy}"])
    return key


def digest(path: Path, kind: str = "sha256") -> str:
    """The SHA-256 of a file, or another digest, in hex. Raises: InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, kind).hexdigest()
    except OSError as error:
        raise InputError([f"{path}: cannot be read ({(error.strerror or str(error)).lower()})"]) from None


def _signed(folder: Path, public_key: Path) -> bytes:
    """The bytes of a manifest whose signature is right: what is trusted next is these, not what is on disk by then."""
    signed = _read(folder / MANIFEST)
    signature = _read(folder / SIGNATURE, SIGNATURE_BYTES)
    try:
        load_public(public_key).verify(signature, signed)
    except InvalidSignature:
        text = f"was tampered with, or signed with another key than {public_key}"
        raise InputError([f"{folder / MANIFEST}: {text}; needed: an image from somebody you trust"]) from None
    return signed


def _identity(manifest: bytes) -> ImageId:
    return ImageId(hashlib.sha256(manifest).hexdigest()[:ID_DIGITS])


def _decode(path: Path, content: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise InputError([f"{path}: {error}; needed: a manifest as `rack image build` writes it"]) from None
    problems = _problems(manifest)
    if problems:
        raise InputError([f"{path}: {problem}" for problem in problems])
    return manifest


def _difference(path: Path, entry: Entry) -> str:
    """What is wrong with a file, in words; empty if nothing is. Its size is looked at before its bytes are read."""
    try:
        size = path.stat().st_size
    except OSError as error:
        return f"{path}: cannot be read ({(error.strerror or str(error)).lower()}), but the manifest lists it"
    if size != entry.bytes:
        return f"{path}: was tampered with or cut: {size} bytes instead of {entry.bytes}"
    if digest(path) != entry.sha256:
        return f"{path}: was tampered with: its SHA-256 is not the manifest's"
    return ""


def _problems(manifest: Manifest) -> list[str]:
    problems = []
    if manifest.format != FORMAT:
        problems.append(f"format: {manifest.format}; allowed: {FORMAT}")
    if len(manifest.files) > FILES_MAX:
        problems.append(f"files: {len(manifest.files)} of them; allowed: {FILES_MAX}")
    for name, entry in list(manifest.files.items())[:FILES_MAX]:
        if not name or "/" in name or name.startswith(".") or not name.isprintable() or name in (MANIFEST, SIGNATURE):
            problems.append(f"files: {name[:40]!r}; allowed: names of files beside the manifest")
        if len(entry.sha256) != 64 or set(entry.sha256) - set("0123456789abcdef") or entry.bytes < 0:
            problems.append(f"files.{name[:40]}: no SHA-256 and size")
    problems += [f"files: {name} is missing" for name in BOOT_FILES if name not in manifest.files]
    if not ((manifest.cmdline.isascii() and manifest.cmdline.isprintable()) or not manifest.cmdline):
        problems.append("cmdline: allowed: one line of ASCII")
    return problems


def _read(path: Path, bytes_max: int = BYTES_MAX) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError([f"{path}: cannot be read ({reason}); needed: {_wanted(path)}"]) from None
    if len(content) > bytes_max:
        raise InputError([f"{path}: more than {bytes_max} bytes; needed: the file as `rack image build` wrote it"])
    return content


def _wanted(path: Path) -> str:
    """What should have been at a path, for whoever named another one."""
    if path.name == MANIFEST:
        return "the folder of an image, as `rack image build` writes it"
    if path.name == SIGNATURE:
        return "an image that is signed: rack image build --key"
    return "a key that `rack image keys DIR` made"
