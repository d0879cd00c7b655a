"""Small realistic wrong versions of the core: each is one textual change, named by the rule that it breaks."""

import msgspec


class Mutant(msgspec.Struct, frozen=True):
    """One planted bug: ``old`` occurs exactly once in ``file`` of the core and becomes ``new``."""

    name: str
    rule: int
    words: str
    file: str
    old: str
    new: str


def m(name: str, rule: int, words: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, rule, words, file, old, new)


MUTANTS: tuple[Mutant, ...] = (
    m("epoch_kept", 1, "a claim keeps the epoch of the last one", "singleton.py",
      "epoch = Epoch(1 if old is None else old.epoch + 1)", "epoch = Epoch(1 if old is None else old.epoch)"),
    m("epoch_of_beats_unchecked", 1, "evidence of another epoch is taken", "machine.py",
      "if s is None or s.epoch != event.epoch or s.state is SingletonState.IDLE:",
      "if s is None or s.state is SingletonState.IDLE:"),
    m("lease_outlives_its_session", 1, "the lease is not ephemeral", "singleton.py",
      "data=lease, ephemeral=True)", "data=lease)"),
    m("identity_after_first_write", 2, "the service starts before its identity is recorded", "singleton.py",
      '            move(s, "opened", b.now)\n            record(b, s)',
      '            move(s, "opened", b.now)\n            move(s, "recorded", b.now)\n            start(b, s)'),
    m("identity_not_recorded", 2, "the identity is kept out of the term (as if in the lease)", "singleton.py",
      "identities=(*term.identities, s.instance), unfenced=()", "identities=term.identities, unfenced=()"),
    m("identity_without_lease_check", 2, "the identity is recorded without checking the own lease", "singleton.py",
      's.op = b.commit(ME, s.name, "record", (lease_check(s), term_put(s, s.term)))',
      's.op = b.commit(ME, s.name, "record", (term_check(s), term_put(s, s.term)))'),
    m("start_before_fence", 3, "the volume is opened while the first fence is still under way", "singleton.py",
      "    b.emit(fx.FenceInstance(op=s.op, volume=volume, instance=s.to_fence[0], block_ms=block, ms_max=limit))\n\n\n"
      "def _fenced",
      "    b.emit(fx.FenceInstance(op=s.op, volume=volume, instance=s.to_fence[0], block_ms=block, ms_max=limit))\n"
      "    s.to_fence.clear()\n    fence_next(b, s)\n\n\ndef _fenced"),
    m("fence_first_only", 3, "only the first of the instances in the way is fenced", "singleton.py",
      "s.to_fence = list(held_term(s).unfenced)", "s.to_fence = list(held_term(s).unfenced)[:1]"),
    m("unfenced_dropped", 3, "what a crashed claimer had to fence is forgotten by the next claim", "singleton.py",
      "for i in (*old.unfenced, *old.identities) if", "for i in old.identities if"),
    m("identities_not_fenced", 3, "the instances of the last holder are not fenced", "singleton.py",
      "for i in (*old.unfenced, *old.identities) if", "for i in old.unfenced if"),
    m("failed_fence_counts", 3, "a fence that failed counts as done", "singleton.py",
      's.name, node=s.to_fence[0].node, epoch=s.epoch, detail=event.detail)\n            _retry(b, s)',
      's.name, node=s.to_fence[0].node, epoch=s.epoch, detail=event.detail)\n            _fenced(b, s)'),
    m("released_without_checks", 4, "an identity is released although the stop was not clean", "ending.py",
      "if clean and s.recorded and s.instance is not None:", "if s.recorded and s.instance is not None:"),
    m("failed_close_is_clean", 4, "a volume that could not be closed counts as closed", "singleton.py",
      '        case "close":\n            s.clean = False\n', '        case "close":\n'),
    m("released_before_stop", 4, "the lease is released before the service is stopped", "ending.py",
      "        b.emit(fx.WithdrawAddress(service=s.name, epoch=s.epoch))\n        stop(b, s)",
      "        b.emit(fx.WithdrawAddress(service=s.name, epoch=s.epoch))\n"
      "        s.state = S.CLOSING\n        on_closed(b, s)"),
    m("release_wipes_others", 4, "a release wipes what others blocked", "ending.py",
      "after = replace_term(term, released=released,", "after = replace_term(term, blocked=(), released=released,"),
    m("volume_not_closed", 4, "a hand-over releases without closing the volume", "ending.py",
      '        move(s, "stopped", b.now)\n        close(b, s)', '        move(s, "stopped", b.now)\n        on_closed(b, s)'),
    m("counted_from_the_answer", 5, "the lease counts from the answer instead of the question", "machine.py",
      "    evidence.note_beat(s, event)", "    evidence.note_beat(s, msgspec.structs.replace(event, asked_ms=event.at_ms))"),
    m("commit_counted_from_the_answer", 5, "a commit counts as evidence from its answer on", "singleton.py",
      "    evidence.coordination(s, pending.asked_ms)\n    match", "    evidence.coordination(s, b.now)\n    match"),
    m("any_commit_renews", 5, "any commit of the node renews the lease", "machine.py",
      "    pending = b.state.ops.pop(event.op)\n",
      "    pending = b.state.ops.pop(event.op)\n"
      "    for each in b.state.singletons.values():\n"
      "        if isinstance(event, OpSucceeded):\n"
      "            each.coordination_asked_ms = max(each.coordination_asked_ms, pending.asked_ms)\n"),
    m("storage_probe_ignored", 5, "a refused probe is ignored", "evidence.py",
      '        ending.end(b, s, Ending.GIVE_UP, "the storage refused a probe")', "        pass"),
    m("unanswered_is_ok", 5, "an unanswered beat counts as evidence", "evidence.py",
      'if event.outcome != "ok" or event.epoch != s.epoch:', 'if event.outcome == "refused" or event.epoch != s.epoch:'),
    m("resume_on_old_probe", 5, "a withdrawn service resumes on a probe asked before", "evidence.py",
      "and event.asked_ms > s.withdrawn_at_ms and is_fresh(b, s)", "and event.asked_ms > 0"),
    m("address_too_early", 5, "clients are admitted before the old holder's evidence ran out", "evidence.py",
      "if b.specs[s.name].volume and b.now < s.admit_at_ms:",
      "if b.specs[s.name].volume and b.now < s.admit_at_ms - b.timing.withdraw_ms:"),
    m("admission_not_set", 5, "the wait after the last fence is forgotten", "singleton.py",
      "    s.admit_at_ms = b.now + b.timing.admission_ms\n    fence_next(b, s)", "    fence_next(b, s)"),
    m("never_withdraws", 5, "the right that ran out is not enforced", "evidence.py",
      "    if s.state not in RUNNING or is_fresh(b, s):", "    if s.state in RUNNING or is_fresh(b, s):"),
    m("new_session_keeps_rights", 5, "a new session keeps what ran under the old one", "machine.py",
      '    ending.end(b, s, Ending.DROP, "the session is over")', "    pass"),
    m("join_before_stop", 5, "the first write of a new session goes out while services are being stopped", "membership.py",
      "    if b.state.phase is Phase.STOPPING and not _holding_old(b):", "    if b.state.phase is Phase.STOPPING:"),
    m("blocked_forgotten", 6, "fenced instances are not kept in blocked", "singleton.py",
      "blocked = tuple(dict.fromkeys((*term.blocked, *term.unfenced)))", "blocked = term.blocked"),
    m("lifted_while_alive", 6, "a block is lifted though the same boot is back", "blocks.py",
      "if member is not None and member.boot_id != instance.boot_id:", "if member is not None:"),
    m("lifted_when_absent", 6, "a block is lifted because its node is gone", "blocks.py",
      "if member is not None and member.boot_id != instance.boot_id:",
      "if member is None or member.boot_id != instance.boot_id:"),
    m("fence_expires_early", 6, "a fence is asked for a tenth of the time", "singleton.py",
      "limit, block = b.timing.fence_ms_max, b.timing.block_ms\n    b.emit(fx.FenceInstance(op=s.op",
      "limit, block = b.timing.fence_ms_max, b.timing.block_ms // 10\n    b.emit(fx.FenceInstance(op=s.op"),
    m("no_wait_after_early_close", 7, "without a volume an early close is not waited out", "singleton.py",
      "        if closed:\n            _wait(b, s)", "        if closed and b.now < 0:\n            _wait(b, s)"),
    m("waits_after_expiry", 7, "without a volume even a plain expiry is waited out", "singleton.py",
      "        if closed:\n            _wait(b, s)", "        if mark is None or closed:\n            _wait(b, s)"),
    m("waits_too_short", 7, "the wait is two thirds of the session timeout", "singleton.py",
      "s.admit_at_ms = b.now + b.timing.no_volume_wait_ms", "s.admit_at_ms = b.now + b.timing.coordination_ms"),
    m("brake_off_by_one", 8, "the brake engages at exactly a third", "brake.py",
      "elif len(brake.losses) * SHARE > before:", "elif len(brake.losses) * SHARE >= before:"),
    m("brake_ignored", 8, "power fencing goes on under the brake", "recovery.py",
      "(fencing or b.state.brake.engaged or not", "(fencing or not"),
    m("two_fences_in_a_domain", 8, "several power fences in one domain at once", "recovery.py",
      "(fencing or b.state.brake.engaged or not", "(b.state.brake.engaged or not"),
    m("quorum_fenced_away", 8, "a node whose ZooKeeper server keeps the quorum is power-fenced", "recovery.py",
      "or not ensemble.may_lose(b, node, ())):", "):"),
    m("minority_power_cycles", 8, "a steward sends an order that was not committed", "recovery.py",
      "        for node in ordered:\n            _refused(b, node)\n",
      "        for node in ordered:\n            _send(b, b.state.wards[node], b.now + b.timing.power_ms_max)\n"),
    m("order_dated_from_the_answer", 9, "an order's deadline counts from the answer to its commit", "recovery.py",
      "_send(b, ward, pending.asked_ms + b.timing.power_ms_max)", "_send(b, ward, b.now + b.timing.power_ms_max)"),
    m("order_without_generation", 9, "an order carries an old generation", "recovery.py",
      "order = msgspec.structs.replace(power, generation=power.generation + 1,",
      "order = msgspec.structs.replace(power, generation=power.generation,"),
    m("silence_is_off", 10, "a BMC that says nothing or on counts as off", "steward.py",
      "off = isinstance(event, OpSucceeded) and isinstance(event.result, PowerSeen) and not event.result.on", "off = True"),
    m("closes_the_new_session", 10, "the early close hits the session that the node has now", "steward.py",
      "    if not ward.silent or member is None or member.session != ward.session:\n        return\n",
      "    if member is None:\n        return\n    ward.session = member.session\n"),
    m("closes_without_mark", 10, "a session is closed before the mark is committed", "steward.py",
      '        ward.early = b.commit(ME, ward.node, "close_mark", (write,))\n        return',
      '        ward.early = b.commit(ME, ward.node, "close_mark", (write,))\n'
      '        op = b.op(ME, ward.node, "close")\n'
      "        b.emit(fx.CloseSession(op=op, session=ward.session, ms_max=b.timing.commit_ms_max))\n        return"),
    m("adopts_without_commit", 11, "a restarted agent adopts what runs on a read alone", "singleton.py",
      '                s.op = b.commit(ME, s.name, "adopt", (lease_check(s), term_check(s)))',
      "                evidence.coordination(s, b.now)\n                _adopted(b, s)"),
    m("restart_stops_services", 11, "a restarted agent stops what outlived the last one", "machine.py",
      "        elif s.state is SingletonState.ADOPTING:\n            singleton.go_on(b, s)",
      "        elif s.state is SingletonState.ADOPTING:\n            _drop(b, s)"),
    m("no_right_before_start", 11, "no deadline is armed outside the agent before a start", "singleton.py",
      "    evidence.arm(b, s)\n    s.op = b.op(ME, s.name, \"start\")", "    s.op = b.op(ME, s.name, \"start\")"),
    m("gives_up_without_unfit", 12, "giving up leaves no unfit mark", "ending.py",
      "        b.state.unfit_until_ms[s.name] = b.now + b.timing.unfit_ms\n"
      '        b.timer("unfit", min(b.state.unfit_until_ms.values()))\n', ""),
    m("gives_up_for_nobody", 12, "a holder gives up though nobody can do better", "ending.py",
      "    elif b.joined and b.storage_elsewhere(s.name):", "    elif b.joined:"),
    m("never_gives_up", 12, "a holder without progress keeps its lease", "ending.py",
      "    elif b.joined and b.storage_elsewhere(s.name):", "    elif b.now < 0:"),
    m("unanswered_claim_is_lost", 12, "an unanswered claim is taken to have failed", "singleton.py",
      '            b.note("claim_unanswered", s.name, epoch=s.epoch)\n            settle(b, s)',
      '            b.note("claim_unanswered", s.name, epoch=s.epoch)\n            move(s, "lost", b.now)'),
    m("unanswered_claim_is_won", 12, "an unanswered claim is taken to have worked", "singleton.py",
      '            b.note("claim_unanswered", s.name, epoch=s.epoch)\n            settle(b, s)',
      '            b.note("claim_unanswered", s.name, epoch=s.epoch)\n            _won(b, s)'),
    m("unfit_marks_stay", 12, "unfit marks never lapse", "membership.py",
      "if until <= b.now]:", "if until <= 0]:"),
    m("watch_without_version", 5, "a watch event is taken as truth without its version", "mirror.py",
      "if known is None or _is_newer(change, known):", "if known is None or known != change:"),
)
