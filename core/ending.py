"""One singleton on its way down: handed over cleanly (rule 4), given up (rule 12), or dropped with its session (5)."""

from core import effects as fx
from core.brain import Brain, replace_term
from core.lease import settle, term_put
from core.membership import wanted_member
from core.records import LeaseRecord, lease_path
from core.singleton_table import move
from core.state import NO_OP, Ending, Singleton, SingletonState, Subject

S = SingletonState
ME = Subject.SINGLETON
STAY_ROUNDS = 4
"""A holder that nobody could do better than looks again after this many stall times."""
_RANK = {Ending.NONE: 0, Ending.HAND_OVER: 1, Ending.GIVE_UP: 2, Ending.DROP: 3}


def end(b: Brain, s: Singleton, how: Ending, reason: str) -> None:
    """Begin to give a singleton up; a harsher ending replaces a gentler one under way."""
    if s.state is S.IDLE or _RANK[how] <= _RANK[s.ending]:
        return
    s.ending = how
    s.reason = reason
    if how is not Ending.HAND_OVER:
        s.clean = False
    if s.state is S.CLAIMING:
        if how is Ending.DROP:
            _idle(b, s, "lost")
        return  # otherwise the answer to the claim comes first
    if s.state is S.RELEASING:
        if how is Ending.DROP:
            _idle(b, s, "gone")
        return
    if s.state in (S.STOPPING, S.CLOSING):
        return
    _begin(b, s)


def _begin(b: Brain, s: Singleton) -> None:
    was = s.state
    for timer in ("fresh", "admit", "wait", "stall", "retry"):
        b.cancel(f"{timer}/{s.name}")
    for kind in ("coordination", "storage"):
        b.emit(fx.StopBeat(service=s.name, epoch=s.epoch, kind=kind))
    s.op = NO_OP
    move(s, "end", b.now)
    if was in (S.ADOPTING, S.SERVING, S.ADMITTING, S.WITHDRAWN, S.STARTING):
        s.announced = False
        b.emit(fx.WithdrawAddress(service=s.name, epoch=s.epoch))
        stop(b, s)
    elif was is S.WAITING:
        _release_or_forget(b, s)
    else:
        close(b, s)


def clear_orphan(b: Brain, s: Singleton, lease: LeaseRecord) -> None:
    """Our session owns a lease that an earlier agent of ours died with: a stopped service keeps no lease (rule 12)."""
    s.epoch, s.ending, s.clean = lease.epoch, Ending.HAND_OVER, False
    s.reason = "an earlier agent died with it"
    move(s, "orphan", b.now)
    stop(b, s)


def leave_claim(b: Brain, s: Singleton) -> None:
    """The claim was won after we had decided to leave: give the lease back at once."""
    move(s, "end", b.now)
    release(b, s)


def stop(b: Brain, s: Singleton) -> None:
    """Stop the service: politely in a hand-over, else at once."""
    s.op = b.op(ME, s.name, "stop")
    kill = s.ending is not Ending.HAND_OVER or not s.clean
    limit = b.specs[s.name].stop_ms_max
    b.emit(fx.StopService(op=s.op, service=s.name, epoch=s.epoch, kill=kill, ms_max=limit))


def on_stopped(b: Brain, s: Singleton, clean: bool) -> None:
    s.clean = s.clean and clean
    if s.instance is not None:
        move(s, "stopped", b.now)
        close(b, s)
    elif s.ending is Ending.DROP:
        _idle(b, s, "stopped_without_lease")
    else:
        move(s, "stopped_without_volume", b.now)
        release(b, s)


def on_stop_failed(b: Brain, s: Singleton) -> None:
    """It would not stop in time: kill it, and never call that clean."""
    s.clean = False
    b.timer_in(f"retry/{s.name}", b.backoff(0, s.name))


def close(b: Brain, s: Singleton) -> None:
    """Close the volume, if one is open; what is not clean any more is fenced by the next holder and not waited for."""
    if s.instance is None:
        on_closed(b, s)
        return
    s.op = b.op(ME, s.name, "close")
    limit = b.specs[s.name].stop_ms_max if s.clean else b.timing.commit_ms_max
    b.emit(fx.CloseVolume(op=s.op, volume=b.specs[s.name].volume, instance=s.instance, ms_max=limit))


def on_closed(b: Brain, s: Singleton) -> None:
    if s.ending is Ending.DROP:
        _idle(b, s, "closed_without_lease")
    else:
        move(s, "closed", b.now)
        release(b, s)


def _release_or_forget(b: Brain, s: Singleton) -> None:
    if s.ending is Ending.DROP:
        _idle(b, s, "gone")
    else:
        release(b, s)


