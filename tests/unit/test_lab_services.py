"""The lab form of a catalog: other processes, the same services."""

from pathlib import Path

import msgspec
import pytest

from drivers.lab.services import FIRST_PORT, endpoints, lab_form, to_toml
from formats.catalog import Catalog, Process, load_catalog

CATALOGS = sorted(Path("catalog").glob("*.toml"))


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.stem)
def test_a_catalog_in_its_lab_form_is_a_catalog_of_the_same_services(path: Path, tmp_path: Path) -> None:
    before = load_catalog(path)
    wanted = lab_form(before, tmp_path)
    (tmp_path / "catalog.toml").write_text(to_toml(wanted), encoding="utf-8")
    after = load_catalog(tmp_path / "catalog.toml")
    assert after.specs == before.specs
    assert [service.process for service in after.services] == [service.process for service in wanted.services]
    assert [service.health for service in after.services] == [service.health for service in wanted.services]


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.stem)
def test_every_service_listens_on_a_port_of_its_own(path: Path, tmp_path: Path) -> None:
    ports = [service.health.port for service in lab_form(load_catalog(path), tmp_path).services]
    assert ports == list(range(FIRST_PORT, FIRST_PORT + len(ports)))


def test_clients_ask_singletons_with_an_address(tmp_path: Path) -> None:
    found = endpoints(lab_form(load_catalog(Path("catalog/minimal.toml")), tmp_path))
    assert [(one.service, one.address, one.keeps) for one in found] == [
        ("mariadb", "10.40.0.10", True),
        ("scheduler", "10.40.0.11", False),
    ]


def test_a_command_of_the_catalogs_own_is_kept_only_if_it_is_asked_for(tmp_path: Path) -> None:
    catalog = load_catalog(Path("catalog/lab.toml"))
    first = msgspec.structs.replace(catalog.services[0], process=Process(command=("chronyd", "-n")))
    own = Catalog(name="own", services=(first, *catalog.services[1:]))
    assert lab_form(own, tmp_path, real_services=True).services[0] == first
    assert lab_form(own, tmp_path).services[0].process.command != ("chronyd", "-n")
    assert lab_form(own, tmp_path, real_services=True).services[1].process.command
