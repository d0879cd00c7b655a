"""The drivers' table: every line names a module, a page and a port that exist; the docs' index is written from it."""

import importlib.util
from pathlib import Path

import pytest

from core.ports import Ports
from docs.generate import DRIVERS_INDEX, drivers_index
from drivers.config import load_config
from drivers.init import CephAccess, node_folder, prepare
from drivers.registry import DRIVERS, Driver
from tests.unit.made_rack import plan

each = pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)


@each
def test_a_driver_is_one_file_with_one_page(driver: Driver) -> None:
    assert importlib.util.find_spec(f"drivers.{driver.name}") is not None
    assert (DRIVERS_INDEX.parent / driver.page).is_file()


@each
def test_a_driver_carries_out_a_port_of_the_core(driver: Driver) -> None:
    assert driver.port in {*Ports.__struct_fields__}


def test_no_driver_is_listed_twice() -> None:
    assert len({driver.name for driver in DRIVERS}) == len(DRIVERS)


def test_the_index_of_the_docs_is_fresh() -> None:
    assert DRIVERS_INDEX.read_text(encoding="utf-8") == drivers_index(), "run 'make docs'"


def test_a_node_needs_only_the_drivers_that_its_rack_uses(tmp_path: Path) -> None:
    wanted = plan(tmp_path)
    config = load_config(node_folder(wanted.out, prepare(wanted).first) / "node.toml")
    assert [driver.name for driver in DRIVERS if driver.wanted(config)] == ["zookeeper", "ipmi", "process"]


def test_volumes_and_addresses_call_for_their_drivers(tmp_path: Path) -> None:
    (tmp_path / "catalog.toml").write_text(
        'name = "x"\n[[service]]\nname = "db"\nrun = "singleton"\nvolume = "db"\nfence = "storage"\n'
        'address = "10.9.0.77"\n',
        encoding="utf-8",
    )
    wanted = plan(tmp_path, ceph=CephAccess(conf=Path("/etc/ceph/ceph.conf")), settings={"workload": "systemd"})
    made = prepare(wanted)
    config = load_config(node_folder(wanted.out, made.first) / "node.toml")
    names = [driver.name for driver in DRIVERS if driver.wanted(config)]
    assert names == ["zookeeper", "ipmi", "ceph", "systemd", "address", "rights"]
