"""Checkers of joining: nobody becomes a member under a name that is not his, and no token makes two members."""

from core.ids import NodeId
from twin.truth import JoinMark, Truth


def identity_is_own(truth: Truth) -> str:
    """Say which machine was admitted as a node that it is not, or ""."""
    for mark in _admitted(truth):
        own = truth.machines.get(mark.node, "")
        if mark.machine != own:
            its = own or "nobody"
            return f"{mark.server} admitted {mark.machine} as {mark.node}, which is {its}, at {mark.at_ms} ms"
    return ""


def token_joins_one(truth: Truth) -> str:
    """Say which token made two members, or one that it was not given to, or ""."""
    given = {mark.token: mark for mark in truth.joins if mark.act == "ask" and not mark.refused}
    used: dict[str, JoinMark] = {}
    for mark in _admitted(truth):
        script = given.get(mark.token)
        if script is None or script.machine != mark.machine:
            whose = f"that {script.machine} was given" if script is not None else "that nobody was given"
            return f"{mark.machine} joined as {mark.node} at {mark.at_ms} ms with a token {whose}"
        before = used.setdefault(mark.token, mark)
        if before is not mark:
            return f"{before.machine} and {mark.machine} joined with one token, at {before.at_ms} and {mark.at_ms} ms"
    return ""


def members_were_admitted(truth: Truth) -> str:
    """Say who became a member and was never admitted, or "". Where all machines are listed, nobody has to be."""
    if not truth.founders:
        return ""
    since: dict[NodeId, int] = dict.fromkeys(truth.founders, 0)
    for mark in _admitted(truth):
        since.setdefault(mark.node, mark.at_ms)
    for note in truth.notes:
        if note.kind == "joined" and since.get(note.by, note.at_ms + 1) > note.at_ms:
            return f"{note.by} became a member at {note.at_ms} ms and was not admitted before"
    return ""


def _admitted(truth: Truth) -> list[JoinMark]:
    return [mark for mark in truth.joins if mark.act == "redeem" and not mark.refused]
