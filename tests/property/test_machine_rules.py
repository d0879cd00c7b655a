"""Several real machines under arbitrary interleavings, delays, losses and crashes keep every rule of design 2.1.

Each rule is asserted by name (``rule N: ...``) in ``twin/check/rules.py``, at every effect, every commit and
every state.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.property.dumb_world import FAULTS, DumbWorld

FAULTS_MAX = 6
"""Faults in one walk; a walk of nothing but faults shows little."""
picks = st.integers(min_value=0, max_value=50)
nodes = st.integers(min_value=0, max_value=2)


class ThreeMachines(RuleBasedStateMachine):
    """A walk through the small world; every step judges the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.world = DumbWorld.booted()
        self.faults = 0

    @initialize(ticks=st.sampled_from([0, 3, 40]))
    def start(self, ticks: int) -> None:
        self.world.go_on(ticks)

    @rule(order=st.lists(picks, min_size=1, max_size=25))
    def things_happen_in_any_order(self, order: list[int]) -> None:
        for pick in order:
            self.world.happen(pick)

    @rule(ticks=st.integers(min_value=1, max_value=30))
    def time_passes(self, ticks: int) -> None:
        self.world.go_on(ticks)

    @rule(ticks=st.integers(min_value=1, max_value=8))
    def answers_are_late(self, ticks: int) -> None:
        for _ in range(ticks):
            self.world.be_late()

    @precondition(lambda self: self.faults < FAULTS_MAX)
    @rule(kind=st.sampled_from(FAULTS), index=nodes)
    def a_fault_strikes(self, kind: str, index: int) -> None:
        self.faults += self.world.strike(kind, index)

    @precondition(lambda self: self.faults < FAULTS_MAX)
    @rule(kind=st.sampled_from(FAULTS), service=st.sampled_from(["db", "cron"]), before=picks)
    def a_fault_strikes_the_holder(self, kind: str, service: str, before: int) -> None:
        for index, node in enumerate(self.world.nodes):
            if self.world.serves(node, service):
                self.world.happen(before)
                self.faults += self.world.strike(kind, index)
                return

    @precondition(lambda self: self.faults < FAULTS_MAX and not self.world.storage.stalled)
    @rule()
    def the_storage_stalls(self) -> None:
        self.faults += 1
        self.world.own_storage().stalled = True

    @rule(pick=picks)
    def a_fault_ends(self, pick: int) -> None:
        self.world.end(pick)

    def teardown(self) -> None:
        """When every fault is over, every singleton is served again."""
        self.world.heal()
        for _ in range(60):
            if self.world.is_served("db") and self.world.is_served("cron"):
                return
            self.world.go_on(10)
        lacking = [name for name in ("db", "cron") if not self.world.is_served(name)]
        views = [self.world.brains.machine(node.brain).view() for node in self.world.nodes]
        raise AssertionError(f"liveness: {lacking} not served 60 s after every fault ended: {views}")


ThreeMachines.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestThreeMachines = ThreeMachines.TestCase
