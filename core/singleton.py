"""One singleton on its way up: claim, fence, open, record, start, admit (rules 1 to 7). The way down is core.ending."""

from core import effects as fx
from core import ending, evidence
from core.brain import Brain, replace_term
from core.errors import InvariantViolation
from core.events import Committed, OpFailed, OpSucceeded, ReadBack, Stopped, VolumeOpened
from core.ids import NO_NODE, Epoch
from core.lease import held_term, lease_check, settle, term_check, term_put
from core.records import LeaseRecord, PowerRecord, TermRecord, lease_path, power_path, term_path
from core.singleton_table import move
from core.state import NO_OP, Ending, Pending, Singleton, SingletonState, Subject

S = SingletonState
ME = Subject.SINGLETON
START_FAILURES_MAX = 2
"""Failed starts on one node before it gives the service up."""


def claim(b: Brain, s: Singleton) -> None:
    """Claim the lease with a new epoch, in one transaction with the term (rules 1 and 3)."""
    old, version = b.term(s.name)
    epoch = Epoch(1 if old is None else old.epoch + 1)
    term = TermRecord(epoch=epoch, holder=b.me.id, session=b.state.session)
    if old is not None:
        left = tuple(i for i in (*old.unfenced, *old.identities) if i not in old.released)
        ousted = NO_NODE if old.stopped else old.holder
        term = replace_term(term, ousted=ousted, unfenced=tuple(dict.fromkeys(left)), blocked=old.blocked)
    lease = LeaseRecord(node=b.me.id, session=b.state.session, epoch=epoch)
    path = term_path(s.name)
    put = fx.Create(path=path, data=term) if old is None else fx.Put(path=path, data=term, version=version)
    create = fx.Create(path=lease_path(s.name), data=lease, ephemeral=True)
    fresh = Singleton(name=s.name, epoch=epoch, term=term, previous=old, starts_failed=s.starts_failed)
    b.state.singletons[s.name] = fresh
    move(fresh, "claim", b.now)
    fresh.op = b.commit(ME, s.name, "claim", (create, put))


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    """Take the answer to one of a singleton's ops; answers that came too late change nothing."""
    s = b.state.singletons[pending.key]
    if s.op != event.op:
        _too_late(b, s, event)
        return
    s.op = NO_OP
    if isinstance(event, OpFailed):
        _failed(b, s, pending, event)
    else:
        _succeeded(b, s, pending, event)


def _too_late(b: Brain, s: Singleton, event: OpSucceeded | OpFailed) -> None:
    if isinstance(event, OpSucceeded) and isinstance(event.result, VolumeOpened):
        op = b.op(ME, s.name, "stray")
        limit = b.specs[s.name].stop_ms_max
        b.emit(fx.CloseVolume(op=op, volume=b.specs[s.name].volume, instance=event.result.instance, ms_max=limit))


def _succeeded(b: Brain, s: Singleton, pending: Pending, event: OpSucceeded) -> None:
    match event.result:
        case Committed(versions=versions):
            _committed(b, s, pending, versions)
        case ReadBack() as answer:
            _read_back(b, s, pending, answer)
        case VolumeOpened(instance=instance):
            s.instance = instance
            b.note("opened", s.name, epoch=s.epoch, detail=instance.address)
            move(s, "opened", b.now)
            record(b, s)
        case Stopped(clean=clean):
            ending.on_stopped(b, s, clean)
        case _:
            _plainly_done(b, s, pending)


def _committed(b: Brain, s: Singleton, pending: Pending, versions: tuple[int, ...]) -> None:
    if pending.step == "release":
        ending.on_released(b, s, versions)
        return
    if pending.step in ("claim", "record", "serving"):
        s.term_version = versions[1]
    evidence.coordination(s, pending.asked_ms)
    match pending.step:
        case "claim":
            _won(b, s)
        case "record":
            _recorded(b, s)
        case "adopt":
            _adopted(b, s)
        case _:
            evidence.beat_coordination(b, s)


def _won(b: Brain, s: Singleton) -> None:
    b.note("claimed", s.name, epoch=s.epoch)
    volume = b.specs[s.name].volume
    s.progress_at_ms = b.now
    ending.watch_for_stall(b, s, b.now)
    if volume and s.previous is not None and s.previous.unclean:
        s.admit_at_ms = b.now + b.timing.admission_ms
    if s.ending is not Ending.NONE:
        ending.leave_claim(b, s)
    elif volume:
        move(s, "won", b.now)
        s.to_fence = list(held_term(s).unfenced)
        fence_next(b, s)
    else:
        move(s, "won_without_volume", b.now)
        s.admit_at_ms = b.now + b.timing.no_volume_wait_ms
        evidence.beat_coordination(b, s)
        _wait_or_start(b, s)


def fence_next(b: Brain, s: Singleton) -> None:
    """Fence the next client instance in the way; open the volume after the last one (rule 3)."""
    volume = b.specs[s.name].volume
    if not s.to_fence:
        move(s, "all_fenced", b.now)
        _open(b, s)
        return
    s.op = b.op(ME, s.name, "fence")
    limit, block = b.timing.fence_ms_max, b.timing.block_ms
    b.emit(fx.FenceInstance(op=s.op, volume=volume, instance=s.to_fence[0], block_ms=block, ms_max=limit))


