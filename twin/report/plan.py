"""The page of `twin plan --report`: where the raw bytes go, what growth brings and costs, what a loss does."""

from html import escape
from pathlib import Path

from core.errors import InputError
from twin.capacity.joining import Joining, joining
from twin.capacity.losing import LossReport
from twin.capacity.plan_records import Growth, Plan
from twin.capacity.plan_text import size
from twin.capacity.steps import Step
from twin.report.plan_pictures import draw_growth, draw_marginal, draw_osd_pgs, draw_waterfall
from twin.report.recovery_picture import draw_recovery
from twin.report.sheet import cards, figure, section, sheet, table, write_sheet
from twin.table import Table
from twin.timeline import took

OSDS_LISTED = 200
MOVES_LISTED = 200


def write_plan_report(folder: Path, plan: Plan) -> Path:
    """Write the page of a plan into ``folder`` (made if missing) as index.html, and hand back its path.

    Raises: InputError if it cannot be written.
    """
    return write_sheet(folder, "index.html", plan_page(plan, _joining(plan)))


def plan_page(plan: Plan, join: Joining | None = None) -> str:
    """Build the page. ``join``: what a server takes from dark to member, measured in the twin, if it was."""
    parts = [_head(plan, join), _bytes(plan), _machines(plan), _osds(plan)]
    if plan.growth:
        parts += [_growth(plan, join), *([_first_step(plan.growth[0])] if plan.growth[0].shards_moved else [])]
    if plan.loss is not None:
        parts.append(_loss(plan.loss))
    parts += [_warnings(plan), _assumptions(plan)]
    return sheet(f"Plan: {plan.name}", "".join(parts))


def _joining(plan: Plan) -> Joining | None:
    if not plan.growth:
        return None
    try:
        return joining(plan.now.nodes)
    except InputError:  # the twin's own catalog is not here, as outside of the project's folder
        return None


def _head(plan: Plan, join: Joining | None) -> str:
    now = plan.now
    facts = [
        ("nodes", f"{now.nodes:,d}"),
        ("OSDs", f"{len(now.cluster.osds):,d}"),
        ("raw", size(now.usable.raw_bytes)),
        ("usable", size(now.usable.usable_bytes)),
        ("free of it", size(now.usable.free_bytes)),
    ]
    if now.machines.vms is not None:
        facts.append(("VMs", f"{now.machines.vms:,d}"))
    if plan.growth:
        first = plan.growth[0]
        more = first.marginal.bytes
        facts.append((f"{', '.join(first.joined[:2])} brings", f"{'+' if more >= 0 else ''}{size(more)}"))
        facts.append(("dark to clean" if join else "data moves for", took(first.recovery_ms + _join_ms(join))))
    survived = "no loss" if plan.survive == "none" else f"the loss of any one {plan.survive}"
    return (
        f'<header><div><h1>{escape(plan.name)}</h1><p class="why">Planned from {escape(plan.source)}, to survive '
        f"{survived} with room for every replica.</p></div></header>{cards(facts)}"
    )


def _join_ms(join: Joining | None) -> int:
    return join.median_ms if join is not None else 0


def _bytes(plan: Plan) -> str:
    steps = plan.now.usable.steps
    if not steps:
        return ""
    result = "still free" if steps[-1].name.startswith("stored") else "usable"
    return section("From raw to usable bytes", _picture(draw_waterfall(steps, result)), _steps(steps))


def _machines(plan: Plan) -> str:
    machines = plan.now.machines
    if machines.vms is None:
        return section("Virtual machines", f'<p class="why">Not known: {escape(machines.reason)}.</p>')
    units = dict.fromkeys(step.unit for step in machines.steps)
    parts = []
    for unit in units:
        steps = [step for step in machines.steps if step.unit == unit]
        result = "VMs that fit" if unit == "VMs" else "for VMs"
        parts.append(f"<h3>{escape(unit[:1].upper() + unit[1:])}</h3>{_picture(draw_waterfall(steps, result))}")
    return section("From servers to virtual machines", *parts, _steps(machines.steps))


