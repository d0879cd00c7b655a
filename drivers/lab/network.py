"""The lab's network: a namespace of switches, one for each node, one for clients; and what can be wrong with it.

Two bridges live in the lab's own infra namespace, so nothing of the machine's network is touched: ``br-data`` carries
peers, ZooKeeper, clients and the storage, ``br-mgmt`` the BMCs. Faults are rules in the switch: frames are dropped as
they enter it, by the cable they come from, where they go, and whether a port of the storage is at one of their ends.
"""

from collections.abc import Iterable
from typing import Literal

from core.ids import NodeId
from drivers.lab.layout import BOOT_NET6, CLIENT_HOST, DATA_NET, INFRA_HOST, MANAGEMENT_NET, LabFailure, LabNode, Layout
from drivers.lab.shell import NETNS, batch, call, inside

Traffic = Literal["data", "storage", "all"]

STORAGE_PORTS = "{ 3300, 6789, 6800-7300 }"
"""Where monitors and daemons of the storage listen."""

_TABLE = "moxie_lab"
_SCRIPT = f"""
table bridge {_TABLE} {{
  chain cuts {{
    type filter hook prerouting priority -300; policy accept;
  }}
}}
"""


_BLOCK = """
table inet {table} {{
  chain out {{
    type filter hook output priority -300; policy accept;
    tcp dport {port} drop
  }}
}}
"""


def build(layout: Layout) -> None:
    """Make the switches and the clients' namespace; the nodes' cables come with ``plug``. Raises: LabFailure."""
    for name in (layout.infra, layout.client):
        call(("ip", "netns", "add", name))
        _quiet(name)
    batch(
        layout.infra,
        (
            "link set lo up",
            "link add br-data type bridge forward_delay 0 ageing_time 30000",
            "link add br-mgmt type bridge forward_delay 0 ageing_time 30000",
            f"addr add {DATA_NET}.{INFRA_HOST}/24 dev br-data",
            f"addr add {MANAGEMENT_NET}.{INFRA_HOST}/24 dev br-mgmt",
            *(f"addr add {node.bmc_address}/24 dev br-mgmt" for node in layout.nodes),
            "link set br-data up",
            "link set br-mgmt up",
            *(f"route add {vip}/32 dev br-data" for vip in layout.vips),
            f"link add name client type veth peer name eth0 netns {layout.client}",
            "link set client master br-data up",
            f"link add name clientm type veth peer name eth1 netns {layout.client}",
            "link set clientm master br-mgmt up",
        ),
    )
    batch(
        layout.client,
        (
            "link set lo up",
            f"addr add {DATA_NET}.{CLIENT_HOST}/24 dev eth0",
            "link set eth0 up",
            f"addr add {MANAGEMENT_NET}.{CLIENT_HOST}/24 dev eth1",
            "link set eth1 up",
            *(f"route add {vip}/32 dev eth0" for vip in layout.vips),
        ),
    )
    call(inside(layout.infra, ("nft", "-f", "-")), _SCRIPT)


def plug(layout: Layout, node: LabNode) -> None:
    """Give a node that boots a fresh namespace with both cables, up. Raises: LabFailure."""
    unplug(layout, node)
    netns = layout.netns(node.id)
    call(("ip", "netns", "add", netns))
    _quiet(netns)
    batch(
        layout.infra,
        (
            f"link add name {node.data_port} type veth peer name eth0 netns {netns} address {node.mac}",
            f"link set {node.data_port} master br-data up",
            f"link add name {node.management_port} type veth peer name eth1 netns {netns}",
            f"link set {node.management_port} master br-mgmt up",
        ),
    )
    own = (f"addr add {node.data_address}/24 dev eth0",) if node not in layout.dark else ()
    batch(
        netns,
        (
            "link set lo up",
            *own,
            f"addr add {node.management_address}/24 dev eth1",
            "link set eth0 up",
            "link set eth1 up",
            *(f"route add {vip}/32 dev eth0" for vip in layout.vips if own),
        ),
    )
    if layout.guests or layout.found:
        _speak_ipv6(netns, node)


def _speak_ipv6(netns: str, node: LabNode) -> None:
    """Give a node that boots machines an address of IPv6: firmware waits 13 s for a router to say anything."""
    call(inside(netns, ("sysctl", "-q", "-e", "net.ipv6.conf.eth0.disable_ipv6=0")), check=False)
    batch(netns, (f"addr add {BOOT_NET6}{node.number:x}/64 dev eth0 nodad",))


def unplug(layout: Layout, node: LabNode) -> None:
    """Take a node's cables and its namespace away: a machine without power has no memory of connections."""
    netns = layout.netns(node.id)
    if (NETNS / netns).exists():
        ports = (f"link del {node.data_port}", f"link del {node.management_port}")
        batch(layout.infra, ports, check=False)
        call(("ip", "netns", "del", netns), check=False)


def remove(layout: Layout) -> None:
    """Take every namespace of the lab away; what is missing is no mistake."""
    for name in layout.namespaces:
        if (NETNS / name).exists():
            call(("ip", "netns", "del", name), check=False)


