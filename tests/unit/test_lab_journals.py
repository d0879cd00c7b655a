"""What the agents of a lab wrote down: notes as they were made, and how long each phase took."""

from pathlib import Path

from core import effects as fx
from core import events as ev
from core.ids import BootId, Epoch, NodeId, OpId, ServiceName, SessionId, VolumeName
from core.journal import encode, write_line
from core.records import Instance
from drivers.lab.build import equal_nodes
from drivers.lab.journals import Said, folder_of
from drivers.lab.layout import Layout
from trial.marks import FaultMark

N1, N2 = NodeId("n1"), NodeId("n2")
DB = ServiceName("mariadb")
INSTANCE = Instance(node=N1, boot_id=BootId("b"), epoch=Epoch(1), address="10.98.0.1:0/1")


def lab(tmp_path: Path) -> Layout:
    return Layout(name="mxunit", folder=tmp_path, nodes=equal_nodes(2))


def write(layout: Layout, node: NodeId, *lines: tuple[int, ev.AnyEvent | fx.AnyEffect]) -> None:
    folder = folder_of(layout, node)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "journal-00000001.jsonl").open("ab") as file:
        for at_ms, body in lines:
            kind = "event" if isinstance(body, ev.Event) else "effect"
            file.write(write_line(at_ms, node, 1, kind, encode(body)))  # type: ignore[arg-type]  # one of the literals


def note(kind: str, node: NodeId = N1) -> fx.Note:
    return fx.Note(kind=kind, service=DB, node=node, epoch=Epoch(2))


def test_notes_of_all_agents_are_in_order_of_time_and_within_the_run(tmp_path: Path) -> None:
    layout = lab(tmp_path)
    write(layout, N1, (50, note("joined")), (300, note("serving")))
    write(layout, N2, (200, note("claimed")), (900, note("left")))
    said = Said(layout, 100, 500)
    assert [(mark.at_ms, mark.by, mark.kind) for mark in said.notes] == [(200, "n2", "claimed"), (300, "n1", "serving")]
    assert said.counts() == {"claimed": 1, "serving": 1}


def test_a_fence_lasts_from_its_order_to_its_success(tmp_path: Path) -> None:
    layout = lab(tmp_path)
    fence = fx.FenceInstance(op=OpId(7), volume=VolumeName("v"), instance=INSTANCE, block_ms=1, ms_max=5_000)
    write(
        layout,
        N1,
        (100, fence),
        (230, ev.OpSucceeded(at_ms=230, op=OpId(7), result=ev.Done())),
        (300, fence),
        (400, ev.OpFailed(at_ms=400, op=OpId(7), reason="unanswered")),
    )
    assert Said(layout, 0, 1_000).samples == {"fence_ms": [130]}


def test_a_crashed_agent_is_back_with_its_successors_first_step(tmp_path: Path) -> None:
    layout = lab(tmp_path)
    write(layout, N1, (1_450, ev.Started(at_ms=1_450, boot_id=BootId("b"), session=SessionId(1))))
    said = Said(layout, 0, 5_000)
    said.add_faults([FaultMark(fault="agent_crash", text="n1", nodes=(N1,), from_ms=1_000)])
    assert said.samples["agent_restart_ms"] == [450]


def test_a_session_that_was_closed_early_says_nothing_about_its_expiry(tmp_path: Path) -> None:
    layout = lab(tmp_path)
    fault = FaultMark(fault="power_loss", text="n1", nodes=(N1,), from_ms=1_000)
    write(layout, N2, (3_100, note("lost")))
    said = Said(layout, 0, 5_000)
    said.add_faults([fault])
    assert said.samples["session_expiry_ms"] == [2_100]
    write(layout, N2, (3_000, note("early_close")))
    said = Said(layout, 0, 5_000)
    said.add_faults([fault])
    assert "session_expiry_ms" not in said.samples


def test_a_supervisors_log_tells_how_long_a_mount_took(tmp_path: Path) -> None:
    layout = lab(tmp_path)
    log = layout.home(N1) / "log" / "supervisor.log"
    log.parent.mkdir(parents=True)
    lines = [
        '{"at_ms":100,"kind":"starting","service":"mariadb","epoch":2}',
        '{"at_ms":350,"kind":"mounted","service":"mariadb","epoch":2}',
        '{"at_ms":360,"kind":"starting","service":"dns","epoch":0}',
        '{"at_ms":400,"kind":"running","service":"mariadb","epoch":2}',
        '{"at_ms":410,"kind":"running","service":"dns","epoch":0}',
        "Traceback (most recent call last):",
    ]
    log.write_text("\n".join(lines), encoding="utf-8")
    assert Said(layout, 0, 1_000).samples["mount_ms"] == [250]
