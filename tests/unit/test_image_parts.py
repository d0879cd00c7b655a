"""The parts of an image that are made without any program: archive, list of packages, boot loader's words, sources."""

import itertools
import json
import re
import shutil
import struct
import subprocess
import tomllib
from pathlib import Path

import pytest

from core.errors import InputError
from drivers.image import manifest as images
from drivers.image.build import Plan, build
from drivers.image.disk import MIB, disk_bytes, layout, node_cfg, slot_cfg
from drivers.image.grub import ENV_BYTES, SECTOR, boot_sector, core_sectors, grubenv, read_grubenv
from drivers.image.initramfs import APPLETS, Archive, modules_with_needs
from drivers.image.profile import PROFILES, profile_of
from drivers.image.python_tree import REQUIRED, needed
from drivers.image.sbom import Package, debian_packages, packages_text, sbom
from drivers.image.sources import sources_text
from drivers.image.tools import BuildFailure, call, require

ROOT = Path(__file__).parents[2]

# -- initrd ------------------------------------------------------------------------------------------------------------


def archive() -> bytes:
    made = Archive()
    made.folder("bin")
    made.file("bin/tool", b"content", 0o755)
    made.link("bin/other", "tool")
    made.device("console", 5, 1)
    return made.content()


def test_an_archive_is_what_cpio_unpacks() -> None:
    listed = subprocess.run(
        ["cpio", "-tv", "--quiet"], input=archive(), capture_output=True, check=True
    ).stdout.decode()
    lines = [re.split(r"\s+", line, maxsplit=8) for line in listed.splitlines()]
    assert [(words[0], words[-1]) for words in lines] == [
        ("drwxr-xr-x", "bin"),
        ("-rwxr-xr-x", "bin/tool"),
        ("lrwxrwxrwx", "bin/other -> tool"),
        ("crw-------", "2026 console"),
    ]


def test_an_archive_has_the_same_bytes_each_time_and_ends_aligned() -> None:
    assert archive() == archive()
    assert len(archive()) % 4 == 0


def test_modules_bring_what_they_need_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    text = "kernel/a/virtio-net.ko: kernel/b/virtio.ko kernel/c/failover.ko\nkernel/b/virtio.ko:\nkernel/x.ko:\n"
    (tmp_path / "modules.dep").write_text(text)
    found = modules_with_needs(tmp_path, ("virtio_net", "not_there"))
    assert found == ("kernel/a/virtio-net.ko", "kernel/b/virtio.ko", "kernel/c/failover.ko")


def test_the_script_of_the_initrd_has_every_command_that_it_calls() -> None:
    """Whatever of its words is a program here, or one of busybox, is among the applets that busybox is asked for."""
    script = (ROOT / "drivers/image/init.sh").read_text()
    code = "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in script.splitlines())
    code = re.sub(r'"[^"$]*"', "", code)
    begins = r"(?:^|[;|&(]|\bdo\b|\bthen\b|\belse\b|\bif\b|\buntil\b|\bwhile\b|!)\s*"
    called = set(re.findall(begins + r"([a-z_][a-z_0-9]*)(?=\s|$)", code, re.MULTILINE))
    functions = set(re.findall(r"^([a-z]+)\(\) \{", script, re.MULTILINE))
    shell = {"if", "then", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "in", "exec", "export"}
    builtin = {"echo", "read", "return", "kill", "wait", "umask", "found", "break", "exit"}
    programs = {word for word in called - functions - shell - builtin if shutil.which(word) or word in APPLETS}
    assert {"wget", "findfs", "sha256sum", "modprobe"} <= programs
    assert programs <= set(APPLETS)


def test_the_script_of_the_initrd_is_valid_and_gives_nobody_a_shell() -> None:
    path = ROOT / "drivers/image/init.sh"
    subprocess.run(["sh", "-n", str(path)], check=True)
    assert not re.search(r"^\s*(exec )?(sh|ash|bash|cttyhack|setsid)\b", path.read_text(), re.M)


# -- packages ----------------------------------------------------------------------------------------------------------

STATUS = """Package: zlib1g
Status: install ok installed
Architecture: amd64
Source: zlib (1:1.2.13.dfsg-1)
Version: 1:1.2.13.dfsg-1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 12.2.0-14
Description: text
 Package: not a field
"""


