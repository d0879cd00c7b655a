"""A change of the image that nodes run: one fault domain after the other, and it halts by itself (design 2.2).

Whoever owns the duty on the ring gives turns: a node is drained, its own agent stages the image and restarts into it;
back, it is taken into service, and when everything that should run on it has run for ``gate_ms`` its turn is over and
the next one begins. A node that fails to stage, comes back with its old image, stays away or does not get well halts
the upgrade: nothing new begins, and every node whose turn it was goes back to what it ran. The record is the only
memory, so any member can carry on.
"""

import msgspec

from core import effects as fx
from core import ensemble, membership
from core.brain import Brain
from core.events import Committed, OpFailed, OpSucceeded, ReadBack, Staged
from core.ids import NO_IMAGE, ImageId, NodeId
from core.lifecycle import after
from core.records import UPGRADE, Change, Lifecycle, MemberRecord, NodeRecord, Turn, UpgradeRecord, node_path
from core.state import NO_OP, CopyState, Pending, Subject, Ward

ME = Subject.UPGRADE
L = Lifecycle


def record_of(b: Brain) -> tuple[UpgradeRecord | None, int]:
    """The upgrade on record and its version (-1 if there is none)."""
    change = b.known(UPGRADE)
    if change is None or not isinstance(change.data, UpgradeRecord):
        return None, -1
    return change.data, change.version


def wanted_image(b: Brain, node: NodeId) -> ImageId:
    """What a node is to boot now; "" where no upgrade ever said so."""
    record, _ = record_of(b)
    if record is None:
        return NO_IMAGE
    turn = any(turn.node == node for turn in record.current)
    new = record.state == "done" or node in record.done or (turn and record.state == "running")
    return record.image if new else record.previous


def restarts(b: Brain, ward: Ward) -> bool:
    """Whether a ward has just left to restart into a new image: once for each turn."""
    record, _ = record_of(b)
    turn = _turn(record, ward.node)
    if record is None or turn is None or record.state != "running" or ward.restarted_from == turn.boot_id:
        return False
    ward.restarted_from = turn.boot_id
    return True


def _turn(record: UpgradeRecord | None, node: NodeId) -> Turn | None:
    turns = record.current if record is not None else ()
    return next((turn for turn in turns if turn.node == node), None)


def start_over(b: Brain) -> None:
    """Forget what the duty's owner waits for: the waits of a new session begin anew."""
    b.state.upgrade.version = -1
    b.state.upgrade.waits.clear()
    b.state.upgrade.back.clear()
    b.state.upgrade.good.clear()
    b.state.upgrade.asked.clear()
    b.cancel("upgrade")
    b.cancel("restart")


def review(b: Brain) -> None:
    """Do our own part, then, if the duty is ours, the next thing."""
    record, version = record_of(b)
    if record is None or version < b.state.upgrade.version:
        return  # our last write is still to be shown
    _own_part(b, record, version)
    if b.ring.owner_of_key("upgrade") == b.me.id and b.state.upgrade.op == NO_OP:
        if record.state == "running":
            _carry_on(b, record, version)
        elif record.state == "halted" and record.current:
            _take_back(b, record)


# -- our own turn ------------------------------------------------------------------------------------------------------


def _own_part(b: Brain, record: UpgradeRecord, version: int) -> None:
    own, part = b.state.own, b.state.upgrade
    turn = _turn(record, b.me.id)
    if part.image != record.image or (part.step in ("stage", "staged") and record.state != "running"):
        part.step = ""
    if turn is None or own is None:
        passed = b.me.id in record.done or record.state == "done"
        if passed and b.state.image == record.image != part.kept:
            part.kept = record.image
            b.emit(fx.KeepImage(image=record.image))
        _show_settled(b, False)
        return
    restarted = turn.boot_id != b.state.boot_id
    _show_settled(b, restarted and b.state.image == record.image and own.state is L.JOINED and _all_runs(b))
    if record.state == "halted":
        stands = b.state.image == record.image and restarted and own.state is L.MAINTENANCE
        if stands and part.step != "restart":
            part.step, part.image = "restart", record.image
            b.note("restarting", detail=f"back into {record.previous}")
            b.emit(fx.RestartInto(image=record.previous))
    elif part.step == "staged":
        if "restart" not in b.state.timers:
            _restart_if_safe(b)
    elif record.state == "running" and own.state is L.MAINTENANCE and not part.step:
        if not restarted and b.state.image != record.image:
            part.step, part.image = "stage", record.image
            op = b.op(ME, b.me.id, "stage")
            b.emit(fx.StageImage(op=op, image=record.image, ms_max=b.timing.stage_ms_max))
        elif restarted and b.state.image != record.image:
            _halt(b, record, version, f"{b.me.id} came back with its old image {b.state.image}")


def _show_settled(b: Brain, settled: bool) -> None:
    """Let the duty's owner see whether everything that should run here does."""
    if b.state.upgrade.settled != settled:
        b.state.upgrade.settled = settled
        membership.refresh(b)


