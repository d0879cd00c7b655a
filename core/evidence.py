"""Evidence and rights (rule 5): what the holder of a singleton may do, and until when, by its own clock."""

from core import effects as fx
from core import ending
from core.brain import Brain, replace_term
from core.events import BeatAnswered
from core.lease import lease_check, settle, term_check, term_put
from core.records import TermRecord
from core.singleton_table import move
from core.state import NO_OP, Ending, Singleton, SingletonState, Subject

S = SingletonState
RUNNING = (S.STARTING, S.ADMITTING, S.SERVING)
"""States in which the service runs or is about to."""


def right_until_ms(b: Brain, s: Singleton) -> int:
    """End of the right to serve: newest evidence plus ``fresh_ms``; without a volume, 2/3 of the session timeout."""
    if b.specs[s.name].volume:
        return max(s.coordination_asked_ms, s.storage_asked_ms) + b.timing.fresh_ms
    return s.coordination_asked_ms + b.timing.coordination_ms


def is_fresh(b: Brain, s: Singleton) -> bool:
    return b.now <= right_until_ms(b, s)


def coordination(s: Singleton, asked_ms: int) -> None:
    """A commit that checked our lease succeeded: it is evidence as of when it was asked for."""
    s.coordination_asked_ms = max(s.coordination_asked_ms, asked_ms)


def beat_coordination(b: Brain, s: Singleton) -> None:
    """Ask for coordination evidence from now on, at the term version we know."""
    b.emit(
        fx.StartBeat(
            service=s.name,
            epoch=s.epoch,
            kind="coordination",
            every_ms=b.timing.beat_ms,
            fresh_ms=b.timing.fresh_ms if b.specs[s.name].volume else b.timing.coordination_ms,
            session=b.state.session,
            checks=(lease_check(s), term_check(s)),
        )
    )


def beat_storage(b: Brain, s: Singleton) -> None:
    """Ask for storage evidence from now on, through the volume's own client instance."""
    b.emit(
        fx.StartBeat(
            service=s.name,
            epoch=s.epoch,
            kind="storage",
            every_ms=b.timing.probe_ms,
            fresh_ms=b.timing.fresh_ms,
            volume=b.specs[s.name].volume,
            instance=s.instance,
        )
    )


def on_beat(b: Brain, s: Singleton, event: BeatAnswered) -> None:
    """Take one answer of a standing beat. The evidence itself was noted by ``note_beat`` before."""
    if event.outcome == "refused":
        _refused(b, s, event)
    elif event.outcome == "ok":
        _confirmed(b, s, event)
    elif event.kind == "storage" and s.state is S.SERVING:
        ending.watch_for_stall(b, s, event.asked_ms)


def note_beat(s: Singleton, event: BeatAnswered) -> None:
    """Remember evidence as of when it was *asked for*, before anything is judged by it."""
    if event.outcome != "ok" or event.epoch != s.epoch:
        return
    if event.kind == "coordination":
        s.coordination_asked_ms = max(s.coordination_asked_ms, event.asked_ms)
    else:
        s.storage_asked_ms = max(s.storage_asked_ms, event.asked_ms)


def _refused(b: Brain, s: Singleton, event: BeatAnswered) -> None:
    if event.kind == "storage":
        b.note("refused", s.name, epoch=s.epoch, detail="the storage refused a probe")
        ending.end(b, s, Ending.GIVE_UP, "the storage refused a probe")
    elif s.op == NO_OP and s.state in (S.STARTING, S.SERVING, S.ADMITTING, S.WITHDRAWN):
        # The term may have changed under us (a steward lifted a block): only a read-back tells.
        settle(b, s)


