"""Checkers of what agents do on which evidence: rights, early closes, and the wait that follows one."""

from collections.abc import Callable, Iterator, Sequence

from core.ids import Epoch, NodeId
from core.specs import ServiceSpec, Timing
from trial.marks import NoteMark
from twin.checkers_progress import CALM_MS, touches
from twin.truth import Truth

PROOF_MS = 20_000
"""A session is closed by a proof at most this old: one answer of a slow BMC, two commits with retries."""


def no_wrong(checker: str) -> Callable[[Truth], str]:
    """Return the checker of that name, whose findings are made step by step (``twin.world.auditor``)."""

    def find(truth: Truth) -> str:
        wrong = next((one for one in truth.wrongs if one.checker == checker), None)
        return f"{wrong.node} at {wrong.at_ms} ms: {wrong.text}" if wrong is not None else ""

    return find


def early_close_has_proof(truth: Truth) -> str:
    """Say whose session was closed early although no BMC had said "off", or although it had booted since (rule 10)."""
    for note in truth.notes:
        if note.kind != "early_close":
            continue
        proofs = [
            p.at_ms for p in truth.proofs if p.node == note.node and note.at_ms - PROOF_MS <= p.at_ms <= note.at_ms
        ]
        if not proofs:
            return f"the session of {note.node} was closed at {note.at_ms} ms, and no BMC had reported it off"
        joined = [n.at_ms for n in truth.notes if n.kind == "joined" and n.by == note.node and n.at_ms < note.at_ms]
        if joined and joined[-1] > proofs[-1]:
            return f"the session of {note.node} was closed at {note.at_ms} ms, though it had joined again since"
    return ""


def waits_after_early_close(truth: Truth, services: Sequence[ServiceSpec], timing: Timing) -> str:
    """Say which service without a volume started too soon after its holder's session was closed (rule 7), or ""."""
    for claim, waited_ms in _waits(truth, services):
        if waited_ms < timing.no_volume_wait_ms * 9 // 10 and _closed_before(truth, claim, timing):
            return f"{claim.service}: {claim.by} started it {waited_ms} ms after its claim at {claim.at_ms} ms"
    return ""


def no_needless_wait(truth: Truth, services: Sequence[ServiceSpec], timing: Timing) -> str:
    """Say which service without a volume waited although its last holder's session had plainly expired (rule 7), or "".

    Judged where a BMC said that the last holder was not off, and nothing else touched the new one.
    """
    wait_ms = timing.no_volume_wait_ms
    for claim, waited_ms in _waits(truth, services):
        if wait_ms - 100 <= waited_ms <= wait_ms + 200 and _plainly_expired(truth, claim, timing):
            return f"{claim.service}: {claim.by} waited {waited_ms} ms after its claim at {claim.at_ms} ms"
    return ""


def _waits(truth: Truth, services: Sequence[ServiceSpec]) -> Iterator[tuple[NoteMark, int]]:
    """Each claim of a service without a volume after its first, with the milliseconds until its start was ordered."""
    names = {spec.name for spec in services if spec.run == "singleton" and not spec.volume}
    for claim in truth.notes:
        if claim.kind == "claimed" and claim.service in names and claim.epoch > 1:
            who = (claim.service, claim.by, claim.epoch)
            for change in truth.services:
                if change.action == "starting" and (change.service, change.node, change.epoch) == who:
                    yield claim, change.at_ms - claim.at_ms
                    break


def _closed_before(truth: Truth, claim: NoteMark, timing: Timing) -> bool:
    """Whether the holder before was serving when its session was closed, a moment before this claim."""
    last = Epoch(claim.epoch - 1)
    holder = next((s for s in reversed(truth.acting.all) if (s.service, s.epoch) == (claim.service, last)), None)
    if holder is None:
        return False
    since_ms = claim.at_ms - timing.session_timeout_ms
    closes = [n for n in truth.notes if n.kind == "early_close" and n.node == holder.node and n.at_ms >= since_ms]
    let_go = any(
        n.kind in ("released", "released_unclean", "gave_up", "handed_over")
        and (n.service, n.epoch) == (claim.service, last)
        for n in truth.notes
    )
    ended = _sessions_end(truth, holder.node, closes[0].at_ms) if closes else False
    return bool(closes) and closes[0].at_ms <= claim.at_ms + timing.claim_step_ms and not let_go and not ended


def _sessions_end(truth: Truth, node: NodeId, at_ms: int) -> bool:
    """Whether its session had ended by itself before it was closed."""
    return any(n.kind == "lost" and n.node == node and at_ms - PROOF_MS <= n.at_ms < at_ms for n in truth.notes)


def _plainly_expired(truth: Truth, claim: NoteMark, timing: Timing) -> bool:
    """Whether the holder before served, was found not to be off, and did not let go by itself."""
    last = Epoch(claim.epoch - 1)
    held = [span.node for span in truth.acting.all if span.service == claim.service and span.epoch == last]
    if not held:
        return False
    since_ms = claim.at_ms - CALM_MS - 3 * timing.session_timeout_ms
    about = [n for n in truth.notes if since_ms <= n.at_ms <= claim.at_ms and held[-1] in (n.node, n.by)]
    told = {note.kind for note in about}
    gone = {"early_close", "released", "released_unclean", "gave_up", "handed_over", "session_lost", "joined"}
    odd = [f for f in truth.faults if f.fault.startswith("bmc_") or claim.by in f.nodes]
    joined = [n.at_ms for n in truth.notes if n.kind == "joined" and n.by == held[-1] and n.at_ms < claim.at_ms]
    back_ms = joined[-1] if joined else 0
    proved = any(proof.node == held[-1] and back_ms <= proof.at_ms <= claim.at_ms for proof in truth.proofs)
    return (
        "not_off" in told and not proved and not told & gone and not any(touches(f, since_ms, claim.at_ms) for f in odd)
    )
