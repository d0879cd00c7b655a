"""The pictures of the reports, for notebooks: each takes a result and hands back an SVG that a notebook shows."""

from twin.capacity.plan_records import Plan
from twin.durability.assess import Durability
from twin.report import durability as of_durability
from twin.report import plan_pictures as of_plan
from twin.report import scale as of_scale
from twin.report import years as of_years
from twin.report.shown import Picture
from twin.scaling.scale import Scaling
from twin.years.site_years import SiteYears


def waterfall(plan: Plan) -> Picture:
    """Draw how raw bytes become usable ones, and what of them is still free."""
    return Picture(of_plan.draw_waterfall(plan.now.usable.steps, "still free"))


def machines(plan: Plan) -> Picture:
    """Draw how the VMs that would fit become those that still run after a loss."""
    return Picture(of_plan.draw_waterfall([step for step in plan.now.machines.steps if step.unit == "VMs"], "VMs"))


def osd_pgs(plan: Plan) -> Picture:
    """Draw the placement groups of each OSD now and after the first step of growth."""
    then = plan.growth[0].moment
    return Picture(of_plan.draw_osd_pgs(plan.now.osd_pgs, then.osd_pgs, f"{then.nodes} nodes"))


def growth(plan: Plan) -> Picture:
    """Draw what moves on the way to each size, and how long it takes."""
    return Picture(of_plan.draw_growth(plan.growth))


def marginal(plan: Plan) -> Picture:
    """Draw what each further node brings."""
    return Picture(of_plan.draw_marginal(plan))


def delivered(scaling: Scaling) -> Picture:
    """Draw what the rack delivers at each size, with the fitted law."""
    return Picture(of_scale.draw_delivered(scaling))


def join_and_failover(scaling: Scaling) -> Picture:
    """Draw the time to join one more node and the failover time at each size."""
    return Picture(of_scale.draw_times(scaling))


def control_plane_costs(scaling: Scaling) -> Picture:
    """Draw what the control plane costs each node at each size."""
    return Picture(of_scale.draw_costs(scaling))


def annual_loss(found: Durability, pool: int = 0) -> Picture:
    """Draw the probability of data loss with and without bursts."""
    return Picture(of_durability.loss_picture(found.pools[pool]))


def loss_at_once(found: Durability, pool: int = 0) -> Picture:
    """Draw the probability that losing so many nodes at once loses data."""
    return Picture(of_durability.at_once_picture(found.pools[pool]))


def a_year(site: SiteYears) -> Picture:
    """Draw the failures of a site over its years."""
    return Picture(of_years.draw_years(site))
