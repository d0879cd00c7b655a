"""The page of a packing: what fits and why not more, how full the hosts are by policy, bound against heuristics."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twin.packing.answer import Packing, fills
from twin.packing.place import POLICIES
from twin.packing.words import hosts_words, loss_words, policy_words, room_words
from twin.report import colours
from twin.report.frame import style, to_svg
from twin.report.sheet import cards, figure, section, sheet, table, write_sheet
from twin.table import Table


def write_page(folder: Path, answer: Packing, tables: Sequence[Table]) -> Path:
    """Write ``index.html`` into a folder and hand back its path. Raises: InputError if it cannot be written."""
    return write_sheet(folder, "index.html", page(answer, tables))


def page(answer: Packing, tables: Sequence[Table]) -> str:
    """Build the page; the same answer gives the same bytes."""
    fit = answer.fit
    title = f"How much of {answer.file.mix.name} fits"
    head = (
        f"<header><div><h1>{escape(title)}</h1><p class='why'>{escape(answer.source)}: "
        f"{escape(hosts_words(answer.hosts))}; {escape(room_words(answer.hosts))}.</p></div></header>"
    )
    if fit.why:
        return sheet(title, head + section("Nothing fits", f"<p>{escape(fit.why)}</p>"))
    kept = "nothing has to be survived" if answer.survive == "none" else f"so that {loss_words(answer)} is survived"
    facts = [
        ("VMs that fit", f"{fit.vms:,d}"),
        ("no plan can have more than", f"{fit.bound_vms:,d}" if fit.bound_vms is not None else "not computed"),
        ("runs out first", fit.binding),
        ("losses re-packed", f"{fit.checked:,d}" if fit.policy != "counted" else "counted"),
    ]
    parts = [
        section("What fits", cards(facts), figure(waterfall_picture(answer), f"Kept free {kept}.")),
        section("Policies", figure(policies_picture(answer), _policies_caption(answer)), table(answer.by_policy())),
        section("How full the hosts are", figure(fill_picture(answer), _fill_caption(answer))),
        section("Flavours", table(answer.by_flavour())),
    ]
    for more in tables:
        picture = figure(fewest_picture(more), "The bound is what no plan beats.") if "over bound" in more else ""
        parts.append(section(more.title, picture, table(more)))
    return sheet(title, head + "".join(parts))


def _policies_caption(answer: Packing) -> str:
    return f"Best: {answer.fit.policy}, {policy_words(answer.fit.policy)}. Each is re-packed after every loss."


def _fill_caption(answer: Packing) -> str:
    return (
        f"Each host by what is fullest on it, with the {answer.fit.vms:,d} VMs placed; a policy that leaves hosts "
        "empty keeps room in large pieces, one that spreads keeps the same room in small ones."
    )


def waterfall_picture(answer: Packing) -> str:
    """Draw the steps from all hosts as one down to what fits, in VMs."""
    steps = answer.waterfall().rows
    style("packing-waterfall")
    shape = Figure(figsize=(11.0, 2.2), layout="constrained")
    axes = shape.subplots()
    top = max(int(str(steps[0]["left"])), 1)
    for row, step in enumerate(reversed(steps)):
        left, taken = int(str(step["left"])), int(str(step["taken"]))
        axes.barh(row, left, color=colours.service(0), height=0.6)
        axes.barh(row, taken, left=left, color=colours.service(3), height=0.6, alpha=0.75)
        words = f" {left:,d}" + (f"  (-{taken:,d})" if taken else "")
        axes.text(left + taken + top * 0.005, row, words, va="center", fontsize=8)
    axes.set_yticks(range(len(steps)), [str(step["step"]) for step in reversed(steps)])
    axes.set_xlim(0, top * 1.15)
    axes.set_xlabel("VMs")
    _bare(axes)
    return to_svg(shape)


def policies_picture(answer: Packing) -> str:
    """Draw how many VMs each policy reaches, with the bounds as lines."""
    fit, names = answer.fit, list(answer.policies)
    style("packing-policies")
    shape = Figure(figsize=(11.0, 0.9 + 0.32 * len(names)), layout="constrained")
    axes = shape.subplots()
    values = [answer.policies[name] for name in reversed(names)]
    tints = [colours.service(0) if name == fit.policy else colours.service(1) for name in reversed(names)]
    axes.barh(range(len(names)), values, color=tints, height=0.6)
    for row, value in enumerate(values):
        axes.text(value, row, f" {value:,d} ", va="center", ha="right", fontsize=8, color="white")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in reversed(names)])
    if fit.bound_vms is not None:
        axes.axvline(fit.bound_vms, color=colours.service(3), linewidth=1.6, label=f"LP bound: {fit.bound_vms:,d}")
    upper = fit.volume_survivors_vms
    axes.axvline(upper, color="0.4", linestyle="--", linewidth=1.0, label=f"survivors as one host: {upper:,d}")
    axes.set_xlim(0, max([*values, upper, 1]) * 1.02)
    axes.set_xlabel("VMs that fit and survive")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _bare(axes)
    return to_svg(shape)


def fill_picture(answer: Packing) -> str:
    """Draw the fill of the hosts, from full to empty, one curve for each policy."""
    style("packing-fill")
    shape = Figure(figsize=(11.0, 3.2), layout="constrained")
    axes = shape.subplots()
    for index, policy in enumerate(POLICIES):
        fill = fills(answer.hosts, answer.file, answer.fit.vms, policy)["fill"].tolist()
        dash = ("-", "--", ":", "-.", (0, (5, 1)))[index]
        axes.plot(
            range(1, len(fill) + 1),
            fill,
            label=policy.replace("_", " "),
            color=colours.service(index),
            linestyle=dash,
            linewidth=4.6 - 0.8 * index,
            drawstyle="steps-mid",
        )
    axes.set_ylim(0, 104)
    axes.set_xlim(1, max(2, len(answer.hosts)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.set_xlabel("hosts, from the fullest to the emptiest")
    axes.set_ylabel("fill, %")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    _bare(axes)
    return to_svg(shape)


def fewest_picture(rows: Table) -> str:
    """Draw how many hosts each way of packing takes for the same machines."""
    names, hosts = [str(name) for name in rows["by"].tolist()], rows["hosts"].tolist()
    style("packing-fewest")
    shape = Figure(figsize=(11.0, 0.8 + 0.3 * len(names)), layout="constrained")
    axes = shape.subplots()
    tints = [colours.service(3) if "bound" in name or name == "volume" else colours.service(0) for name in names[::-1]]
    axes.barh(range(len(names)), hosts[::-1], color=tints, height=0.6)
    for row, value in enumerate(hosts[::-1]):
        axes.text(value, row, f" {value:,d} ", va="center", ha="right", fontsize=8, color="white")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names[::-1]])
    axes.set_xlabel("hosts")
    _bare(axes)
    return to_svg(shape)


def _bare(axes: Axes) -> None:
    """Leave only the axis at the bottom and the one at the left."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
