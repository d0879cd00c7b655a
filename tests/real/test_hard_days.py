"""Hard days of an agent, on real servers: killed, met by its own past, upgraded beside older ones, broken for good."""

import os
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.ids import NodeId, ServiceName
from core.journal import decode_effect
from core.records import term_path
from drivers.access import endpoint
from drivers.clock import now_ms
from drivers.config import load_config
from drivers.lab.journals import lines_of
from drivers.toml_text import toml_text
from drivers.zookeeper import Brief
from drivers.zookeeper_session import Credential
from tests.real.lab_rack import DB, HardLab, Seen, hard_lab

pytestmark = [pytest.mark.real, pytest.mark.hard, pytest.mark.slow, pytest.mark.xdist_group("lab")]

BACK_S_MAX = 90.0
HELD_MS_MAX = 4_000
SCHEDULER = ServiceName("scheduler")
NEWER = (
    ("drivers/supervised.py", 'VERSION = "0.1"', 'VERSION = "0.2"'),
    ("drivers/wire.py", "    pid: int\n    version: str\n", "    pid: int\n    version: str\n    speaks: int = 2\n"),
    ("core/records.py", "    unclean: bool = False\n", "    unclean: bool = False\n    newer: int = 7\n"),
)
"""What the next version of an agent has that this one has not: a field of the term, and one of what it says."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HardLab]:
    with hard_lab("mxhard", Path("/var/lib/moxie-lab-hard"), tmp_path_factory.mktemp("hard")) as made:
        yield made


@pytest.fixture(autouse=True)
def _settled(lab: HardLab) -> None:
    lab.settled()


def nothing_failed(seen: Seen) -> None:
    assert seen.failed() == []
    assert seen.unsafe() == []


# -- restarts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_ends_while_it_holds_costs_no_client_anything(lab: HardLab, number: signal.Signals) -> None:
    holder, term = lab.holder(), lab.term()
    session = lab.session(holder)
    with lab.clients() as seen:
        lab.restart_agent(holder, number)
    nothing_failed(seen)
    assert lab.term() == term
    assert lab.session(holder) == session


def test_an_agent_that_meets_its_own_old_membership_ends_that_session_and_joins_anew(lab: HardLab) -> None:
    holder = lab.holder()
    old = lab.session(holder)
    config = load_config(lab.folder(holder) / "node.toml")
    run_dir = config.tables.run_dir
    credential = Credential.decode((run_dir / "session").read_bytes())
    assert credential is not None
    servers = [endpoint(machine.address, config.tables.zookeeper.client_port) for machine in config.machines.values()]
    with lab.clients() as seen:
        (run_dir / "session").unlink()
        os.kill(lab.agent(holder), signal.SIGKILL)
        with Brief(servers, config.tables.tls, HELD_MS_MAX, credential):  # its old session would go on without it
            lab.until(lambda: lab.session(holder) not in (0, old), BACK_S_MAX, f"{holder} is a member anew")
        lab.await_answers(seen)
    assert lab.members() == lab.nodes
    assert seen.unsafe() == []
    ended = [decode_effect(line.body) for line in lines_of(lab.plan.layout, holder) if line.kind == "effect"]
    assert [effect.session for effect in ended if isinstance(effect, fx.CloseSession)][-1] == old
    print(f"it met its own old session: no answer for {seen.gap_ms()} ms")


# -- versions ----------------------------------------------------------------------------------------------------------


def test_agents_of_two_versions_live_side_by_side_and_keep_what_only_the_newer_knows(lab: HardLab) -> None:
    newer = lab.holder()
    with lab.clients() as seen:
        upgrade(lab, newer)
    nothing_failed(seen)
    assert lab.said(newer, "agent")[-1]["version"] == "0.2"
    assert "newer" not in lab.raw(term_path(DB)), "nothing was to be written"
    with lab.clients() as seen:
        lab.drain(newer)
        lab.until(lambda: lab.holder() != newer and lab.term().serving, BACK_S_MAX, "an older one holds it")
        lab.await_answers(seen)
    assert seen.unsafe() == []
    assert lab.raw(term_path(DB))["newer"] == 7
    lab.undrain(newer)
    with lab.clients() as seen:
        for node in lab.nodes:
            if node != newer:
                upgrade(lab, node)
    nothing_failed(seen)
    assert lab.raw(term_path(DB))["newer"] == 7


def upgrade(lab: HardLab, node: NodeId) -> None:
    """Give a node the next version, and have its agent be restarted from it; its supervisor stays."""
    for name, old, new in NEWER:
        path = lab.programs(node) / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} is not what it was"
        path.write_text(text.replace(old, new), encoding="utf-8")
    lab.restart_agent(node)


# -- an agent that cannot come back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["program", "configuration"])
def test_an_agent_that_cannot_start_again_is_replaced_by_one_that_hands_over_cleanly(lab: HardLab, what: str) -> None:
    holder, epoch = lab.holder(), lab.term().epoch
    broken = lab.programs(holder) / "drivers" / "agent.py" if what == "program" else lab.folder(holder) / "node.toml"
    lab.until(lambda: lab.spare(holder), 30, "a substitute waits")
    good = broken.read_bytes()
    with lab.clients() as seen:
        broken.write_bytes(b"broken = = =\n")
        since_ms = now_ms()
        os.kill(lab.agent(holder), signal.SIGKILL)
        lab.until(lambda: lab.holder() != holder and lab.term().serving, BACK_S_MAX, "another one holds it")
        lab.await_answers(seen)
    assert seen.unsafe() == []
    assert lab.term().epoch == epoch + 1
    assert not lab.term().unfenced
    assert "handed_over" in {note["note"] for note in lab.said(holder, "note", since_ms)}
    assert not [note for node in lab.nodes for note in lab.said(node, "note", since_ms) if note["note"] == "fenced"]
    print(f"its {what} was broken: no answer for {seen.gap_ms()} ms")
    broken.write_bytes(good)
    lab.until(lambda: lab.agent(holder) and holder in lab.members(), BACK_S_MAX, f"{holder} is back")


# -- a configuration that changes --------------------------------------------------------------------------------------


def test_a_good_new_configuration_is_taken_without_any_client_noticing(lab: HardLab) -> None:
    holder, term, file = lab.holder(), lab.term(), lab.folder(lab.holder()) / "node.toml"
    text = file.read_text(encoding="utf-8")
    with lab.clients() as seen:
        before, since_ms = lab.agent(holder), now_ms()
        file.write_text(text.replace("[timing]", "[timing]\nunfit_ms = 61000"), encoding="utf-8")
        lab.reload(holder)
        lab.until(lambda: lab.said(holder, "agent", since_ms), 60, "a new agent says hello")
        lab.until(lambda: lab.view_is_fresh(holder, before), 60, "it is a member")
    nothing_failed(seen)
    assert lab.term() == term
    opened = [bytes(line.body) for line in lines_of(lab.plan.layout, holder) if line.kind == "open"]
    assert b'"unfit_ms":61000' in opened[-1]


def test_a_bad_new_configuration_is_refused_with_all_that_is_wrong_and_the_agent_goes_on(lab: HardLab) -> None:
    holder, file = lab.holder(), lab.folder(lab.holder()) / "node.toml"
    good = file.read_text(encoding="utf-8")
    with lab.clients() as seen:
        before, since_ms = lab.agent(holder), now_ms()
        bad = good.replace("metrics =", "metrix =").replace("[timing]", "[timing]\nfresh_mss = 1\nstall_ms = -5")
        file.write_text(bad, encoding="utf-8")
        lab.reload(holder)
        lab.until(lambda: lab.said(holder, "configuration_refused", since_ms), 60, "it is refused")
        file.write_text(good, encoding="utf-8")
    (refused,) = lab.said(holder, "configuration_refused", since_ms)
    assert all(any(word in problem for problem in refused["problems"]) for word in ("metrix", "fresh_mss", "stall_ms"))
    assert lab.agent(holder) == before
    nothing_failed(seen)


def test_what_leaves_the_catalog_is_stopped_and_what_is_new_in_it_is_started(lab: HardLab) -> None:
    node = lab.holder(SCHEDULER)
    file = lab.folder(node) / "catalog.toml"
    good = file.read_text(encoding="utf-8")
    tables = tomllib.loads(good)
    services = {str(table["name"]): table for table in tables["service"]}
    cron = services["ntp"] | {"name": "cron", "health": {"kind": "process"}, "process": {"command": ["sleep", "86400"]}}
    tables["service"] = [table for name, table in services.items() if name not in ("dns", SCHEDULER)] + [cron]
    with lab.clients() as seen:
        file.write_text(toml_text(tables), encoding="utf-8")
        lab.reload(node)
        lab.until(
            lambda: {"ntp", "cron"} <= lab.running(node) and "dns" not in lab.running(node), 60, "the new catalog"
        )
        lab.until(lambda: SCHEDULER not in lab.running(node), 60, "the scheduler is stopped")
        file.write_text(good, encoding="utf-8")
        lab.reload(node)
        lab.until(lambda: "cron" not in lab.running(node) and "dns" in lab.running(node), 60, "the old catalog")
        lab.await_answers(seen, service=SCHEDULER)
    assert seen.failed(DB) == []
    assert seen.unsafe() == []