def packages() -> tuple[Package, ...]:
    return (*debian_packages(STATUS), Package(origin="pypi", name="Typing_Extensions", version="4.1"))


def test_installed_packages_are_read_and_removed_ones_are_not() -> None:
    assert [one.name for one in debian_packages(STATUS)] == ["libstdc++6", "zlib1g"]
    assert packages_text(packages()).splitlines()[1] == "deb zlib1g 1:1.2.13.dfsg-1"


def test_the_bill_of_materials_is_spdx_2_3_as_its_schema_wants_it() -> None:
    document = json.loads(sbom("moxie-minimal", "0.1.0", packages()))
    for key in ("spdxVersion", "dataLicense", "SPDXID", "name", "documentNamespace", "creationInfo"):
        assert document[key]
    assert document["spdxVersion"] == "SPDX-2.3"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    ids = [one["SPDXID"] for one in document["packages"]]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", one) for one in ids)
    for one in document["packages"]:
        assert {"name", "SPDXID", "downloadLocation"} <= one.keys()
    known = {*ids, "SPDXRef-DOCUMENT"}
    assert all({one["spdxElementId"], one["relatedSpdxElement"]} <= known for one in document["relationships"])


def test_a_package_url_is_what_scanners_look_up() -> None:
    urls = [one.url for one in sorted(packages())]
    assert urls[0] == "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=bookworm"
    assert urls[1] == "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64&distro=bookworm"
    assert urls[2] == "pkg:pypi/typing-extensions@4.1"


def test_the_order_of_packages_does_not_show_and_another_package_does() -> None:
    one = sbom("moxie-minimal", "0.1.0", packages())
    assert one == sbom("moxie-minimal", "0.1.0", packages()[::-1])
    assert one != sbom("moxie-minimal", "0.1.0", packages()[1:])


def test_the_libraries_of_the_image_are_those_of_the_drivers_and_none_of_the_twin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [*project["dependencies"], *project["optional-dependencies"]["drivers"]]
    assert sorted(re.match(r"[a-z0-9-]+", text)[0] for text in ours) == sorted(REQUIRED)
    names = {one.name.lower() for one in needed()}
    assert {"cffi", "python-dateutil"} <= names
    assert not names & {"simpy", "numpy", "networkx", "pytest", "matplotlib"}


# -- disk --------------------------------------------------------------------------------------------------------------


def test_partitions_follow_one_another_and_fit_the_disk() -> None:
    parts = layout(512, 256)
    assert [part.name for part in parts] == [
        "moxie-loader",
        "MOXIE-BOOT",
        "moxie-slot-a",
        "moxie-slot-b",
        "moxie-state",
    ]
    for one, other in itertools.pairwise(parts):
        assert one.begin + one.size == other.begin
    assert parts[0].begin % MIB == 0
    assert parts[-1].begin + parts[-1].size + MIB == disk_bytes(512, 256)


def test_the_first_sector_leads_to_the_core_and_keeps_the_table() -> None:
    table = bytes(440) + bytes(range(72))
    sector = boot_sector(b"\xeb" * SECTOR, table, 2_048)
    assert struct.unpack_from("<Q", sector, 0x5C) == (2_048,)
    assert sector[440:] == table[440:]
    core = core_sectors(b"\x01" * 1_300, 2_048)
    assert len(core) == 3 * SECTOR
    assert struct.unpack_from("<QH", core, SECTOR - 12) == (2_049, 2)


def test_words_of_the_boot_loader_are_read_back_and_fill_their_block() -> None:
    words = {"good": "a", "next": "", "tries": "0"}
    assert len(grubenv(words)) == ENV_BYTES
    assert read_grubenv(grubenv(words)) == words
    assert read_grubenv(b"torn" + grubenv(words)[4:]) == {}
    assert read_grubenv(b"") == {}


@pytest.mark.parametrize("words", [{"a b": "1"}, {"good": "a\nnext=b"}, {"good": "x" * 1_100}, {"good": "\\"}])
def test_words_that_the_boot_loader_would_not_read_back_are_refused(words: dict[str, str]) -> None:
    with pytest.raises(BuildFailure, match="grubenv"):
        grubenv(words)


