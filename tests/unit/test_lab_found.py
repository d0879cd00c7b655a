"""The lab's found machines and its stranger, as far as they can be tried without a rack."""

from pathlib import Path

import msgspec

from core.ids import NodeId
from core.specs import Timing
from drivers.lab import found
from drivers.lab.build import equal_nodes
from drivers.lab.campaign import load
from drivers.lab.layout import Layout
from drivers.lab.odd import Odd
from drivers.lab.services import endpoints, lab_form
from drivers.lab.stranger import Outcome
from drivers.lab.strangers import Strangers
from drivers.lab.timeline import Timeline
from drivers.lab.trialrun import stages_of
from formats.catalog import load_catalog
from tests.unit.made_rack import view


def layout(folder: Path) -> Layout:
    return Layout(name="mxunit", folder=folder, nodes=equal_nodes(3), found=True)


def test_all_but_the_first_node_are_dark_and_in_no_inventory(tmp_path: Path) -> None:
    here = layout(tmp_path)
    assert [node.id for node in here.listed] == ["n1"]
    assert [node.id for node in here.dark] == ["n2", "n3"]
    listed = msgspec.structs.replace(here, found=False)
    assert ([node.id for node in listed.listed], listed.dark) == (["n1", "n2", "n3"], ())


def test_the_service_that_boots_machines_runs_as_it_is_and_shifts_no_ports() -> None:
    for name in ("minimal", "machines"):
        catalog = load_catalog(Path(f"catalog/{name}.toml"))
        form = lab_form(catalog, Path("/nowhere"))
        booting = found.with_netboot(form)
        (netboot,) = [one for one in booting.services if one.spec.name == "netboot"]
        assert "netboot" in netboot.process.command
        assert endpoints(booting) == endpoints(form)
        assert all(one.spec.cores == 0 for one in booting.services)


def test_timers_are_hurried_only_where_a_scenario_leaves_them() -> None:
    assert found.hurried(Timing()).boot_ms_max == found.HURRIED["boot_ms_max"]
    assert found.hurried(Timing(boot_ms_max=99_000)).boot_ms_max == 99_000


def test_where_a_scenario_waits_long_a_new_stage_begins() -> None:
    stages = stages_of(load(Path("scenarios/join-attacks")).faults)
    kinds = [[planned.kind for planned in stage] for stage in stages]
    assert kinds[1:] == [["token_replayed"], ["wrong_uuid", "power_loss"], ["card_swapped", "power_loss"]]
    assert "rogue_machine" in kinds[0]
    assert sum(map(len, stages)) == len(load(Path("scenarios/join-attacks")).faults)


def test_what_is_odd_about_a_machine_holds_for_so_many_boots(tmp_path: Path) -> None:
    odd = Odd(tmp_path)
    assert (odd.text("uuid"), odd.take("image")) == ("", "")
    odd.set("image", "another", 2)
    odd.set("mac", "02:98:00:00:77:02")
    assert [odd.take("image") for _ in range(3)] == ["another", "another", ""]
    assert [odd.take("mac") for _ in range(3)] == ["02:98:00:00:77:02"] * 3
    odd.clear("mac")
    assert odd.text("mac") == ""


def strangers(folder: Path, *outcomes: Outcome, shown: tuple[str, ...] = ()) -> dict[str, str]:
    """What the checks find wrong after a run with these outcomes, of which an operator was shown that."""
    (folder / "stranger").mkdir(exist_ok=True)
    lines = b"".join(msgspec.json.encode(outcome) + b"\n" for outcome in outcomes)
    (folder / "stranger" / "outcomes.jsonl").write_bytes(lines)
    one = Strangers(layout(folder), Timeline())
    one.look([view("n1", refusals=shown)])
    return {check.name: check.detail for check in one.checks() if not check.ok}


def test_a_certificate_that_a_stranger_got_is_found_and_a_refusal_that_nobody_saw_too(tmp_path: Path) -> None:
    refused = Outcome(at_ms=1, tag="t", attack="thief", what="certificate", node="n2", refused="wrong_machine")
    said = "wrong_machine as n2: machine x with y from 10.98.0.245"
    assert strangers(tmp_path, refused, shown=(said,)) == {}
    assert strangers(tmp_path, refused) == {
        "refusals_are_shown": "thief was refused (wrong_machine) and nobody was told"
    }
    got = msgspec.structs.replace(refused, refused="", got=True, node=NodeId("n2"))
    assert strangers(tmp_path, got) == {"strangers_get_nothing": "thief got a certificate as n2"}