def _quiet(netns: str) -> None:
    """No IPv6 chatter, and dead peers are noticed in seconds: TCP gives up after five repetitions."""
    settings = (
        "net.ipv6.conf.all.disable_ipv6=1",
        "net.ipv6.conf.default.disable_ipv6=1",
        "net.ipv4.tcp_retries2=5",
        "net.ipv4.conf.all.arp_notify=1",
    )
    call(inside(netns, ("sysctl", "-q", "-e", *settings)), check=False)


# -- faults ------------------------------------------------------------------------------------------------------------


def set_carrier(layout: Layout, node: LabNode, up: bool, management: bool = False) -> None:
    """Take the switch's end of a cable down (the node sees no carrier) or up again."""
    port = node.management_port if management else node.data_port
    batch(layout.infra, (f"link set {port} {'up' if up else 'down'}",), check=False)


def drop(layout: Layout, tag: str, rules: Iterable[str]) -> None:
    """Drop what matches any of ``rules`` until ``allow`` is called with the same ``tag``. Raises: LabFailure."""
    lines = [f'add rule bridge {_TABLE} cuts {rule} drop comment "{tag}"' for rule in rules]
    if lines:
        call(inside(layout.infra, ("nft", "-f", "-")), "\n".join(lines) + "\n")


def allow(layout: Layout, tag: str) -> None:
    """Forget the rules of ``tag``."""
    listing = call(inside(layout.infra, ("nft", "-a", "list", "chain", "bridge", _TABLE, "cuts")), check=False)
    handles = [line.rpartition("# handle ")[2] for line in listing.splitlines() if f'comment "{tag}"' in line]
    lines = [f"delete rule bridge {_TABLE} cuts handle {handle}" for handle in handles]
    if lines:
        call(inside(layout.infra, ("nft", "-f", "-")), "\n".join(lines) + "\n", check=False)


def between(senders: Iterable[LabNode], receivers: Iterable[LabNode], traffic: Traffic) -> list[str]:
    """Rules for what ``senders`` send to ``receivers`` on the data cable, whatever address it goes to."""
    to = ", ".join(node.mac for node in receivers)
    if not to:
        return []
    return [f"iifname {node.data_port} ether daddr {{ {to} }} {kind}" for node in senders for kind in _kinds(traffic)]


def around(node: LabNode, traffic: Traffic) -> list[str]:
    """Rules for everything of a kind that a node sends or is sent on its data cable."""
    rules = [f"iifname {node.data_port} {kind}" for kind in _kinds(traffic)]
    return rules + [f"iifname != {node.data_port} ether daddr {node.mac} {kind}" for kind in _kinds(traffic)]


def to_bmcs(senders: Iterable[LabNode], targets: Iterable[LabNode]) -> list[str]:
    """Rules for what ``senders`` send to the BMCs of ``targets``."""
    to = ", ".join(node.bmc_address for node in targets)
    return [f"iifname {node.management_port} ip daddr {{ {to} }}" for node in senders] if to else []


def _kinds(traffic: Traffic) -> tuple[str, ...]:
    """Matches for a kind of traffic; a packet of the storage has one of its ports at either end."""
    match traffic:
        case "all":
            return ("meta mark 0",)
        case "storage":
            return (f"tcp dport {STORAGE_PORTS}", f"tcp sport {STORAGE_PORTS}")
        case "data":
            apart = f"tcp dport != {STORAGE_PORTS} tcp sport != {STORAGE_PORTS}"
            return (apart, "meta protocol ip meta l4proto != tcp")


def can_delay(layout: Layout) -> bool:
    """Whether this kernel can delay packets (netem); tried on the clients' loopback."""
    queue = ("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    try:
        call(inside(layout.client, queue))
    except LabFailure:
        return False
    call(inside(layout.client, ("tc", "qdisc", "del", "dev", "lo", "root")), check=False)
    return True


def set_delay(layout: Layout, node: LabNode, delay_ms: int) -> None:
    """Delay everything to a node on its data cable by ``delay_ms`` (0: no more). Raises: LabFailure."""
    call(inside(layout.infra, ("tc", "qdisc", "del", "dev", node.data_port, "root")), check=False)
    if delay_ms:
        queue = ("tc", "qdisc", "add", "dev", node.data_port, "root", "netem", "delay", f"{delay_ms}ms")
        call(inside(layout.infra, queue))


def block_port(layout: Layout, node: NodeId, port: int, blocked: bool) -> None:
    """Keep a node from reaching a TCP port anywhere, its own included, until it boots again. Raises: LabFailure."""
    table = f"moxie_block_{port}"
    if not blocked:
        if (NETNS / layout.netns(node)).exists():
            call(inside(layout.netns(node), ("nft", "delete", "table", "inet", table)), check=False)
        return
    script = _BLOCK.format(table=table, port=port)
    call(inside(layout.netns(node), ("nft", "-f", "-")), script)
