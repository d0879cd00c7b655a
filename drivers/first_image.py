"""The images of a first server: each verified with the rack's key, then kept by its id where the boot server looks."""

import shutil
from pathlib import Path

from core.errors import InputError
from core.ids import ImageId
from drivers.ca import write_public
from drivers.first_answers import RUNNING, Answers
from drivers.image.manifest import MANIFEST, PUBLIC_KEY, verify
from formats.problems import one_of

FOLDERS_MAX = 64


def put_images(answers: Answers, home: Path) -> tuple[ImageId, Path]:
    """Keep the images that the answers name in ``home``; the id of the one that machines boot, and the key.

    Raises: InputError if there is none, or one is not what was signed; nothing of that one is kept.
    """
    running = _running()
    folders, key = find_images(answers, home)
    found = {verify(folder, key): folder for folder in folders}
    if running is not None and answers.image == running and running not in found:
        return running, key  # it is in the slot that this machine booted from, where the boot server looks too
    if not answers.image and len(found) > 1:
        raise InputError([f"--image is missing; needed: one of {one_of(found)}"])
    image = ImageId(answers.image) if answers.image else next(iter(found))
    if image not in found:
        raise InputError([f"--image {image[:40]!r}: not in {answers.images}; allowed: {one_of(found)}"])
    for identity, folder in found.items():
        _keep(folder, home / identity)
    kept = home / PUBLIC_KEY
    if kept.absolute() != key.absolute():
        write_public(kept, key.read_bytes())
    return image, kept


def find_images(answers: Answers, home: Path) -> tuple[list[Path], Path]:
    """Where the images are that the answers name, and the key that they must be signed with; none is read yet.

    Raises: InputError if there is none.
    """
    folders = _folders(answers.images)
    if not folders and _running() is None:
        there = "no image in it" if answers.images.is_dir() else "no such folder"
        remedy = "rack image build --profile hyperconverged --key images.key --out DIR makes one"
        raise InputError([f"--images {answers.images}: {there}; {remedy}"])
    return folders, _key(answers, home)


def remember_words(words: dict[str, str]) -> bool:
    """Have this machine's boot loader give these kernel words at every boot; False where it has none of ours.

    Raises: InputError if the disk takes nothing.
    """
    from drivers.image.disk import node_cfg
    from drivers.image.slot_filesystem import SlotFailure
    from drivers.image.slots import find_disk

    disk = find_disk() if _running() is not None else None
    if disk is None:
        return False
    try:
        disk.write_words(node_cfg(words))
    except SlotFailure as error:
        raise InputError([f"{disk.path}: {error}; needed: the disk that this machine booted from"]) from None
    return True


def _folders(place: Path) -> list[Path]:
    """The image folders that a path means: itself, or those in it."""
    if (place / MANIFEST).is_file():
        return [place]
    inner = sorted(path.parent for path in place.glob(f"*/{MANIFEST}")) if place.is_dir() else []
    if len(inner) > FOLDERS_MAX:
        raise InputError([f"--images {place}: {len(inner)} images; allowed: {FOLDERS_MAX}"])
    return inner


def _key(answers: Answers, home: Path) -> Path:
    tried = [answers.image_key] if answers.image_key else [answers.images / PUBLIC_KEY, home / PUBLIC_KEY]
    for path in tried:
        if path.is_file():
            return path
    needed = f"the {PUBLIC_KEY} that `rack image keys` made: nobody may boot an image that was not signed"
    raise InputError([f"--image-key is missing ({one_of(map(str, tried))}: no such file); needed: {needed}"])


def _keep(folder: Path, target: Path) -> None:
    """Copy an image under its id; a copy that was interrupted has no manifest and is made again."""
    if (target / MANIFEST).is_file() or target.absolute() == folder.absolute():
        return
    try:
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST):
            if path.is_file():
                shutil.copyfile(path, target / path.name)
    except OSError as error:
        raise InputError([f"{target}: {error.strerror}; needed: room for the image"]) from None


def _running() -> ImageId | None:
    try:
        return ImageId(RUNNING.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError):
        return None