def _steps(steps: tuple[Step, ...]) -> str:
    """The steps in words, folded up."""
    rows = "".join(
        f'<tr><td>{escape(step.name)}</td><td>{escape(step.why)}</td><td class="faint">{escape(step.source)}</td></tr>'
        for step in steps
    )
    return (
        "<details><summary>Why, and on whose word</summary><table><thead><tr><th>step</th><th>why</th><th>source</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _osds(plan: Plan) -> str:
    last = plan.growth[-1] if plan.growth else None
    then = last.moment.osd_pgs if last is not None else {}
    words = f"with {last.moment.nodes} nodes" if last is not None else ""
    caption = "Placement groups on each OSD, exactly as CRUSH places them; the fullest OSD limits the cluster."
    listed = plan.osds
    shown = _folded("All OSDs", table(listed)) if len(listed["osd"]) <= OSDS_LISTED else ""
    return section("Placement groups", figure(draw_osd_pgs(plan.now.osd_pgs, then, words), caption), shown)


def _growth(plan: Plan, join: Joining | None) -> str:
    caption = (
        f"A server takes {took(join.median_ms)} ({took(join.low_ms)} to {took(join.high_ms)} in {join.seeds} runs of "
        f"the twin) from dark to member of a rack of {join.nodes}; its disks then fill."
        if join is not None
        else "Without the time in which a server joins."
    )
    return section(
        "What growth brings, and what it moves",
        figure(draw_marginal(plan), "The worth of a further node at each size, and what a usable terabyte of it costs.")
        if any(step.marginal.price_per_tb is not None for step in plan.growth)
        else figure(draw_marginal(plan), "The worth of a further node at each size."),
        figure(draw_growth(plan.growth, join), caption),
        _growth_table(plan),
    )


def _growth_table(plan: Plan) -> str:
    rows = "".join(
        _row(
            f"{step.moment.nodes:,d}",
            size(step.moment.usable.usable_bytes),
            size(step.marginal.bytes),
            f"{step.shards_moved:,d} / {step.shards_ideal:,d}",
            f"{size(step.bytes_moved)} / {size(step.bytes_ideal)}",
            f"{step.pgs_at_min_size:,d}",
            f"{took(step.recovery_low_ms)} – {took(step.recovery_high_ms)}",
            f"{100 * step.recovery.client_share_worst:.0f} %",
        )
        for step in plan.growth
    )
    return (
        '<table><thead><tr><th class="n">nodes</th><th class="n">usable</th><th class="n">more</th>'
        '<th class="n">shards moved / least</th><th class="n">bytes moved / least</th>'
        '<th class="n">PGs at min_size</th><th class="n">recovery</th><th class="n">left to clients, at worst</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _row(*cells: str) -> str:
    filled = "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
    return f"<tr>{filled}</tr>"


def _first_step(step: Growth) -> str:
    movement = step.movement
    said = (
        f"{movement.shards_moved:,d} shards of {movement.pgs_changed:,d} PGs move, {size(step.bytes_moved)}: "
        f"{movement.shards_degraded:,d} leave their group short of a copy meanwhile (it recovers by its log), "
        f"{movement.shards_misplaced:,d} are backfilled while the old copies serve."
    )
    listed = movement.table()
    moves = _folded("Every shard that moves", table(listed)) if len(listed["pg"]) <= MOVES_LISTED else ""
    return section(
        f"The first step over time: {step.from_nodes} to {step.moment.nodes} nodes",
        figure(draw_recovery(step.recovery, "growth"), said),
        moves,
    )


def _loss(loss: LossReport) -> str:
    fits = "Everything finds room again" if loss.fits else "Not everything finds room again"
    fullest = (
        f"; the fullest OSD is then {100 * loss.fullest_ratio:.0f} % full, allowed are {100 * loss.limit_ratio:.0f} %"
    )
    facts = [
        ("lost", ", ".join(loss.nodes[:3]) + (" ..." if len(loss.nodes) > 3 else "")),
        ("PGs whose IO stops", f"{loss.pgs_under_min_size:,d} of {loss.pgs:,d}"),
        ("PGs at min_size", f"{loss.pgs_at_min_size:,d}"),
        ("PGs lost", f"{loss.pgs_lost:,d}"),
        ("to recover", size(loss.bytes_to_recover)),
        ("recovery", took(loss.recovery_ms)),
    ]
    notes = "".join(f"<p>{escape(note)}.</p>" for note in loss.notes)
    return section(
        f"What if: the worst {loss.kind}, {loss.name}, is lost",
        cards(facts),
        figure(draw_recovery(loss.recovery, "loss"), f"{fits}{fullest}."),
        notes,
    )


def _warnings(plan: Plan) -> str:
    if not plan.warnings:
        return ""
    return section("To beware of", "".join(f"<p>{escape(warning)}.</p>" for warning in plan.warnings))


def _assumptions(plan: Plan) -> str:
    figures = plan.assumptions
    rows = Table(
        {
            "figure": list(figures.figures),
            "value": [str(one.value) for one in figures.figures.values()],
            "unit": [one.unit for one in figures.figures.values()],
            "source": [figures.changed.get(key, one.source) for key, one in figures.figures.items()],
        }
    )
    changed = f"{len(figures.changed)} of {len(figures.figures)} figures were changed." if figures.changed else ""
    said = f'<p class="why">Every figure can be changed with <code>--set key=value</code>. {changed}</p>'
    return section("Assumptions", said, _folded("All figures with their sources", table(rows)))


def _picture(svg: str) -> str:
    return f'<div class="picture">{svg}</div>'


def _folded(summary: str, html: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"
