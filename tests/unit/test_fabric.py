"""Reachability over links, switches and one-way cuts, on three networks; heartbeats follow it."""

from core.events import AnyEvent, PeerHeard, PeerSilent
from core.ids import NodeId
from twin.calibration import load
from twin.kernel import Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric
from twin.world.peers import Peers

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")


def two_switches() -> Fabric:
    fabric = Fabric()
    fabric.add_switch("s1")
    fabric.add_switch("s2")
    fabric.connect("s1", "s2")
    fabric.add_node(N1, ["s1"])
    fabric.add_node(N2, ["s2"])
    fabric.add_node(N3, ["s1", "s2"])
    return fabric


def test_a_link_that_is_down_twice_needs_to_come_up_twice() -> None:
    fabric = two_switches()
    assert fabric.both_ways(N1, N2)
    fabric.link_down(N1)
    fabric.link_down(N1)
    fabric.link_up(N1)
    assert not fabric.reachable(N1, N2)
    assert fabric.reachable(N1, N1)
    assert fabric.storage_reachable(N1)
    fabric.link_up(N1)
    assert fabric.both_ways(N1, N2)


def test_a_lost_switch_takes_only_nodes_without_another() -> None:
    fabric = two_switches()
    fabric.switch_down("s1")
    assert not fabric.reachable(N1, N3)
    assert fabric.reachable(N2, N3)
    assert not fabric.storage_reachable(N1)
    assert fabric.storage_reachable(N3)
    assert not fabric.bmc_reachable(N2, N1)
    assert fabric.bmc_reachable(N2, N3)
    fabric.switch_up("s1")
    assert fabric.both_ways(N1, N2)


def test_a_cut_is_one_way_and_mended_as_often_as_made() -> None:
    fabric = two_switches()
    fabric.cut([N1], [N2, N3])
    fabric.cut([N1], [N2, N3])
    assert not fabric.reachable(N1, N2)
    assert fabric.reachable(N2, N1)
    assert fabric.reachable(N2, N3)
    fabric.mend([N1], [N3, N2])
    assert not fabric.reachable(N1, N2)
    fabric.mend([N1], [N2, N3])
    fabric.mend([N1], [N2, N3])
    assert fabric.both_ways(N1, N2)


def test_the_storage_network_is_cut_without_the_data_network() -> None:
    fabric = two_switches()
    fabric.storage_cut(N2)
    assert not fabric.storage_reachable(N2)
    assert not fabric.storage_path(N1, N2)
    assert fabric.both_ways(N1, N2)
    fabric.storage_mend(N2)
    assert fabric.storage_reachable(N2)


def test_delay_adds_up_and_listeners_hear_of_every_change() -> None:
    fabric, seen = two_switches(), []
    fabric.on_change(lambda: seen.append(fabric.version))
    fabric.set_delay(N1, 30)
    assert fabric.latency_ms(N1, N2) == 30
    assert fabric.latency_ms(N2, N3) == 0
    assert fabric.latency_ms(N1, N1) == 0
    fabric.set_delay(N1, 0)
    fabric.link_down(N1)
    fabric.link_up(N1)
    assert fabric.latency_ms(N1, N2) == 0
    assert seen == [1, 2, 3, 4]


class Listening:
    """n1 listens to n2 and n3; what is in ``dead`` sends nothing."""

    def __init__(self) -> None:
        self.kernel, self.fabric = Kernel(), two_switches()
        self.dead: list[NodeId] = []
        self.heard: list[tuple[int, str, NodeId]] = []
        self.peers = Peers(self.kernel, Streams(1), load(), self.fabric, lambda n: n not in self.dead, 600)

    def emit(self, event: AnyEvent) -> None:
        assert isinstance(event, PeerHeard | PeerSilent)
        self.heard.append((event.at_ms, type(event).__name__, event.node))


def test_living_peers_are_heard_at_once_and_dead_ones_fall_silent_in_time() -> None:
    rack = Listening()
    rack.dead = [N3]
    rack.peers.listen(N1, (N2, N3), rack.emit)
    rack.kernel.run(10_000)
    (first, *second), events = rack.heard, rack.kernel.events
    assert first[1:] == ("PeerHeard", N2)
    assert first[0] <= 100
    assert [entry[1:] for entry in second] == [("PeerSilent", N3)]
    assert 600 <= second[0][0] <= 630
    assert events == 2, "beats are implicit"


def test_a_peer_that_dies_is_silent_after_the_limit_less_the_age_of_its_last_beat() -> None:
    silences = []
    for start in range(40):
        rack = Listening()
        rack.peers.listen(N1, (N2,), rack.emit)
        rack.kernel.run(1_000 + start * 7)
        rack.dead = [N2]
        rack.peers.node_changed(N2)
        rack.kernel.run(5_000)
        assert rack.heard[-1][1] == "PeerSilent"
        silences.append(rack.heard[-1][0] - 1_000 - start * 7)
    assert min(silences) >= 500
    assert max(silences) <= 630


def test_a_short_flap_is_not_noticed_and_a_healed_link_is() -> None:
    rack = Listening()
    rack.peers.listen(N1, (N2,), rack.emit)
    rack.kernel.run(1_000)
    rack.fabric.link_down(N2)
    rack.kernel.run(1_400)
    rack.fabric.link_up(N2)
    rack.kernel.run(3_000)
    assert len(rack.heard) == 1
    rack.fabric.cut([N2], [N1])
    rack.kernel.run(4_000)
    rack.fabric.mend([N2], [N1])
    rack.kernel.run(5_000)
    assert [kind for _, kind, _ in rack.heard] == ["PeerHeard", "PeerSilent", "PeerHeard"]


def test_who_is_no_longer_listened_to_is_not_reported() -> None:
    rack = Listening()
    rack.peers.listen(N1, (N2,), rack.emit)
    rack.kernel.run(1_000)
    rack.dead = [N2]
    rack.peers.node_changed(N2)
    rack.peers.listen(N1, (N3,), rack.emit)
    rack.kernel.run(3_000)
    rack.peers.forget(N1)
    rack.fabric.link_down(N3)
    rack.kernel.run(6_000)
    assert [(kind, node) for _, kind, node in rack.heard] == [("PeerHeard", N2), ("PeerHeard", N3)]
