"""``rack init --first``: what it is told, what it remembers, and what it must never do twice."""

import argparse
from pathlib import Path

import msgspec
import pytest

from core.errors import InputError
from core.ids import NodeId
from core.records import CLUSTER, ClusterRecord
from drivers.ca import Authority
from drivers.config import Config, NodeTables
from drivers.first_answers import FILE, Answers, gather, keep, usual_pool
from drivers.first_ground import Ground, look
from drivers.first_image import put_images
from drivers.first_server import Places, check_catalog, is_in_memory, put_home, write_inputs
from drivers.first_server import look as look_at_all
from drivers.first_start import start
from drivers.first_words import add_first
from drivers.image.manifest import BOOT_FILES, Manifest, describe, make_keys, sign, write_manifest
from drivers.inventory import Inventory, Machine, Machines, read_inventory
from drivers.networks import NetworkTable
from drivers.seed import ensemble_goal
from drivers.toml_text import toml_text
from drivers.zookeeper_server import FIRST_SERVER
from formats.catalog import Catalog

GIVEN = "--boot 10.98.0.0/24 --management 10.98.1.0/24 --bmc-password pw --images images --interface eth0"


def words(text: str) -> argparse.Namespace:
    """The command line of ``rack init --first``."""
    parser = argparse.ArgumentParser()
    add_first(parser)
    parser.add_argument("--node", default="")
    parser.add_argument("--interface")
    parser.add_argument("--catalog", type=Path)
    return parser.parse_args(text.split())


def image(folder: Path, key: Path, text: str) -> str:
    """An image folder with nothing much in it, signed; its id."""
    folder.mkdir(parents=True)
    for name in BOOT_FILES:
        (folder / name).write_text(text)
    files = describe(folder, BOOT_FILES)
    identity = write_manifest(folder, Manifest(format=1, profile="minimal", version="1", cmdline="", files=files))
    sign(folder, key)
    return identity


def answers(tmp_path: Path, **more: object) -> Answers:
    """Answers as they would be given."""
    told = gather(words(GIVEN), tmp_path / "out")
    return msgspec.structs.replace(told, images=tmp_path / "images", **more)


def test_everything_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        gather(words(""), tmp_path)
    said = " ".join(caught.value.problems)
    flags = ("--boot", "--management", "--interface", "--bmc-password", "--images")
    assert [flag for flag in flags if f"{flag} is missing" not in said] == []


