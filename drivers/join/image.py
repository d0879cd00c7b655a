"""Whether the image that runs here is the one that this machine was booted with, and one that the rack's owner signed.

A machine that was given another image on the way joins with nothing: it stops here, with the reason. The check is made
by the very image it is about, so it finds what was mixed up, and a root that nobody signed; a lying kernel it cannot
find. See docs/drivers/join.md.
"""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.exceptions import InvalidSignature

from core.errors import InputError
from drivers.image.manifest import (
    BYTES_MAX,
    MANIFEST,
    ROOT,
    SIGNATURE,
    SIGNATURE_BYTES,
    image_id,
    load_public,
    read_manifest,
)
from drivers.join.boot import Boot, Self, one_line
from drivers.join.pinned import get

FETCH_S = 15.0


class WrongImage(Exception):
    """What runs here is not what this machine was to boot; the text says what differs."""


def check(boot: Boot, me: Self) -> None:
    """Compare what runs here with the signed manifest that the boot server has for ``moxie.image``.

    Raises: WrongImage; drivers.join.pinned.Unreachable; InputError if this image lacks its own key or hash.
    """
    signed = get(boot.server, boot.http, f"/images/{boot.image}/{MANIFEST}", BYTES_MAX, FETCH_S)
    signature = get(boot.server, boot.http, f"/images/{boot.image}/{SIGNATURE}", SIGNATURE_BYTES, FETCH_S)
    running = one_line(me.root_hash, "the SHA-256 of the root that runs here, from the initramfs")
    check_signed(signed, signature, boot.image, running, me.image_key)


def check_signed(signed: bytes, signature: bytes, image: str, running: str, public_key: Path) -> None:
    """Check that a manifest is signed, is that of ``image``, and names the root of SHA-256 ``running``.

    Raises: WrongImage; InputError if ``public_key`` is none.
    """
    try:
        load_public(public_key).verify(signature, signed)
    except InvalidSignature:
        raise WrongImage(
            f"{MANIFEST} of image {image} was tampered with, or signed with a key not known here"
        ) from None
    if hashlib.sha256(signed).hexdigest()[: len(image)] != image:
        raise WrongImage(f"{MANIFEST} is that of another image than {image}")
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / MANIFEST).write_bytes(signed)
        try:
            root = read_manifest(folder).files[ROOT]
        except InputError as error:
            raise WrongImage(error.problems[0]) from None
        assert image_id(folder) == image
    if root.sha256 != running:
        raise WrongImage(f"the root that runs here ({running[:16]}...) is not that of image {image}")