def _all_runs(b: Brain) -> bool:
    copies = b.state.copies.values()
    return all(copy.state is CopyState.RUNNING for copy in copies if b.specs[copy.name].run == "everywhere")


def _staged(b: Brain, event: OpSucceeded | OpFailed) -> None:
    part = b.state.upgrade
    record, version = record_of(b)
    if part.step != "stage" or record is None or record.image != part.image or record.state != "running":
        part.step = ""
        return
    if isinstance(event, OpSucceeded) and isinstance(event.result, Staged):
        b.note("staged", detail=f"{part.image} in slot {event.result.slot or 'none, it boots from the network'}")
        part.step = "staged"
        _restart_if_safe(b)
        return
    part.step = ""
    detail = event.detail or event.reason if isinstance(event, OpFailed) else "no answer"
    _halt(b, record, version, f"{b.me.id} could not stage {part.image}: {detail}")


def _restart_if_safe(b: Brain) -> None:
    """Restart into what was staged, unless the ensemble needs us now: voters may have died while it was staged."""
    cluster, _ = ensemble.cluster(b)
    away = cluster.maintenance if cluster is not None else ()
    if cluster is None or b.state.dead_voters or not ensemble.may_lose(b, b.me.id, away):
        b.timer_in("restart", b.timing.retry_ms_max)
        return
    b.note("restarting", detail=f"into {b.state.upgrade.image}")
    b.state.upgrade.step = "restart"
    b.emit(fx.RestartInto(image=b.state.upgrade.image))


def _halt(b: Brain, record: UpgradeRecord, version: int, reason: str) -> None:
    if b.state.upgrade.op != NO_OP:
        return
    new = msgspec.structs.replace(record, state="halted", reason=reason)
    b.note("upgrade_halted", detail=reason)
    b.state.upgrade.op = b.commit(ME, "", "halt", (fx.Put(path=UPGRADE, data=new, version=version),))


# -- the duty's owner --------------------------------------------------------------------------------------------------


def _carry_on(b: Brain, record: UpgradeRecord, version: int) -> None:
    part = b.state.upgrade
    turns = {_key(turn): turn for turn in record.current}
    for waits in (part.waits, part.back, part.good):
        for key in [key for key in waits if key not in turns]:
            del waits[key]
    if not record.current:
        part.asked.clear()
        _next_turn(b, record, version)
        return
    limit_ms = b.timing.stage_ms_max + 2 * b.timing.boot_ms_max
    due: list[int] = []
    for key, turn in turns.items():
        since = part.waits.setdefault(key, b.now)
        member = b.members.get(turn.node)
        if member is not None and member.boot_id != turn.boot_id and member.image != record.image:
            _halt(b, record, version, f"{turn.node} came back with its old image {member.image}")
            return
        if member is not None and member.image == record.image and not member.fit:
            if _is_due(b, "admit/" + key):
                _read(b, "admit", [turn])
                return
            due.append(b.now + b.timing.retry_ms_max)
        if member is not None and _is_well(member, record):
            good = part.good.setdefault(key, b.now)
            if b.now >= good + b.timing.gate_ms:
                _read(b, "finish", [turn])
                return
            due.append(good + b.timing.gate_ms)
        else:
            part.good.pop(key, None)
        until = since + limit_ms
        if member is not None and member.image == record.image:
            since = part.back.setdefault(key, b.now)
            until = min(until, since + b.timing.boot_ms_max)
        if b.now >= until:
            how = "is back, and not well" if key in part.back else "was not back"
            _halt(b, record, version, f"{turn.node} {how} within {(until - since) // 1000} s")
            return
        due.append(until)
    b.timer("upgrade", min(due))


def _key(turn: Turn) -> str:
    return f"{turn.node}/{turn.boot_id}"


def _is_well(member: MemberRecord, record: UpgradeRecord) -> bool:
    return member.image == record.image and member.storage_ok and member.settled


def _is_due(b: Brain, what: str) -> bool:
    """Whether to ask for something (again): it takes a moment until a member shows what became of it."""
    last_ms = b.state.upgrade.asked.get(what)
    if last_ms is not None and b.now < last_ms + b.timing.retry_ms_max:
        return False
    b.state.upgrade.asked[what] = b.now
    return True


def _read(b: Brain, step: str, turns: list[Turn]) -> None:
    b.state.upgrade.chosen = turns
    b.state.upgrade.op = b.read(ME, "", step, tuple(node_path(turn.node) for turn in turns))


def _next_turn(b: Brain, record: UpgradeRecord, version: int) -> None:
    """Choose nodes of one power domain, if the rack can do without them now."""
    left = _left(b, record)
    if not left:
        new = msgspec.structs.replace(record, state="done", reason="")
        b.note("upgrade_done", detail=record.image)
        b.state.upgrade.op = b.commit(ME, "", "done", (fx.Put(path=UPGRADE, data=new, version=version),))
        return
    cluster, _ = ensemble.cluster(b)
    calm = cluster is not None and not (cluster.maintenance or cluster.joining or cluster.leaving)
    if not calm or b.state.brake.engaged or b.state.dead_voters:
        b.timer_in("upgrade", b.timing.retry_ms_max)
        return
    domain = b.members[left[0]].power_domain
    chosen: list[NodeId] = []
    for node in (node for node in left if b.members[node].power_domain == domain):
        if len(chosen) < record.parallel and ensemble.may_lose(b, node, tuple(chosen)):
            chosen.append(node)
    if not chosen:
        b.timer_in("upgrade", b.timing.retry_ms_max)
        return
    _read(b, "begin", [Turn(node=node, boot_id=b.members[node].boot_id) for node in chosen])