def _confirmed(b: Brain, s: Singleton, event: BeatAnswered) -> None:
    if s.state is S.ADMITTING:
        try_admit(b, s)
    elif s.state in (S.SERVING, S.STARTING):
        if event.kind == "coordination":
            arm(b, s)
    elif s.state is S.WITHDRAWN and event.kind == "storage" and event.asked_ms > s.withdrawn_at_ms and is_fresh(b, s):
        move(s, "fresh", b.now)
        b.note("resumed", s.name, epoch=s.epoch)
        arm(b, s)
        b.emit(fx.ResumeService(service=s.name, epoch=s.epoch))
        _announce(b, s)
        tell_serving(b, s)  # if it was withdrawn while the first attempt was not answered


def arm(b: Brain, s: Singleton) -> None:
    """Push the deadline that is enforced outside the agent: nothing runs on without evidence (rule 11)."""
    b.emit(fx.ArmRight(service=s.name, epoch=s.epoch, until_ms=right_until_ms(b, s)))


def try_admit(b: Brain, s: Singleton) -> None:
    """Admit clients once the old holder's evidence must have run out and ours is fresh."""
    if b.specs[s.name].volume and b.now < s.admit_at_ms:
        b.timer(f"admit/{s.name}", s.admit_at_ms)
        return
    if not is_fresh(b, s):
        return  # the next beat tries again
    move(s, "admitted", b.now)
    arm(b, s)
    b.emit(fx.ResumeService(service=s.name, epoch=s.epoch))  # its right may have run out while no agent was there
    _announce(b, s)
    b.note("serving", s.name, epoch=s.epoch)
    tell_serving(b, s)


def tell_serving(b: Brain, s: Singleton) -> None:
    """Say in the term that clients are admitted, for those who need this service."""
    term = s.term
    if s.state is S.SERVING and term is not None and not term.serving and s.op == NO_OP:
        s.term = replace_term(term, serving=True)
        s.op = b.commit(Subject.SINGLETON, s.name, "serving", (lease_check(s), term_put(s, s.term)))


def _announce(b: Brain, s: Singleton) -> None:
    if b.specs[s.name].address:
        b.emit(fx.AnnounceAddress(service=s.name, epoch=s.epoch))
    s.announced = True
    guard(b, s)


def guard(b: Brain, s: Singleton) -> None:
    """Keep a timer at the end of the right; pushed lazily, so that a beat costs no timer."""
    b.timer(f"fresh/{s.name}", right_until_ms(b, s) + 1)


def on_fresh_timer(b: Brain, s: Singleton) -> None:
    if s.state is S.SERVING:
        enforce(b, s)
        if s.state is S.SERVING:
            guard(b, s)


def enforce(b: Brain, s: Singleton) -> None:
    """Withdraw, or stop a service without a volume, if the right has run out; called before anything else in a step."""
    if s.state not in RUNNING or is_fresh(b, s):
        return
    if not b.specs[s.name].volume:
        ending.end(b, s, Ending.HAND_OVER, "no coordination evidence")
    elif s.state is S.SERVING:
        withdraw(b, s)


def withdraw(b: Brain, s: Singleton) -> None:
    """Leave the network and suspend the service until a probe asked from now on succeeds (rule 5)."""
    move(s, "stale", b.now)
    s.withdrawn_at_ms = b.now
    s.announced = False
    b.cancel(f"fresh/{s.name}")
    b.note("withdrawn", s.name, epoch=s.epoch)
    b.emit(fx.WithdrawAddress(service=s.name, epoch=s.epoch))
    b.emit(fx.SuspendService(service=s.name, epoch=s.epoch))
    ending.watch_for_stall(b, s, b.now)


def on_term(b: Brain, s: Singleton, term: TermRecord, version: int) -> None:
    """The mirror shows a newer term of our own epoch (a steward lifted a block): check by that version from now on."""
    ours = term.epoch == s.epoch and version > s.term_version
    idle = s.op == NO_OP and s.state in (S.SERVING, S.ADMITTING, S.WITHDRAWN)
    if ours and (idle or s.state is S.STARTING):  # a start under way writes nothing that names the version
        s.term, s.term_version = term, version
        beat_coordination(b, s)
