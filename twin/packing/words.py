"""The answer in words, for an operator at a terminal."""

import numpy as np

from formats.paint import Paint
from twin.packing.answer import Packing
from twin.packing.drbd import DrbdCapacity, DrbdInstance, DrbdNode, evenly
from twin.packing.records import UNLIMITED, Hosts
from twin.table import Table

GIB = 1 << 30


def to_text(answer: Packing, tables: list[Table], paint: Paint) -> str:
    """Lay the answer out: the hosts, what fits and why not more, policies and flavours, then further tables."""
    fit, mix = answer.fit, answer.file.mix
    wanted = "any loss" if answer.survive == "none" else loss_words(answer)
    lines = [
        f"{answer.source} with {mix.name}: {hosts_words(answer.hosts)}, {answer.file.cores_ratio:g} vCPU for a core",
        f"left for machines: {room_words(answer.hosts)}",
        "",
    ]
    if fit.why:
        return "\n".join([*lines, f"nothing fits: {fit.why}", ""])
    kept = f"so that {wanted} is survived" if answer.survive != "none" else "nothing has to be survived"
    lines += [
        f"  {fit.volume_vms:>9,d}  VMs in all hosts as if they were one; {fit.binding} runs out first",
        f"  {-fit.lost_to_headroom_vms:>9,d}  kept free {kept}",
        f"  {-fit.lost_to_fragmentation_vms:>9,d}  room in pieces too small",
        f"  {fit.vms:>9,d}  VMs fit{_proof(answer)}",
    ]
    if fit.bound_vms is not None:
        gap = 100 * (1 - fit.vms / fit.bound_vms) if fit.bound_vms else 0.0
        lines.append(f"  {fit.bound_vms:>9,d}  no plan can have more (configuration LP); {gap:.1f} % above this one")
    if fit.worst:
        lines.append(f"one more could not start again after the loss of {', '.join(fit.worst)}")
    if not fit.complete:
        lines.append(paint.bad(f"only the {fit.checked:,d} heaviest combinations of losses were re-packed"))
    tables = [answer.by_policy(), answer.by_flavour(), *tables]
    return "\n".join([*lines, *(f"\n{table.to_text()}" for table in tables), ""])


def _proof(answer: Packing) -> str:
    fit = answer.fit
    if answer.survive == "none":
        return f" ({policy_words(fit.policy)})"
    how = "counted: one flavour" if fit.policy == "counted" else f"re-packed after each of {fit.checked:,d} losses"
    return f" and survive ({how}; {policy_words(fit.policy)})"


def policy_words(policy: str) -> str:
    """Say what a policy does."""
    words = {
        "reserved": "whole hosts are kept empty, the others filled first fit",
        "planned": "whole hosts are kept empty, the others filled by the plan on patterns",
        "spread": "each on the emptiest host, as Nova does by default",
        "pack": "each on the fullest host that has room",
        "best_fit": "each where least is left",
        "dot": "each where what it needs is most plentiful",
        "first_fit": "each on the first host that has room",
        "counted": "any policy reaches it",
    }
    return words.get(policy, policy)


def loss_words(answer: Packing) -> str:
    """Name the loss that is to be survived."""
    kind = {"none": "loss", "node": "node", "rack": "rack", "pdu": "PDU"}[answer.survive]
    return f"the loss of any {kind}" if answer.spare == 1 else f"the loss of any {answer.spare} {kind}s at once"


def hosts_words(hosts: Hosts) -> str:
    """Count hosts and racks, and say if they are not alike."""
    kinds = len(np.unique(hosts.room, axis=0))
    alike = "" if kinds == 1 else f" of {kinds} types"
    racks = len(np.unique(hosts.racks))
    return f"{len(hosts):,d} host{'s' * (len(hosts) != 1)}{alike} in {racks:,d} rack{'s' * (racks != 1)}"


def room_words(hosts: Hosts) -> str:
    """Say what hosts offer, each and together."""
    total = np.minimum(hosts.room, UNLIMITED // len(hosts)).sum(axis=0).tolist()
    low, high = hosts.room.min(axis=0).tolist(), hosts.room.max(axis=0).tolist()
    cores = f"{low[0]:,d}" if low[0] == high[0] else f"{low[0]:,d} to {high[0]:,d}"
    memory = f"{low[1] / GIB:,.0f}" if low[1] == high[1] else f"{low[1] / GIB:,.0f} to {high[1] / GIB:,.0f}"
    return f"{cores} vCPU and {memory} GiB on a host, {total[0]:,d} vCPU and {total[1] / GIB:,.0f} GiB in all"


def drbd_text(nodes: int, node: DrbdNode, instance: DrbdInstance, found: DrbdCapacity) -> str:
    """Say how many mirrored instances fit, and how far that is from what counting admits."""
    low, high = int(found.primaries.min()), int(found.primaries.max())
    each = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"{nodes} nodes of {node.memory_mib:,d} MiB, instances of {instance.memory_mib:,d} MiB on two nodes each\n"
        f"  {found.instances:>9,d}  instances, every one restarts on its secondary after the loss of any node "
        f"({each} primaries a node)\n"
        f"  {evenly(nodes, node, instance):>9,d}  if primaries and secondaries were spread exactly evenly\n"
        f"  {found.ideal:>9,d}  at most, by counting memory: all nodes but one\n"
        "allocated as Ganeti's hspace does; a node must have more memory free than it reserves, not just as much\n"
    )
