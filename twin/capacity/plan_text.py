"""A plan as text for an operator at a terminal."""

import textwrap
from collections.abc import Callable, Sequence

from formats.paint import Paint
from twin.capacity.losing import LossReport
from twin.capacity.machines import Machines
from twin.capacity.plan_records import Growth, Moment, Plan, kind_of
from twin.capacity.steps import Step
from twin.timeline import took

WIDTH = 118
BAR = 16
OSDS_SHOWN = 24
POOLS_SHOWN = 8


def plan_to_text(plan: Plan, paint: Paint) -> str:
    """Lay a plan out: usable bytes and VMs step by step, growth, the loss, and what to beware of."""
    now = plan.now
    what = "rack file" if kind_of(now.cluster) == "rack" else "a real cluster's JSON"
    groups = sum(pool.pg_num for pool in now.cluster.osdmap.pools)
    head = f"{now.nodes} nodes, {len(now.cluster.osds)} OSDs, {groups} PGs; {what} {plan.source}"
    lines = [f"{paint.strong(plan.name)}  {paint.dim(head)}", "", *_headline(now, plan, paint), ""]
    lines += _waterfall(now.usable.steps, now.usable.raw_bytes, paint)
    lines += ["", *_max_avail(plan, paint), *_vms(now.machines, paint)]
    if plan.growth:
        lines += ["", *_growth(plan, paint)]
    if plan.loss is not None:
        lines += ["", *_loss(plan.loss, paint)]
    notes = [line for warning in plan.warnings for line in _wrapped(f"  ! {warning}", "    ")]
    lines += ["", *(paint.warn(line) for line in notes)] if notes else []
    return "\n".join(lines) + "\n"


def size(amount: float) -> str:
    """Show bytes in decimal units with three or four digits, as disks are sold: 21.5 GB."""
    value, unit = float(amount), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB", "EB"):
        if abs(value) < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 0 if unit == "B" or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{digits}f} {unit}"


def days(count: float) -> str:
    """Show a number of days: as days up to three years, then as years."""
    return f"{count:,.0f} days" if count < 1_100 else f"{count / 365.25:,.1f} years"


def _headline(now: Moment, plan: Plan, paint: Paint) -> list[str]:
    room = now.usable
    share = f" ({100 * room.usable_bytes / room.raw_bytes:.0f} % of raw)" if room.raw_bytes else ""
    free = f"{size(room.free_bytes)} free" if room.free_bytes else "nothing free"
    line = f"usable  {paint.strong(size(room.usable_bytes))}{share}: {size(room.stored_bytes)} stored, {free}"
    if now.full_in_days is not None:
        line += f"; full in {paint.strong(days(now.full_in_days))}"
    survives = "no loss is kept room for" if plan.survive == "none" else f"survives the loss of any {plan.survive}"
    lines = [f"  {line}; {survives}" if room.heals else f"  {line}"]
    if now.machines.vms is not None:
        lines.append(f"  VMs     {paint.strong(f'{now.machines.vms:,d}')}, with that loss survived")
    return lines


def _waterfall(steps: Sequence[Step], raw: float, paint: Paint, first: str = "raw") -> list[str]:
    """One line for each step: what is left, what was taken, a bar, and why."""
    if not steps:
        return []
    unit = steps[0].unit
    lines = [
        f"  {first:<20}{_amount(steps[0].before, unit):>11}{'':>12}  {_bar(steps[0].before / raw if raw else 0.0)}"
    ]
    for step in steps:
        bar = paint.heal(_bar(step.after / raw if raw else 0.0))
        left = f"  {step.name[:20]:<20}{_amount(step.after, unit):>11}{_taken(step):>12}  {bar}"
        lines += _beside(left, step.why, paint)
    return lines


def _taken(step: Step) -> str:
    if step.taken == 0:
        return "-"
    return f"{'-' if step.taken > 0 else '+'}{_amount(abs(step.taken), step.unit)}"


def _beside(left: str, why: str, paint: Paint) -> list[str]:
    """A line with a remark beside it, wrapped under itself."""
    start = paint.width(left) + 2
    parts = textwrap.wrap(why, max(30, WIDTH - start)) or [""]
    return [f"{left}  {paint.dim(parts[0])}", *(" " * start + paint.dim(part) for part in parts[1:])]