def test_a_person_is_asked_for_what_is_missing_and_for_nothing_else(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "eth7\n"

    told = gather(words(GIVEN.replace("--interface eth0", "")), tmp_path, ask)
    assert (told.interface, told.node, len(asked)) == ("eth7", "n1", 1)


def test_what_was_told_once_need_not_be_told_again(tmp_path: Path) -> None:
    told = gather(words(GIVEN + " --gateway 10.98.0.254"), tmp_path)
    keep(told, tmp_path)
    assert gather(words(""), tmp_path) == told
    assert gather(words("--gateway 10.98.0.253"), tmp_path).gateway == "10.98.0.253"


@pytest.mark.parametrize("other", ["--boot 10.97.0.0/24", "--management 10.97.0.0/24", "--interface eth1", "--node n2"])
def test_what_a_rack_was_made_from_cannot_change(tmp_path: Path, other: str) -> None:
    keep(gather(words(GIVEN), tmp_path), tmp_path)
    with pytest.raises(InputError, match=r"begun with .*; needed: the same, or another --out"):
        gather(words(other), tmp_path)


def test_answers_that_were_spoilt_are_said_so(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("boot = [")
    with pytest.raises(InputError, match="cannot be read"):
        gather(words(GIVEN), tmp_path)


def test_the_usual_pool_is_the_upper_part_of_the_subnet() -> None:
    assert usual_pool("10.98.0.0/24") == "10.98.0.192-10.98.0.250"
    assert usual_pool("10.98.0.0/28") == "10.98.0.12-10.98.0.12"
    assert usual_pool("nonsense") == ""


def test_the_mark_of_the_first_server_is_never_put_a_second_time(tmp_path: Path) -> None:
    made, home = tmp_path / "n1", tmp_path / "etc"
    made.mkdir()
    (made / "node.toml").write_text("node")
    (made / FIRST_SERVER).write_text("begin")
    key = made / "heartbeat.key"
    key.write_text("secret")
    key.chmod(0o600)
    assert put_home(made, home)
    assert (home / FIRST_SERVER).exists()
    assert (home / "heartbeat.key").stat().st_mode & 0o077 == 0
    (home / FIRST_SERVER).unlink()
    assert not put_home(made, home)
    assert not (home / FIRST_SERVER).exists()


def test_an_interrupted_first_run_still_leaves_the_mark(tmp_path: Path) -> None:
    made, home = tmp_path / "n1", tmp_path / "etc"
    made.mkdir()
    home.mkdir()
    for name in ("node.toml", FIRST_SERVER, "catalog.toml"):
        (made / name).write_text(name)
    (home / "catalog.toml").write_text("catalog.toml")
    assert put_home(made, home)
    assert (home / FIRST_SERVER).exists()


def test_an_image_is_kept_by_its_id_and_only_if_it_is_what_was_signed(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path / "keys")
    first = image(tmp_path / "images/a", private, "one")
    told = answers(tmp_path, image_key=public)
    home = tmp_path / "home"
    assert put_images(told, home) == (first, home / "images.pub")
    assert sorted(path.name for path in (home / first).iterdir()) == sorted(
        [*BOOT_FILES, "manifest.json", "manifest.sig"]
    )
    second = image(tmp_path / "images/b", private, "two")
    with pytest.raises(InputError, match="--image is missing"):
        put_images(told, home)
    assert put_images(msgspec.structs.replace(told, image=second), home)[0] == second
    (tmp_path / "images/b/vmlinuz").write_text("six")
    with pytest.raises(InputError, match="tampered with"):
        put_images(msgspec.structs.replace(told, image=second), home)


@pytest.mark.parametrize(("make", "said"), [(False, "no such folder"), (True, "--image-key is missing")])
def test_without_an_image_or_its_key_nothing_begins(tmp_path: Path, make: bool, said: str) -> None:
    private, _ = make_keys(tmp_path / "keys")
    if make:
        image(tmp_path / "images/a", private, "one")
    with pytest.raises(InputError, match=said):
        put_images(answers(tmp_path), tmp_path / "home")


def test_a_rack_that_finds_its_machines_wants_five_voters_and_a_listed_one_what_it_has(tmp_path: Path) -> None:
    machines = {NodeId("n1"): Machine(id="n1", number=1, address="10.98.0.1")}
    tables = NodeTables(node="n1", inventory=tmp_path, catalog=tmp_path, state_dir=tmp_path, run_dir=tmp_path)

    def goal(*networks: NetworkTable) -> ClusterRecord:
        inventory = Inventory(machines=machines, networks=networks)
        config = Config(
            file=tmp_path,
            tables=tables,
            timing=None,  # type: ignore[arg-type]  # nothing here asks for a timer
            catalog=Catalog(name="none", services=()),
            machines=Machines(machines),
            inventory=inventory,
        )
        return ClusterRecord(ensemble_size=ensemble_goal(config))

    assert CLUSTER == "/moxie/cluster"
    assert goal().ensemble_size == 1
    assert goal(NetworkTable(name="bmcs", subnet="10.98.1.0/24")).ensemble_size == 5


def test_places_keep_images_beside_the_state(tmp_path: Path) -> None:
    places = Places(home=tmp_path, out=tmp_path / "rack", state_dir=tmp_path / "state")
    assert places.images == tmp_path / "state/images"
    assert not is_in_memory(tmp_path)


def test_a_file_of_answers_says_where_its_own_files_are(tmp_path: Path) -> None:
    key = tmp_path / "key/moxie"
    key.mkdir(parents=True)
    given = {"boot": "10.98.0.0/24", "management": "10.98.1.0/24", "interface": "eth0", "images": "images"}
    text = toml_text({**given, "bmc_password": "pw"})
    (key / "first-server.toml").write_text(text)
    told = gather(words(f"--answers {key}/first-server.toml --gateway 10.98.0.254"), tmp_path / "out")
    assert (told.images, told.bmc_password, told.gateway) == (key / "images", key / "pw", "10.98.0.254")
    (key / "first-server.toml").write_text(text + 'gatway = "10.98.0.254"\n')
    with pytest.raises(InputError, match="gatway"):
        gather(words(f"--answers {key}/first-server.toml"), tmp_path / "out")


def test_a_rack_that_cannot_be_started_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a machine that systemd runs"):
        start(tmp_path / "operator.toml", print, (str(tmp_path / "nothing"),))
    with pytest.raises(InputError, match="the units of our image"):
        start(tmp_path / "operator.toml", print, ("false",))
    with pytest.raises(InputError, match=r"operator\.toml"):
        start(tmp_path / "operator.toml", print, ("true",), ms_max=0)


def test_what_redfish_bmcs_are_checked_with_is_kept_with_the_rack(tmp_path: Path) -> None:
    vendor = Authority(tmp_path / "vendor")
    vendor.make()
    (tmp_path / "pw").write_text("s3cret\n")
    told = gather(words(f"{GIVEN} --bmc-driver redfish --bmc-ca {vendor.cert}"), tmp_path / "out")
    told = msgspec.structs.replace(told, bmc_password=tmp_path / "pw")
    (tmp_path / "out").mkdir()
    ground = Ground(number=1, address="10.98.0.1", prefix=24, there=True, mac="", uuid="")
    inventory, _ = write_inputs(told, ground, tmp_path / "out", ())
    (access,) = read_inventory(inventory).networks[0].access
    assert (access.driver, access.ca) == ("redfish", tmp_path / "out" / "bmc-ca.pem")
    assert access.ca is not None
    assert access.ca.read_bytes() == vendor.cert.read_bytes()
    keep(told, tmp_path / "out")
    assert gather(words(""), tmp_path / "out").bmc_ca == vendor.cert


def test_a_ca_that_is_of_no_use_is_said_so(tmp_path: Path) -> None:
    told = gather(words(f"{GIVEN} --bmc-ca {tmp_path / 'none.pem'}"), tmp_path / "out")
    with pytest.raises(InputError) as caught:
        look(told, serving=False)
    said = [one for one in caught.value.problems if "--bmc-ca" in one]
    assert len(said) == 2
    assert "is for Redfish; needed: --bmc-driver redfish" in said[0]
    assert "none.pem: holds no certificate (no such file or directory); needed: a PEM file" in said[1]


def test_images_catalog_and_machine_are_all_looked_at_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text('name = "mine"\n[[service]]\nname = "db"\nrun = "sometimes"\n')
    told = gather(words(f"{GIVEN} --catalog {tmp_path / 'catalog.toml'}"), tmp_path / "out")
    told = msgspec.structs.replace(told, images=tmp_path / "nowhere", interface="nope", gateway="x", pool="1-2")
    places = Places(home=tmp_path / "home", out=tmp_path / "out", state_dir=tmp_path / "state")
    with pytest.raises(InputError) as caught:
        look_at_all(told, places)
    said = "\n".join(caught.value.problems)
    for part in (
        '--interface = "nope"',
        "nowhere: no such folder; rack image build",
        f"--catalog {tmp_path}",
        "sometimes",
    ):
        assert part in said
    assert not (tmp_path / "out").exists()


def test_a_catalog_may_build_on_the_services_that_a_first_server_adds(tmp_path: Path) -> None:
    spec = 'start_ms = { min = 1, p50 = 2, p90 = 3, max = 4 }\nsource = "made up"\n'
    text = f'name = "mine"\n[[service]]\nname = "db"\nrun = "singleton"\nneeds = ["netboot"]\n[service.twin]\n{spec}'
    (tmp_path / "catalog.toml").write_text(text)
    check_catalog(answers(tmp_path, catalog=tmp_path / "catalog.toml"))
    (tmp_path / "catalog.toml").write_text(text.replace("netboot", "nobody"))
    with pytest.raises(InputError, match="nobody"):
        check_catalog(answers(tmp_path, catalog=tmp_path / "catalog.toml"))