def _fenced(b: Brain, s: Singleton) -> None:
    instance = s.to_fence.pop(0)
    b.note("fenced", s.name, node=instance.node, epoch=s.epoch, detail=instance.address)
    s.progress_at_ms = b.now
    s.fenced_at_ms = b.now
    s.admit_at_ms = b.now + b.timing.admission_ms
    fence_next(b, s)


def _open(b: Brain, s: Singleton) -> None:
    spec = b.specs[s.name]
    s.op = b.op(ME, s.name, "open")
    limit = b.timing.stall_ms
    b.emit(fx.OpenVolume(op=s.op, service=s.name, volume=spec.volume, epoch=s.epoch, ms_max=limit))


def record(b: Brain, s: Singleton) -> None:
    """Record the client instance in the term before its first write (rule 2); the fenced ones move to ``blocked``."""
    term = held_term(s)
    if s.instance is None:
        raise InvariantViolation(f"{s.name}: nothing to record")
    blocked = tuple(dict.fromkeys((*term.blocked, *term.unfenced)))
    s.term = replace_term(term, identities=(*term.identities, s.instance), unfenced=(), blocked=blocked)
    s.op = b.commit(ME, s.name, "record", (lease_check(s), term_put(s, s.term)))


def _recorded(b: Brain, s: Singleton) -> None:
    s.recorded = True
    move(s, "recorded", b.now)
    evidence.beat_coordination(b, s)
    evidence.beat_storage(b, s)
    start(b, s)


def _wait_or_start(b: Brain, s: Singleton) -> None:
    """Without a volume: find out how the last lease ended, and wait for its holder's clock if need be (rule 7)."""
    before = s.previous
    if before is None or before.stopped:
        s.admit_at_ms = -1
        _waited(b, s)
    elif before.unclean:
        _wait(b, s)
    else:
        s.op = b.read(ME, s.name, "mark", (power_path(before.holder),))


def _wait(b: Brain, s: Singleton) -> None:
    if b.now >= s.admit_at_ms:
        _waited(b, s)
    else:
        b.timer(f"wait/{s.name}", s.admit_at_ms)


def _waited(b: Brain, s: Singleton) -> None:
    move(s, "waited", b.now)
    s.admit_at_ms = min(s.admit_at_ms, b.now)
    start(b, s)


def start(b: Brain, s: Singleton) -> None:
    """Start the service on its recorded instance; nothing new starts without coordination evidence (rule 5)."""
    spec = b.specs[s.name]
    if b.now - s.coordination_asked_ms > b.timing.coordination_ms:
        evidence.beat_coordination(b, s)  # the standing one may have ended with a refusal
        _retry(b, s)
        return
    s.ran = True
    s.progress_at_ms = b.now
    evidence.arm(b, s)
    s.op = b.op(ME, s.name, "start")
    b.emit(fx.StartService(op=s.op, service=s.name, epoch=s.epoch, instance=s.instance, ms_max=spec.start_ms_max))


def _plainly_done(b: Brain, s: Singleton, pending: Pending) -> None:
    match pending.step:
        case "fence":
            _fenced(b, s)
        case "start":
            b.note("started", s.name, epoch=s.epoch)
            move(s, "started", b.now)
            evidence.try_admit(b, s)
        case "close":
            ending.on_closed(b, s)
        case _:
            raise InvariantViolation(f"{s.name}: unexpected answer at {pending.step}")


def on_timer(b: Brain, kind: str, s: Singleton) -> None:
    """A timer of this singleton fired: ``wait``, ``admit``, ``retry``, ``fresh`` or ``stall``."""
    match kind:
        case "wait":
            if s.state is S.WAITING:
                _waited(b, s)
        case "admit":
            if s.state is S.ADMITTING:
                evidence.try_admit(b, s)
        case "retry":
            if s.op == NO_OP:
                go_on(b, s)
        case "fresh":
            evidence.on_fresh_timer(b, s)
        case "stall":
            ending.on_stall_timer(b, s)
        case _:
            raise InvariantViolation(f"unknown timer {kind}/{s.name}")


def go_on(b: Brain, s: Singleton) -> None:
    """Take up the work of the current state again after a failure."""
    match s.state:
        case S.CLAIMING | S.RECORDING | S.RELEASING | S.ADOPTING:
            settle(b, s)
        case S.FENCING:
            fence_next(b, s)
        case S.OPENING:
            _open(b, s)
        case S.WAITING:
            _wait_or_start(b, s)
        case S.STARTING:
            start(b, s)
        case S.STOPPING:
            ending.stop(b, s)
        case S.SERVING | S.ADMITTING | S.WITHDRAWN:
            settle(b, s)
        case S.IDLE | S.CLOSING:
            pass


