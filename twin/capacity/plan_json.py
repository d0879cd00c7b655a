"""A plan as one JSON object: the keys that the command's readers count on, and what else is known beside them."""

from twin.capacity.losing import LossReport
from twin.capacity.machines import Machines
from twin.capacity.max_avail import rule_avail_bytes
from twin.capacity.plan_records import Growth, Moment, Plan, kind_of
from twin.capacity.steps import Step

Json = dict[str, object]


def plan_to_json(plan: Plan) -> Json:
    """Make the object that `twin plan --json` prints. All bytes are whole numbers, all times milliseconds."""
    figures = plan.assumptions
    return {
        "name": plan.name,
        "source": plan.source,
        "kind": kind_of(plan.now.cluster),
        "files": plan.now.cluster.files,
        "survive": plan.survive,
        "currency": plan.currency,
        "now": _moment(plan.now),
        "steps": [_growth(step) for step in plan.growth],
        "loss": _loss(plan.loss) if plan.loss is not None else None,
        "assumptions": {
            key: {
                "value": figure.value,
                "unit": figure.unit,
                "source": figures.changed.get(key, figure.source),
                "changed": key in figures.changed,
            }
            for key, figure in figures.figures.items()
        },
        "warnings": list(plan.warnings),
    }


def _moment(moment: Moment) -> Json:
    room, cluster = moment.usable, moment.cluster
    return {
        "nodes": moment.nodes,
        "osd_pgs": {str(osd): count for osd, count in sorted(moment.osd_pgs.items())},
        "osd_used_bytes": {str(osd.id): osd.used_bytes for osd in cluster.osds},
        "osd_hosts": {str(osd.id): osd.host for osd in cluster.osds},
        "raw_bytes": room.raw_bytes,
        "usable_bytes": room.usable_bytes,
        "free_bytes": room.free_bytes,
        "stored_bytes": room.stored_bytes,
        "usable_vms": moment.machines.vms,
        "usable_vms_reason": moment.machines.reason or None,
        "vms_by_flavour": moment.machines.by_flavour,
        "fullest_osd": room.fullest,
        "worst_loss": room.worst,
        "heals": room.heals,
        "losses_tried": room.losses,
        "losses": room.losses_all,
        "max_avail_bytes": sum(moment.max_avail.values()) if len(moment.max_avail) == 1 else None,
        "pools": [
            {
                "id": pool.id,
                "name": pool.name,
                "size": pool.size,
                "data_shards": pool.data_shards,
                "pg_num": pool.pg_num,
                "max_avail_bytes": moment.max_avail[pool.name],
                "avail_raw_bytes": rule_avail_bytes(cluster, pool.rule),
                "ceph_max_avail_bytes": next(
                    (use.max_avail_bytes for use in cluster.uses if use.pool == pool.id), None
                ),
                "stored_bytes": next((use.stored_bytes for use in cluster.uses if use.pool == pool.id), 0),
            }
            for pool in cluster.osdmap.pools
        ],
        "full_in_days": moment.full_in_days,
        "waterfall": [_waterstep(step) for step in (*room.steps, *_vm_steps(moment.machines))],
    }


def _vm_steps(machines: Machines) -> tuple[Step, ...]:
    return machines.steps


def _waterstep(step: Step) -> Json:
    return {
        "name": step.name,
        "unit": step.unit,
        "before": _whole(step.before),
        "taken": _whole(step.taken),
        "after": _whole(step.after),
        "why": step.why,
        "source": step.source,
        "change": list(step.change),
    }


def _whole(amount: float) -> int | float:
    return int(amount) if float(amount).is_integer() else amount


def _growth(step: Growth) -> Json:
    marginal = step.marginal
    return _moment(step.moment) | {
        "from_nodes": step.from_nodes,
        "joined": list(step.joined),
        "shards_moved": step.shards_moved,
        "shards_ideal": step.shards_ideal,
        "bytes_moved": step.bytes_moved,
        "bytes_ideal": step.bytes_ideal,
        "pgs_at_min_size": step.pgs_at_min_size,
        "pgs_under_min_size": step.pgs_under_min_size,
        "recovery_ms": step.recovery_ms,
        "recovery_low_ms": step.recovery_low_ms,
        "recovery_high_ms": step.recovery_high_ms,
        "marginal": {
            "nodes": marginal.nodes,
            "bytes": marginal.bytes,
            "raw_bytes": marginal.raw_bytes,
            "vms": marginal.vms,
            "price": marginal.price,
            "watts": marginal.watts,
            "price_per_tb": marginal.price_per_tb,
            "price_per_vm": marginal.price_per_vm,
        },
    }


def _loss(loss: LossReport) -> Json:
    return {
        "kind": loss.kind,
        "name": loss.name,
        "nodes": list(loss.nodes),
        "osds": list(loss.osds),
        "pgs": loss.pgs,
        "pgs_at_min_size": loss.pgs_at_min_size,
        "pgs_under_min_size": loss.pgs_under_min_size,
        "pgs_lost": loss.pgs_lost,
        "pgs_short": loss.pgs_short,
        "shards_moved": loss.shards_moved,
        "bytes_to_recover": loss.bytes_to_recover,
        "recovery_ms": loss.recovery_ms,
        "fits": loss.fits,
        "fullest_osd": loss.fullest_osd,
        "fullest_ratio": loss.fullest_ratio,
        "limit_ratio": loss.limit_ratio,
        "notes": list(loss.notes),
    }
