"""How long single operations took, read from the journals of agents: the same in either world (``verdict.PHASES``)."""

from collections.abc import Iterable

from core import effects as fx
from core import events as ev
from core.ids import NodeId, OpId
from core.journal import Line, decode_effect, decode_event

_Asked = tuple[str, int]


def phases_of(lines: Iterable[Line]) -> dict[str, tuple[int, ...]]:
    """Measure every operation that succeeded, in milliseconds, by phase, each in order of the answers.

    Lines of several nodes may be mixed; those of one agent process are in its own order. One pass.

    Raises: msgspec.DecodeError if a body is not what its line says.
    """
    asked: dict[tuple[NodeId, int, OpId], _Asked] = {}
    found: dict[str, list[int]] = {}
    for line in lines:
        if line.kind == "effect":
            effect = decode_effect(line.body)
            phase, op = _phase(effect)
            if phase:
                asked[(line.node, line.incarnation, op)] = (phase, line.at_ms)
        elif line.kind == "event":
            event = decode_event(line.body)
            if isinstance(event, ev.OpSucceeded | ev.OpFailed):
                phase, at_ms = asked.pop((line.node, line.incarnation, event.op), ("", 0))
                if phase and isinstance(event, ev.OpSucceeded):
                    found.setdefault(phase, []).append(line.at_ms - at_ms)
    return {phase: tuple(found[phase]) for phase in sorted(found)}


def _phase(effect: fx.AnyEffect) -> tuple[str, OpId]:
    """What an effect begins, and its op; an empty name for all that is not measured."""
    if isinstance(effect, fx.Commit):
        return "commit_ms", effect.op
    if isinstance(effect, fx.FenceInstance):
        return "fence_ms", effect.op
    if isinstance(effect, fx.OpenVolume):
        return "attach_ms", effect.op
    if isinstance(effect, fx.StartService):
        return f"service_start_ms.{effect.service}", effect.op
    if isinstance(effect, fx.StopService) and not effect.kill:
        return f"service_stop_ms.{effect.service}", effect.op
    if isinstance(effect, fx.CloseSession):
        return "session_close_ms", effect.op
    if isinstance(effect, fx.ReadPower):
        return "power_query_ms", effect.op
    return "", OpId(0)