def _read_back(b: Brain, s: Singleton, pending: Pending, answer: ReadBack) -> None:
    if pending.step == "mark":
        mark = answer.changes[0].data
        closed = isinstance(mark, PowerRecord) and s.previous is not None and mark.closed_session == s.previous.session
        if closed:
            _wait(b, s)
        else:
            s.admit_at_ms = -1  # plain expiry: the last holder stopped by its own clock
            _waited(b, s)
        return
    term, lease, member = answer.changes
    if member.data is not None:
        b.state.member_version = member.version
    held = isinstance(lease.data, LeaseRecord) and b.own_session(lease.owner) and lease.data.epoch == s.epoch
    if not held or not isinstance(term.data, TermRecord) or term.data.epoch != s.epoch:
        ending.on_lease_gone(b, s)
        return
    s.term, s.term_version = term.data, term.version
    _held(b, s)


def _held(b: Brain, s: Singleton) -> None:
    """The read-back says that the lease is ours: go on from there."""
    match s.state:
        case S.CLAIMING:
            evidence.coordination(s, s.progress_at_ms)  # when the claim was asked for: a read proves nothing
            _won(b, s)
        case S.RECORDING:
            if s.instance in held_term(s).identities:
                _recorded(b, s)
            else:
                record(b, s)
        case S.RELEASING:
            ending.release(b, s)
        case S.ADOPTING:
            if s.instance is None or s.instance in held_term(s).identities:
                s.op = b.commit(ME, s.name, "adopt", (lease_check(s), term_check(s)))
            else:
                ending.on_lease_gone(b, s)
        case _:
            evidence.beat_coordination(b, s)
            evidence.tell_serving(b, s)


def _adopted(b: Brain, s: Singleton) -> None:
    """The lease is confirmed by a commit: what outlived the last agent is ours to run (rule 11)."""
    if not evidence.is_fresh(b, s):  # it was asked for too long ago to prove anything now
        s.op = b.commit(ME, s.name, "adopt", (lease_check(s), term_check(s)))
        return
    b.note("adopted", s.name, epoch=s.epoch)
    s.ran = True
    s.recorded = s.instance is not None
    evidence.beat_coordination(b, s)
    if s.instance is not None:
        evidence.beat_storage(b, s)
    ending.watch_for_stall(b, s, b.now)
    if s.starts_failed:
        move(s, "confirmed_but_exited", b.now)
        start(b, s)
    elif s.announced:
        move(s, "confirmed_serving", b.now)
        evidence.guard(b, s)
    else:
        move(s, "confirmed", b.now)
        s.admit_at_ms = b.now + (b.timing.admission_ms if b.specs[s.name].volume else 0)
        evidence.try_admit(b, s)


def _failed(b: Brain, s: Singleton, pending: Pending, event: OpFailed) -> None:
    if event.reason == "session":
        return  # SessionOpened follows and ends every right of the old session
    match pending.step:
        case "claim" if event.reason == "conflict":
            move(s, "lost", b.now)
            b.note("claim_lost", s.name, epoch=s.epoch)
            b.timer_in(f"claim/{s.name}", b.backoff(1, s.name))
        case "claim":
            b.note("claim_unanswered", s.name, epoch=s.epoch)
            settle(b, s)
        case "record" | "release" | "adopt":
            settle(b, s) if event.reason == "conflict" else _retry(b, s)
        case "fence":
            b.note("fence_failed", s.name, node=s.to_fence[0].node, epoch=s.epoch, detail=event.detail)
            _retry(b, s)
        case "start":
            _start_failed(b, s, event)
        case "stop":
            ending.on_stop_failed(b, s)
        case "close":
            s.clean = False
            ending.on_closed(b, s)
        case _:
            _retry(b, s)


def _start_failed(b: Brain, s: Singleton, event: OpFailed) -> None:
    b.note("service_failed", s.name, epoch=s.epoch, detail=event.detail or event.reason)
    s.starts_failed += 1
    if event.reason == "refused":
        ending.end(b, s, Ending.GIVE_UP, "the storage refused the volume")
    elif s.starts_failed >= START_FAILURES_MAX:
        s.starts_failed = 0
        ending.end(b, s, Ending.GIVE_UP, "the service could not be started")
    else:
        _retry(b, s)


def _retry(b: Brain, s: Singleton) -> None:
    b.timer_in(f"retry/{s.name}", b.calm_backoff(0, s.name))


def on_exited(b: Brain, s: Singleton, detail: str) -> None:
    """The running service died: start it again here, a few times."""
    if s.state is S.ADOPTING:
        s.starts_failed += 1
    if s.state not in (S.ADMITTING, S.SERVING, S.WITHDRAWN):
        return
    b.note("service_failed", s.name, epoch=s.epoch, detail=detail)
    if b.now - s.progress_at_ms > b.timing.unfit_ms:
        s.starts_failed = 0
    s.starts_failed += 1
    s.announced = False
    b.emit(fx.WithdrawAddress(service=s.name, epoch=s.epoch))
    if s.starts_failed > START_FAILURES_MAX:
        s.starts_failed = 0
        ending.end(b, s, Ending.GIVE_UP, "the service keeps failing")
        return
    move(s, "exited", b.now)
    start(b, s)