def test_kernel_words_of_a_node_cannot_break_out_of_their_line() -> None:
    assert node_cfg({"moxie.node": "n6", "moxie.ip": "10.98.0.6/24"}) == (
        'set node_words="moxie.node=n6 moxie.ip=10.98.0.6/24"\n'
    )
    for evil in ('"', "$root", "a b", "a\nb", "`x`", "ä"):
        with pytest.raises(InputError, match="allowed"):
            node_cfg({"moxie.node": evil})


def test_a_slot_says_which_image_it_holds(tmp_path: Path) -> None:
    entry = images.Entry(sha256="0" * 64, bytes=1)
    files = dict.fromkeys(images.BOOT_FILES, entry)
    found = images.Manifest(format=1, profile="minimal", version="1", cmdline="quiet pti=on", files=files)
    identity = images.write_manifest(tmp_path, found)
    assert slot_cfg(tmp_path) == f'set slot_words="quiet pti=on moxie.image={identity}"\n'


# -- sources of packages -----------------------------------------------------------------------------------------------

DEBIAN = """Types: deb
# a comment
URIs: http://mirror.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://other.invalid/node
Suites: nodistro
Components: main

Types: deb
Enabled: no
URIs: http://third.invalid/debian
Suites: bookworm
Components: main
"""


def test_the_machines_own_sources_of_debian_12_are_taken_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    old = "deb [arch=amd64] http://old.invalid bookworm-security main"
    (tmp_path / "sources.list").write_text(f"# deb x\n{old}\ndeb http://x.invalid trixie main\n")
    (tmp_path / "sources.list.d/debian.sources").write_text(DEBIAN)
    (tmp_path / "sources.list.d/off.list.disabled").write_text("deb http://off.invalid bookworm main\n")
    lines = [line for line in sources_text((), tmp_path).splitlines() if line]
    signed = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    assert lines == [
        old,
        f"deb {signed} http://mirror.invalid/debian bookworm main",
        f"deb {signed} http://mirror.invalid/debian bookworm-updates main",
    ]


def test_no_source_of_debian_12_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no source of bookworm.*--mirror"):
        sources_text((), tmp_path)


def test_a_mirror_replaces_the_machines_sources(tmp_path: Path) -> None:
    assert sources_text(("http://m.invalid/debian",)) == "deb http://m.invalid/debian bookworm main\n"
    assert sources_text(("deb http://m.invalid/x bookworm main contrib",)).startswith("deb http://m.invalid/x")
    with pytest.raises(InputError, match="--mirror"):
        sources_text(("/not/there",))


# -- what is missing ---------------------------------------------------------------------------------------------------


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.image.tools.search_path", lambda: "/nonexistent")
    with pytest.raises(InputError, match=r"mmdebstrap, mksquashfs: not installed.*mmdebstrap squashfs-tools"):
        require(("mmdebstrap", "mksquashfs"))


def test_a_profile_that_does_not_exist_is_said_with_those_that_do() -> None:
    with pytest.raises(InputError, match=f"'huge': no such profile; allowed: {', '.join(PROFILES)}"):
        profile_of("huge")


def test_everything_that_a_build_lacks_is_named_at_once_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    monkeypatch.setattr("drivers.image.tools.search_path", lambda: "/nonexistent")
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("keep me")
    plan = Plan(profile=PROFILES["minimal"], out=out, key=tmp_path / "no.key", mirrors=("http://m.invalid",))
    with pytest.raises(InputError) as caught:
        build(plan, lambda _: None)
    said = "\n".join(caught.value.problems)
    for words in ("not root", "is not empty", "mmdebstrap", "no.key: cannot be read"):
        assert words in said
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious"]


def test_too_little_room_is_said_before_anything_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("drivers.image.build.require", lambda _: None)
    huge = PROFILES["minimal"].__class__(name="huge", packages=(), kernel="", space_mb=1 << 40)
    plan = Plan(profile=huge, out=tmp_path / "out", mirrors=("http://m.invalid",), cache=tmp_path / "cache")
    with pytest.raises(InputError, match="MB free; needed"):
        build(plan, lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_step_that_fails_or_hangs_is_told_in_its_own_last_words() -> None:
    with pytest.raises(BuildFailure, match="sh: no space left"):
        call(("sh", "-c", "echo no space left >&2; exit 3"), seconds=10)
    with pytest.raises(BuildFailure, match=r"sleep: no end after 0\.05 s"):
        call(("sleep", "60"), seconds=0.05)
    with pytest.raises(BuildFailure, match="no such program"):
        call(("surely-not-there",), seconds=1)
