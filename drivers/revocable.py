"""``rack init --revocation-list``: certificates of a rack that an older version made become revocable.

Those name no list of revoked ones, and a ZooKeeper server that has a list takes nobody whose certificate names none.
So it takes two runs: the first makes every such certificate anew, by the same authority; the second, once every node
shows its new one, makes the list. It asks the rack itself, because a list that comes too early shuts nodes out.
"""

from collections.abc import Callable, Mapping

import msgspec

from core.ids import NodeId
from core.records import Lifecycle
from drivers.access import Access, load_access
from drivers.ca import OPERATOR, Authority, write_public
from drivers.init import Made, Plan, operator_file, prepare
from drivers.join import REVOKED_FILE
from drivers.rack_state import Heard
from drivers.status import look
from drivers.zookeeper_server import context, presents_revocable

Say = Callable[[str], None]


def make_revocable(plan: Plan, say: Say) -> bool:
    """Make certificates anew that cannot be revoked; make the list if all can and are in use; whether it is there.

    Raises: InputError as ``prepare``, and if the rack cannot be reached.
    """
    file = plan.out / "ca" / REVOKED_FILE
    made = prepare(msgspec.structs.replace(plan, revocable=True))
    if made.renewed:
        for line in _first_steps(plan, made):
            say(line)
        return False
    if file.exists():
        say(f"{file}: the rack has its list of revoked certificates; nothing to do")
        return True
    access = load_access(operator_file(plan.out))
    left = unready(access)
    if left:
        say("not yet: a list would shut out every node that still shows its old certificate")
        for node, why in left.items():
            say(f"  {node}: {why}")
        return False
    write_public(file, Authority(plan.out / "ca").revoke((), number=1))
    prepare(plan)
    for line in _second_steps(plan):
        say(line)
    return True


def unready(access: Access) -> dict[NodeId, str]:
    """The nodes that a list would shut out, or may, and why. Raises: InputError if the rack cannot be reached."""
    tls = access.config.tables.tls
    rack = look(access)
    ours = context(tls)
    if tls is None or ours is None:
        return {}
    port = access.config.tables.zookeeper.client_port
    servers = {
        node: presents_revocable(machine.address, port, ours)
        for node, machine in access.config.machines.items()
        if node in rack.servers and not rack.servers[node].error
    }
    gone = {node for node, life in rack.lives.items() if life.state is Lifecycle.RETIRED}
    found = {node: why for node in access.config.machines if (why := _why(node, servers, rack.agents))}
    return {node: why for node, why in found.items() if node not in gone}


def _why(node: NodeId, servers: Mapping[NodeId, bool | None], agents: Mapping[NodeId, Heard]) -> str:
    """Why a node is not ready for a list; "" if it is."""
    heard = agents.get(node, Heard(error="no view"))
    if heard.view is None:
        return f"its agent does not answer ({heard.error}); start it, or retire it"
    if not heard.revocable:
        return "its agent has its old certificate, or is of an older version: copy its folder, restart it"
    if servers.get(node) is False:
        return "its ZooKeeper server still shows its old certificate: restart the server"
    return ""


def _first_steps(plan: Plan, made: Made) -> list[str]:
    names = [name for name in made.renewed if name != OPERATOR]
    return [
        f"made anew, by the same authority, so that they can be revoked: {', '.join(made.renewed)}",
        f"  copy {plan.out / 'nodes'}/<id>/tls to /etc/moxie/tls of {', '.join(names) or 'each node'}",
        "  then, one node after the other: rack drain NODE --wait 600; restart moxie there; rack undrain NODE",
        "  then this command again: it looks whether all of them are in use, and makes the list",
    ]


def _second_steps(plan: Plan) -> list[str]:
    return [
        f"{plan.out / 'ca' / REVOKED_FILE}: the list of revoked certificates, empty",
        f"  copy {plan.out / 'nodes'}/<id>/tls/{REVOKED_FILE} to /etc/moxie/tls of each node",
        "  then, one node after the other: rack drain NODE --wait 600; restart moxie there; rack undrain NODE",
        "  from then on 'rack retire' makes certificates void, of any node",
    ]