def release(b: Brain, s: Singleton) -> None:
    """Delete the lease; mark our own identity released only after a clean stop (rule 4).

    Giving up marks this node unfit in the same transaction (rule 12), so that the next claim goes elsewhere.
    """
    if s.term is None:
        settle(b, s)
        return
    term = s.term
    clean = s.clean and s.ending is Ending.HAND_OVER
    released = term.released
    if clean and s.recorded and s.instance is not None:
        released = (*released, s.instance)
    calm = _nobody_still_believes(b, s)
    after = replace_term(term, released=released, stopped=clean and calm, unclean=not (clean and calm), serving=False)
    writes: tuple[fx.Write, ...] = (term_put(s, after), fx.Remove(path=lease_path(s.name), version=0))
    if s.ending is Ending.GIVE_UP:
        b.state.unfit_until_ms[s.name] = b.now + b.timing.unfit_ms
        b.timer("unfit", min(b.state.unfit_until_ms.values()))
        member = fx.Put(path=b.own_member_path(), data=wanted_member(b), version=b.state.member_version)
        writes = (*writes, member)
    s.op = b.commit(ME, s.name, "release", writes)


def _nobody_still_believes(b: Brain, s: Singleton) -> bool:
    """Whether every holder before us has stopped by its own clock, so that the next one need not wait for that.

    With a volume the evidence of whom we fenced must have run out (rule 5), without one the clock before us (rule 7).
    """
    if b.specs[s.name].volume:
        return b.now >= s.admit_at_ms
    return s.ran or s.previous is None or s.previous.stopped


def on_released(b: Brain, s: Singleton, versions: tuple[int, ...]) -> None:
    if s.ending is Ending.GIVE_UP:
        b.state.member_version = max(b.state.member_version, versions[-1])
        b.note("gave_up", s.name, epoch=s.epoch, detail=s.reason)
    b.note("released" if s.clean else "released_unclean", s.name, epoch=s.epoch, detail=s.reason)
    _idle(b, s, "gone")


def on_lease_gone(b: Brain, s: Singleton) -> None:
    """A read-back says that the lease is not ours (any more)."""
    match s.state:
        case S.CLAIMING:
            b.note("claim_lost", s.name, epoch=s.epoch)
            b.timer_in(f"claim/{s.name}", b.backoff(1, s.name))
            _idle(b, s, "lost")
        case S.RELEASING:
            b.note("released" if s.clean else "released_unclean", s.name, epoch=s.epoch, detail=s.reason)
            _idle(b, s, "gone")
        case S.ADOPTING:
            b.note("adoption_refused", s.name, epoch=s.epoch)
            end(b, s, Ending.DROP, "the lease is not ours")
        case S.IDLE:
            pass
        case _:
            b.note("refused", s.name, epoch=s.epoch, detail="the lease is not ours")
            end(b, s, Ending.DROP, "the lease is not ours")


def _idle(b: Brain, s: Singleton, trigger: str) -> None:
    move(s, trigger, b.now)
    for timer in ("fresh", "admit", "wait", "stall", "retry"):
        b.cancel(f"{timer}/{s.name}")
    b.state.singletons[s.name] = Singleton(name=s.name, starts_failed=s.starts_failed, last_epoch=s.epoch)


def watch_for_stall(b: Brain, s: Singleton, since_ms: int) -> None:
    """Make sure that a holder without progress since then (own clock) is noticed."""
    if f"stall/{s.name}" not in b.state.timers:
        b.timer(f"stall/{s.name}", max(b.now, since_ms + b.timing.stall_ms))


def on_stall_timer(b: Brain, s: Singleton) -> None:
    """Hold or serve (rule 12): no progress for ``stall_ms`` while another could do better means giving up."""
    if s.ending is not Ending.NONE or (s.state is S.SERVING and not b.specs[s.name].volume):
        return
    limit = b.timing.stall_ms
    if s.state is S.STARTING:
        limit += b.specs[s.name].start_ms_max
    if s.state is S.WAITING:
        limit += b.timing.no_volume_wait_ms
    probed_ms = s.storage_asked_ms if s.state is not S.STARTING else -1  # a start that hangs answers no client
    due = max(s.progress_at_ms, probed_ms) + limit
    if b.now < due:
        s.stayed = False
        if s.state is not S.SERVING:  # there the next probe that does not succeed sets the timer again
            b.timer(f"stall/{s.name}", due)
    elif b.joined and b.storage_elsewhere(s.name):
        if s.stayed:  # the storage is back for others only now: it may be back for us in a moment
            s.stayed = False
            watch_for_stall(b, s, b.now)
        else:
            end(b, s, Ending.GIVE_UP, f"no progress while {s.state}")
    else:
        if not s.stayed:
            b.note("stayed", s.name, epoch=s.epoch, detail=s.state)
        s.stayed = True
        b.timer_in(f"stall/{s.name}", STAY_ROUNDS * b.timing.stall_ms)
