"""Hard days of an agent, on real servers: killed, met by its own past, upgraded beside older ones, broken for good."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from core import effects as fx
from core.journal import decode_effect
from core.records import member_path, node_path
from drivers.access import endpoint
from drivers.config import load_config
from drivers.lab.fault import Strike
from drivers.lab.journals import lines_of
from drivers.zookeeper import Brief
from drivers.zookeeper_session import Credential
from tests.real.lab_rack import DB, HardLab, hard_lab

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.xdist_group("lab")]

BACK_S_MAX = 90.0
HELD_MS_MAX = 4_000


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HardLab]:
    with hard_lab("mxhard", Path("/var/lib/moxie-lab-hard"), tmp_path_factory.mktemp("hard")) as made:
        yield made


@pytest.fixture(autouse=True)
def _settled(lab: HardLab) -> None:
    lab.settled()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_agent_that_ends_while_it_holds_costs_no_client_anything(lab: HardLab, number: signal.Signals) -> None:
    holder, term = lab.holder(), lab.term()
    session = lab.session(holder)
    with lab.clients() as seen:
        lab.restart_agent(holder, number)
    assert [op for op in seen.ops if op.outcome != "ok"] == []
    assert seen.unsafe() == []
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
    assert [e.session for e in ended if isinstance(e, fx.CloseSession)][-1] == old
    print(f"met its own old session: gap {seen.gap_ms()} ms")