def _left(b: Brain, record: UpgradeRecord) -> list[NodeId]:
    """Members that run another image, in the order of their turns: domain by domain, and those that hold services last.

    A holder's services move to nodes that had their turn. One that was done and runs its old image again is left too.
    """
    left = [node for node, member in b.members.items() if member.image not in (NO_IMAGE, record.image)]
    leases = [lease for spec in b.specs if (lease := b.lease(spec)) is not None]
    holders = dict.fromkeys(lease.node for lease in leases)
    begun = dict.fromkeys(b.members[node].power_domain for node in record.done if node in b.members)
    busy = dict.fromkeys(b.members[node].power_domain for node in holders if node in b.members)

    def turn(node: NodeId) -> tuple[bool, bool, str, bool, NodeId]:
        domain = b.members[node].power_domain
        return domain not in begun, domain in busy, domain, node in holders, node

    return sorted(left, key=turn)


def _take_back(b: Brain, record: UpgradeRecord) -> None:
    """Halted: have nodes that run the new image drained, so that they can go back; let the others go on.

    One that stays away is lost, and powered like any lost node.
    """
    limit = b.now - 2 * b.timing.boot_ms_max
    over: list[Turn] = []
    for turn in record.current:
        member = b.members.get(turn.node)
        since = b.state.upgrade.waits.setdefault("halted/" + _key(turn), b.now)
        if member is not None and member.image == record.image:
            if member.fit and _is_due(b, "drain/" + _key(turn)):
                _read(b, "drain", [turn])
                return
        elif member is not None or since <= limit:
            over.append(turn)
    if over:
        _read(b, "take_back", over)
    else:
        b.timer_in("upgrade", b.timing.retry_ms_max)


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    """Take the end of our own staging, or what the duty's owner read or wrote."""
    if pending.step == "stage":
        _staged(b, event)
        return
    if b.state.upgrade.op != event.op:
        return
    b.state.upgrade.op = NO_OP
    record, version = record_of(b)
    result = event.result if isinstance(event, OpSucceeded) else None
    if isinstance(result, Committed):
        b.state.upgrade.version = result.versions[0]
        return
    if isinstance(result, ReadBack) and record is not None:
        writes, new = _moves(b, pending.step, record, result.changes)
        if writes or new != record:
            put = fx.Put(path=UPGRADE, data=new, version=version)
            b.state.upgrade.op = b.commit(ME, "", pending.step, (put, *writes))
            return
    b.timer_in("upgrade", b.calm_backoff(2, "upgrade"))


def _moves(
    b: Brain, step: str, record: UpgradeRecord, changes: tuple[Change, ...]
) -> tuple[list[fx.Write], UpgradeRecord]:
    """What becomes of the nodes that were read, and of the record with them."""
    writes: list[fx.Write] = []
    chosen, done = list(record.current), list(record.done)
    for turn, change in zip(b.state.upgrade.chosen, changes, strict=True):
        node = change.data
        if not isinstance(node, NodeRecord):
            continue
        if step in ("begin", "drain"):
            if node.state is L.JOINED:
                back = step == "drain"
                if not back:
                    b.note("upgrade_begun", node=turn.node)
                    chosen.append(turn)
                reason = f"back to {record.previous}" if back else f"upgrade to {record.image}"
                writes.append(_put(change, node, "operator_drains", reason))
            continue
        if step == "admit":
            writes += _back_in_service(b, change, node)
            continue
        if turn in chosen:
            chosen.remove(turn)
        if step == "finish":
            b.note("upgraded", node=turn.node, detail=record.image)
            done.append(turn.node)
        writes += _back_in_service(b, change, node)
    return writes, msgspec.structs.replace(record, current=tuple(chosen), done=tuple(dict.fromkeys(done)))


def _back_in_service(b: Brain, change: Change, node: NodeRecord) -> list[fx.Write]:
    """Undrain a node that is here; one that is not is lost, and its steward sees to it."""
    if node.state not in (L.DRAINING, L.MAINTENANCE):
        return []
    if node.node in b.members:
        return [_put(change, node, "operator_undrains", "")]
    if node.state is L.MAINTENANCE:
        return [_put(change, node, "restart_failed", "did not come back from its upgrade")]
    return []


def _put(change: Change, node: NodeRecord, trigger: str, reason: str) -> fx.Put:
    new = msgspec.structs.replace(node, state=after(node.state, trigger), reason=reason)
    return fx.Put(path=change.path, data=new, version=change.version)