def _amount(amount: float, unit: str) -> str:
    if unit == "bytes of memory":
        return f"{amount / (1 << 30):,.0f} GiB"
    return size(amount) if unit == "bytes" else f"{amount:,.0f}"


def _bar(share: float) -> str:
    filled = round(max(0.0, min(1.0, share)) * BAR)
    return "█" * filled + "░" * (BAR - filled)


def _max_avail(plan: Plan, paint: Paint) -> list[str]:
    """Ceph's own figure beside ours, and why they differ."""
    lines = []
    said = {use.pool: use.max_avail_bytes for use in plan.now.cluster.uses}
    for pool in plan.now.cluster.osdmap.pools[:POOLS_SHOWN]:
        ours, theirs = plan.now.max_avail[pool.name], said.get(pool.id)
        against = "" if theirs is None else f"; the cluster says {size(theirs)} ({theirs:,d} bytes)"
        against = ", exactly as the cluster says" if theirs == ours else against
        lines.append(f"  Ceph's MAX AVAIL of {paint.plain(pool.name)}: {paint.strong(size(ours))} more{against}")
    if not lines:
        return []
    steps = {step.name: step for step in plan.now.usable.steps}
    ratio = next(name for name in steps if name.endswith(" ratio"))
    why = (
        f"ours: {size(plan.now.usable.free_bytes)} more. MAX AVAIL takes data as spread by CRUSH weight, where "
        f"osd.{plan.now.usable.fullest} has the most by its PGs; it fills up to the full ratio, ours to the {ratio}; "
        f"and it keeps no room to heal, ours {size(steps['room to heal'].taken)}"
    )
    return lines + [paint.dim(line) for line in _wrapped(f"  {why}", "  ")]


def _vms(machines: Machines, paint: Paint) -> list[str]:
    if machines.vms is None:
        return ["", *(paint.dim(line) for line in _wrapped(f"  VMs: not known: {machines.reason}", "  "))]
    lines: list[str] = []
    for unit in dict.fromkeys(step.unit for step in machines.steps):
        steps = [step for step in machines.steps if step.unit == unit]
        most = max(steps[0].before, *(step.after for step in steps))
        first = "all nodes as one" if unit == "VMs" else "raw"
        lines += ["", f"  {paint.strong(unit)}", *_waterfall(steps, most, paint, first)]
    return lines


Column = tuple[str, Callable[[Moment], str], Callable[[Growth], str]]


def _growth(plan: Plan, paint: Paint) -> list[str]:
    """A table with one row for each size."""
    columns = _columns(plan)
    rows = [
        [name for name, _, _ in columns],
        [now(plan.now) for _, now, _ in columns],
        *([then(step) for _, _, then in columns] for step in plan.growth),
    ]
    wide = [max(len(row[at]) for row in rows) for at in range(len(columns))]
    lines = ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, wide, strict=True)) for row in rows]
    return [paint.strong("growth"), paint.dim(lines[0]), *lines[1:], *_first_step(plan), *_pg_lines(plan, paint)]


def _columns(plan: Plan) -> list[Column]:
    """The columns that have something to say: name, the cell of today, the cell of a step."""
    columns: list[Column] = [
        ("nodes", lambda now: f"{now.nodes:,d}", lambda step: f"{step.moment.nodes:,d}"),
        ("raw", lambda now: size(now.usable.raw_bytes), lambda step: size(step.moment.usable.raw_bytes)),
        ("usable", lambda now: size(now.usable.usable_bytes), lambda step: size(step.moment.usable.usable_bytes)),
        ("more", lambda _: "", lambda step: _signed(step.marginal.bytes)),
    ]
    if plan.now.machines.vms is not None:
        columns.append(("VMs", _vms_of, lambda step: _vms_of(step.moment)))
        columns.append(("more", lambda _: "", lambda step: f"{step.marginal.vms or 0:+,d}"))
    columns += [
        ("PGs an OSD", _pgs_of, lambda step: _pgs_of(step.moment)),
        ("moves", lambda _: "", lambda step: size(step.bytes_moved)),
        ("at least", lambda _: "", lambda step: size(step.bytes_ideal)),
        ("shards", lambda _: "", lambda step: f"{step.shards_moved:,d}/{step.shards_ideal:,d}"),
        ("takes", lambda _: "", lambda step: took(step.recovery_ms)),
    ]
    if any(step.marginal.price is not None for step in plan.growth):
        columns.append((plan.currency, lambda _: "", lambda step: _money(step.marginal.price)))
        columns.append((f"{plan.currency} a TB", lambda _: "", lambda step: _money(step.marginal.price_per_tb)))
    if plan.now.full_in_days is not None:
        columns.append(("full in", _full_of, lambda step: _full_of(step.moment)))
    return columns


