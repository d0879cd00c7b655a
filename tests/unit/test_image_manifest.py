"""An image is what its maker signed, or the file that is not is named."""

import json
import stat
from pathlib import Path

import pytest

from core.errors import InputError
from drivers.cli import main
from drivers.image import manifest as images
from drivers.image.manifest import Manifest, describe, image_id, make_keys, read_manifest, sign, verify, write_manifest

FILES = {images.VMLINUZ: b"kernel" * 100, images.INITRD: b"initrd" * 50, images.ROOT: b"root" * 1_000}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A signed image of a few bytes, its keys beside it."""
    make_keys(tmp_path)
    folder = tmp_path / "image"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    write(folder)
    sign(folder, tmp_path / images.PRIVATE_KEY)
    return folder


def write(folder: Path, cmdline: str = "quiet") -> None:
    entries = describe(folder, tuple(FILES))
    write_manifest(
        folder, Manifest(format=images.FORMAT, profile="minimal", version="1", cmdline=cmdline, files=entries)
    )


def public(folder: Path) -> Path:
    return folder.parent / images.PUBLIC_KEY


def test_a_signed_image_is_verified_and_has_the_id_of_its_manifest(image: Path) -> None:
    assert verify(image, public(image)) == image_id(image)
    assert len(image_id(image)) == images.ID_DIGITS


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found_and_the_file_named(image: Path, name: str) -> None:
    content = bytearray((image / name).read_bytes())
    content[len(content) // 2] ^= 1
    (image / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: was tampered with"):
        verify(image, public(image))


@pytest.mark.parametrize("name", FILES)
def test_a_cut_or_a_missing_file_is_found_and_named(image: Path, name: str) -> None:
    (image / name).write_bytes(FILES[name][:-1])
    with pytest.raises(InputError, match=rf"{name}: .*cut: {len(FILES[name]) - 1} bytes"):
        verify(image, public(image))
    (image / name).unlink()
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        verify(image, public(image))


def test_every_file_that_is_wrong_is_named_at_once(image: Path) -> None:
    for name in (images.VMLINUZ, images.ROOT):
        (image / name).write_bytes(b"evil")
    with pytest.raises(InputError) as caught:
        verify(image, public(image))
    assert len(caught.value.problems) == 2


def test_a_manifest_that_was_written_anew_for_other_files_is_refused(image: Path) -> None:
    (image / images.ROOT).write_bytes(b"evil")
    write(image)
    with pytest.raises(InputError, match="signed with another key"):
        verify(image, public(image))


def test_the_key_of_somebody_else_is_refused(image: Path, tmp_path: Path) -> None:
    _, other = make_keys(tmp_path / "other")
    with pytest.raises(InputError, match="signed with another key"):
        verify(image, other)


def test_an_image_without_a_signature_is_refused(image: Path) -> None:
    (image / images.SIGNATURE).unlink()
    with pytest.raises(InputError, match=r"manifest\.sig: cannot be read"):
        verify(image, public(image))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format: 2"),
        ({"files": {}}, "vmlinuz is missing"),
        ({"surprise": 1}, "surprise"),
        ({"cmdline": "a\nb"}, "cmdline"),
        ({"cmdline": "ä"}, "cmdline"),
    ],
)
def test_a_manifest_that_says_what_none_may_say_is_refused(image: Path, change: dict[str, object], said: str) -> None:
    path = image / images.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=said):
        read_manifest(image)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "manifest.json", "x\u202ey\n"])
def test_a_manifest_names_only_files_beside_it(image: Path, name: str) -> None:
    path = image / images.MANIFEST
    content = json.loads(path.read_text())
    content["files"][name] = content["files"][images.ROOT]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="allowed: names of files beside"):
        read_manifest(image)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"x" * (images.BYTES_MAX + 1)])
def test_what_is_no_manifest_is_said_so(image: Path, content: bytes) -> None:
    (image / images.MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_manifest(image)


def test_a_private_key_is_for_its_owner_only_and_never_made_over_another(tmp_path: Path) -> None:
    private, _ = make_keys(tmp_path)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        make_keys(tmp_path)
    assert private.read_bytes() == before


def test_a_public_key_does_not_sign_and_nonsense_is_no_key(image: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no private key"):
        sign(image, public(image))
    (tmp_path / "nonsense").write_bytes(b"-----BEGIN nothing-----\n")
    with pytest.raises(InputError, match="holds no public key"):
        verify(image, tmp_path / "nonsense")


def test_the_command_line_verifies_and_names_the_file_with_exit_code_2(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["image", "verify", str(image), "--key", str(public(image))]
    assert main(words) == 0
    assert image_id(image) in capsys.readouterr().out
    (image / images.INITRD).write_bytes(b"evil")
    assert main(words) == 2
    assert f"{image / images.INITRD}: was tampered with" in capsys.readouterr().err
