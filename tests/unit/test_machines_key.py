"""A rack from a USB key: what is on the key, what its image's Python finds first, what the lab sees of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import InputError
from drivers.first_answers import Answers, gather, keep
from drivers.first_operator import hand_over
from drivers.image.disk import BOOT_LABEL, layout
from drivers.image.partitions import Partition
from drivers.image.python_tree import HOME, INTERPRETER, make_interpreter
from drivers.image.slot_filesystem import put_folder_in_boot
from drivers.lab.layout import LabFailure, Layout, write_layout
from drivers.lab.machines_key import KEY_TIMING, answers, await_first, dark_guests, first_guest, take_operator
from drivers.lab.machines_watch import Tail
from drivers.lab.qemu import boot_words
from drivers.toml_text import toml_text
from tests.unit.test_first_server import words


def lab(folder: Path, usb: bool = False) -> Layout:
    """A lab with the machine of the key and a dark one; nothing of it runs."""
    guests = (first_guest(usb), *dark_guests(1, 2_048))
    made = Layout(name="mxtest", folder=folder, nodes=(), boot_ms=0, voters=1, volumes=False, guests=guests)
    write_layout(made)
    return made


def boot_partition(disk: Path) -> Partition:
    """A disk that is nothing but the loader's place and an empty boot partition; that partition."""
    part = layout(1, 0)[1]
    with disk.open("wb") as file:
        file.truncate(part.begin + part.size)
    place = ("-i", f"{disk}@@{part.begin}")
    subprocess.run(("mformat", *place, "-F", "-T", str(part.size // 512), "-h", "64", "-s", "32", "::"), check=True)
    return Partition(name=BOOT_LABEL, number=2, offset=part.begin, bytes=part.size)


# -- the answers on the key --------------------------------------------------------------------------------------------


def test_the_answers_of_the_lab_are_answers(tmp_path: Path) -> None:
    file = tmp_path / "first-server.toml"
    file.write_text(toml_text({**answers(KEY_TIMING), "images": "images"}))
    told = gather(words(f"--answers {file}"), tmp_path / "out")
    assert told.bmc_password == tmp_path / "bmc"
    assert told.catalog == tmp_path / "catalog.toml"
    timing = told.settings["timing"]
    assert isinstance(timing, dict)
    assert timing["boot_ms_max"] == KEY_TIMING.boot_ms_max
    keep(told, tmp_path / "out")
    assert gather(words(""), tmp_path / "out") == told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("timing = {sesion_timeout_ms = 8000}", 'did you mean "session_timeout_ms"?'),
        ("timing = {session_timeout_ms = -1}", "allowed: a whole number from 1"),
        ("zookeeper = {heap_mib = true}", "zookeeper.heap_mib"),
        ("node = 'n7'", "settings.node = 'n7': no such key; allowed:"),
    ],
)
def test_settings_that_no_node_would_start_with_are_refused_before_anything_is_made(
    tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "first-server.toml"
    file.write_text(f"{toml_text({'boot': '10.98.0.0/24', 'images': 'x'})}\n[settings]\n{text}\n")
    with pytest.raises(InputError) as caught:
        gather(words(f"--answers {file} --interface eth0 --management 10.98.1.0/24 --bmc-password pw"), tmp_path)
    assert said.replace("'", '"') in str(caught.value).replace("'", '"')


def test_answers_without_settings_are_as_they_were(tmp_path: Path) -> None:
    assert Answers.__struct_fields__[-1] == "settings"
    keep(
        gather(
            words("--boot 10.98.0.0/24 --management 10.98.1.0/24 --bmc-password p --images i --interface e"), tmp_path
        ),
        tmp_path,
    )
    assert "session_timeout_ms" not in (tmp_path / "first-server.toml").read_text()


# -- what the key gets -------------------------------------------------------------------------------------------------


def test_the_operators_folder_goes_to_the_key_and_comes_back_owner_only(tmp_path: Path) -> None:
    here = lab(tmp_path / "lab")
    disk = here.case(here.guests[0]) / "disk.raw"
    disk.parent.mkdir(parents=True)
    boot = boot_partition(disk)
    folder = tmp_path / "operator"
    (folder / "tls").mkdir(parents=True)
    (folder / "operator.toml").write_text("first")
    put_folder_in_boot(disk, boot, folder, "moxie")
    (folder / "operator.toml").write_text("again")
    (folder / "tls" / "operator.key").write_text("secret")
    put_folder_in_boot(disk, boot, folder, "moxie")
    take_operator(here)
    taken = here.folder / "rack" / "operator"
    assert (taken / "operator.toml").read_text() == "again"
    assert (taken / "tls" / "operator.key").read_text() == "secret"
    assert (taken / "tls" / "operator.key").stat().st_mode & 0o077 == 0


def test_a_machine_that_runs_no_image_of_ours_hands_nothing_over(tmp_path: Path) -> None:
    assert not hand_over(tmp_path, tmp_path / "no-such-mark")


def test_a_key_that_holds_no_operator_is_said(tmp_path: Path) -> None:
    here = lab(tmp_path / "lab")
    disk = here.case(here.guests[0]) / "disk.raw"
    disk.parent.mkdir(parents=True)
    boot_partition(disk)
    with pytest.raises(LabFailure, match="moxie/operator"):
        take_operator(here)


# -- what is seen of it ------------------------------------------------------------------------------------------------


def test_what_a_first_server_says_is_said_again_until_its_rack_has_begun(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    console.write_bytes(b"")
    tail = Tail(console, 1 << 16)
    console.write_bytes(
        b"moxie: initrd begins\r\n[    8.1] systemd[1]: Hello\r\n[   66.3] sh[224]: making the storage\r\n"
        b"[   99.1] sh[224]: the rack runs and has its first records: it looks for machines now\r\n"
    )
    said: list[str] = []
    await_first(tail, said.append, 10_000)
    assert said[:2] == ["n1: moxie: initrd begins", "n1: making the storage"]
    assert len(said) == 3


def test_a_first_server_that_could_not_begin_is_not_waited_for(tmp_path: Path) -> None:
    console = tmp_path / "console.log"
    console.write_bytes(b"")
    tail = Tail(console, 1 << 16)
    console.write_bytes(b"[FAILED] Failed to start moxie-first.service - Moxie\r\n")
    with pytest.raises(LabFailure, match="could not begin"):
        await_first(tail, lambda _: None, 3_600_000)


@pytest.mark.parametrize("usb", [True, False])
def test_the_machine_of_the_key_boots_nothing_but_the_key(tmp_path: Path, usb: bool) -> None:
    here = lab(tmp_path / "lab", usb)
    network, local = boot_words(here.guests[0])
    assert network == local
    assert any("usb-storage" in word for word in local) == usb
    assert any(word.endswith("romfile=") for word in local)
    assert "order=c,once=n" in " ".join(boot_words(here.guests[1])[0])


# -- the image's Python ------------------------------------------------------------------------------------------------


def test_our_libraries_are_found_before_those_that_the_system_has_under_the_same_name(tmp_path: Path) -> None:
    """Ceph's packages bring a library for certificates that is older than ours."""
    home = tmp_path / HOME
    home.mkdir(parents=True)
    (home / "attr_of_both.py").write_text("WHOSE = 'ours'\n")
    make_interpreter(home, Path(sys.base_prefix) / "bin" / "python3.11", home)
    program = "import sys, attr_of_both; print(attr_of_both.WHOSE); print(*sys.path, sep='\\n')"
    done = subprocess.run((home / INTERPRETER, "-c", program), capture_output=True, text=True, check=True, cwd=tmp_path)
    whose, *paths = done.stdout.splitlines()
    assert whose == "ours"
    others = [at for at, path in enumerate(paths) if "packages" in path and not path.startswith(str(home))]
    assert all(paths.index(str(home)) < at for at in others)