def _signed(amount: int) -> str:
    return f"{'+' if amount >= 0 else ''}{size(amount)}"


def _vms_of(moment: Moment) -> str:
    return f"{moment.machines.vms or 0:,d}"


def _pgs_of(moment: Moment) -> str:
    counts = list(moment.osd_pgs.values())
    return f"{min(counts, default=0)}..{max(counts, default=0)}"


def _money(amount: float | None) -> str:
    return "" if amount is None else f"{amount:,.0f}"


def _full_of(moment: Moment) -> str:
    return "" if moment.full_in_days is None else days(moment.full_in_days)


def _first_step(plan: Plan) -> list[str]:
    """What the next nodes bring in percent, and how sure the time is."""
    first, before = plan.growth[0], plan.now.usable
    if not before.raw_bytes or not before.usable_bytes:
        return []
    names = ", ".join(first.joined[:3]) + (" ..." if len(first.joined) > 3 else "")
    raw, more = first.marginal.raw_bytes / before.raw_bytes, first.marginal.bytes / before.usable_bytes
    low, high = took(first.recovery_low_ms), took(first.recovery_high_ms)
    return [f"  {names}: {100 * raw:+.1f} % raw, {100 * more:+.1f} % usable; recovery {low} to {high}"]


def _pg_lines(plan: Plan, paint: Paint) -> list[str]:
    """The PGs of each OSD now and after the first step, if these are few enough to read."""
    after, now = plan.growth[0].moment.osd_pgs, plan.now.osd_pgs
    osds = sorted(after)
    if len(osds) > OSDS_SHOWN:
        return []
    rows = (
        ("PGs of osd", [str(osd) for osd in osds]),
        ("now", [str(now[osd]) if osd in now else "-" for osd in osds]),
        (f"{plan.growth[0].moment.nodes} nodes", [str(after[osd]) for osd in osds]),
    )
    lines = [f"  {name:<10}{''.join(cell.rjust(4) for cell in cells)}" for name, cells in rows]
    return [paint.dim(lines[0]), *lines[1:]]


def _loss(loss: LossReport, paint: Paint) -> list[str]:
    osds = ", ".join(map(str, loss.osds[:8])) + (f" and {len(loss.osds) - 8} more" if len(loss.osds) > 8 else "")
    stop = f"{loss.pgs_under_min_size} of {loss.pgs} PGs stop (under min_size)"
    users = paint.bad(stop) if loss.pgs_under_min_size else paint.good(f"no PG of {loss.pgs} stops")
    lines = [
        f"{paint.strong(f'loss of {loss.kind} {loss.name}')}  {paint.dim(f'the worst; osd {osds}')}",
        f"  users   {users}; {loss.pgs_at_min_size} at min_size, where the next loss stops them",
    ]
    if loss.pgs_lost:
        lines.append(f"  data    {paint.bad(f'{loss.pgs_lost} PGs have too little left to be read')}")
    verdict = paint.good("fits") if loss.fits else paint.bad("does not fit")
    heal = f"{size(loss.bytes_to_recover)} to make again, {took(loss.recovery_ms)}; {verdict}"
    full = f"osd.{loss.fullest_osd} ends at {100 * loss.fullest_ratio:.1f} % of {100 * loss.limit_ratio:.0f} %"
    full = full if loss.fullest_osd is not None else "no OSD is left"
    lines.append(f"  healing {heal}: {full}")
    return lines + [paint.dim(line) for note in loss.notes for line in _wrapped(f"  {note}", "  ")]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent) or [text]
