"""``rack check`` of what the nodes share: the ensemble and its clock, certificates, the agents and their clocks."""

from collections.abc import Iterator, Mapping

from core.errors import InputError
from core.ids import NodeId
from core.records import MemberRecord
from drivers.access import Access
from drivers.ca import is_revocable, is_signed_by, read, subject_of
from drivers.config import Config
from drivers.finding import Finding, error, note, ok, warning
from drivers.rack_state import Heard, Server
from drivers.registry import with_volumes

TICKS_MIN = 2
"""A server takes no session timeout below two of its ticks. Source: ZooKeeper's minSessionTimeout."""
SKEW_MS_MAX = 500
"""Clocks are compared over HTTP, whose dates have whole seconds; nothing but logs and certificates depends on them."""
DAYS_ERROR, DAYS_WARNING = 14, 60


def check_certificates(config: Config) -> Iterator[Finding]:
    """Whether our certificate is the authority's, names us, and lasts."""
    tls = config.tables.tls
    if tls is None:
        return
    for path in (tls.ca, tls.cert):
        try:
            seen = read(path)
        except InputError as problem:
            yield error("certificates", str(path), "; ".join(problem.problems), "copy it from what 'rack init' made")
            return
        measured = f"{seen.subject} ends in {seen.days_left} days"
        remedy = "rack init … --renew, then copy the new files to the nodes and restart their agents one by one"
        if seen.days_left < DAYS_ERROR:
            yield error("certificates", str(path), measured, remedy)
        elif seen.days_left < DAYS_WARNING:
            yield warning("certificates", str(path), measured, remedy)
        else:
            yield ok("certificates", str(path), f"{measured}; SHA-256 {seen.fingerprint[:23]}…")
    if not is_revocable(tls.cert):
        measured = "names no list of revoked certificates: it counts until it ends, also once its node is retired"
        yield warning("certificates", str(tls.cert), measured, "rack init … --revocation-list")
    if not is_signed_by(tls.cert, tls.ca):
        remedy = "key, certificate and authority of the same 'rack init'"
        yield error("certificates", str(tls.cert), "is not signed by the rack's authority", remedy)


def check_names(config: Config) -> Iterator[Finding]:
    """Whether a node's certificate is that node's, and names its address: peers refuse it otherwise."""
    if config.tables.tls is None:
        return
    seen = read(config.tables.tls.cert)
    if seen.subject != subject_of(config.node):
        remedy = f"the certificate of {config.node}; every node has its own"
        yield error("certificates", str(config.tables.tls.cert), f"is {seen.subject}'s", remedy)
    elif config.me.address not in seen.names:
        measured = f"names {' '.join(seen.names) or 'nobody'}, not this node's address {config.me.address}"
        yield error("certificates", str(config.tables.tls.cert), measured, "rack init after correcting the inventory")


def check_timing(config: Config) -> Iterator[Finding]:
    """Whether ZooKeeper's clock fits the protocol's."""
    tick, timeout = config.tables.zookeeper.tick_ms, config.timing.session_timeout_ms
    about = f"tick_ms = {tick}, session_timeout_ms = {timeout}"
    if timeout < TICKS_MIN * tick:
        remedy = f"[zookeeper] tick_ms = {timeout // (2 * TICKS_MIN)}, or [timing] session_timeout_ms = {4 * tick}"
        measured = f"less than {TICKS_MIN} ticks: sessions end later than asked, and by up to a whole tick's luck"
        yield error("ensemble", about, measured, remedy)
    elif timeout < 2 * TICKS_MIN * tick:
        measured = "a session may last half as long again as asked: expiry falls on ticks"
        yield warning("ensemble", about, measured, f"[zookeeper] tick_ms = {timeout // (2 * TICKS_MIN)}")
    else:
        yield ok("ensemble", about, f"{timeout // tick} ticks a session")


def check_ensemble(seen: Mapping[NodeId, Server], voters: tuple[NodeId, ...]) -> Iterator[Finding]:
    """Whether the servers of the voters answer, agree on a leader and are of one version."""
    answered = {node: server for node, server in seen.items() if not server.error}
    if not answered:
        why = next((server.error for server in seen.values()), "there are none")
        remedy = "rack supervisor on the first node; and is this certificate one of this rack's?"
        yield error("ensemble", "ZooKeeper", f"no server answers ({why})", remedy)
        return
    for node in voters:
        server = seen.get(node, Server(error="not in the inventory"))
        if server.error:
            remedy = f"rack status; the server's own words are in state_dir/zookeeper.log of {node}"
            yield error("ensemble", node, f"a voter whose server does not serve: {server.error}", remedy)
        else:
            yield ok("ensemble", node, f"{server.mode}, {server.version}, {server.connections} connections")
    leaders = [node for node, server in answered.items() if server.mode == "leader"]
    if len(leaders) != 1:
        measured = f"{len(leaders)} servers say that they lead" + (f": {' '.join(leaders)}" if leaders else "")
        yield warning(
            "ensemble", "leader", measured, "look again in a few seconds; else the network between the voters"
        )
    versions = sorted({server.version for server in answered.values() if server.version})
    if len(versions) > 1:
        yield warning(
            "ensemble", "versions", f"servers of {' and '.join(versions)}", "upgrade the older ones, one at a time"
        )
    if len(voters) < 3:
        remedy = "nothing if the rack is still growing; it takes three nodes to survive the loss of one"
        yield warning("ensemble", "voters", f"{len(voters)}: the loss of one ends all coordination", remedy)


def check_agents(agents: Mapping[NodeId, Heard], members: Mapping[NodeId, MemberRecord]) -> Iterator[Finding]:
    """Whether the members' agents show themselves, and their nodes' clocks agree with ours."""
    for node, heard in agents.items():
        if heard.error and node in members:
            remedy = f'its log (journalctl -u moxie on {node}); metrics = "ADDRESS:PORT" in its node.toml'
            yield warning("agents", node, f"a member whose agent shows nothing: {heard.error}", remedy)
        if heard.view is not None:
            yield ok("agents", node, f"joined as {heard.view.lifecycle}" if heard.view.joined else "not joined yet")
        if heard.ahead_ms is None:
            continue
        if abs(heard.ahead_ms) > SKEW_MS_MAX:
            words = "ahead of" if heard.ahead_ms > 0 else "behind"
            remedy = "run chrony (the catalog's ntp) there and here; certificates depend on the time of day"
            yield warning("clocks", node, f"{abs(heard.ahead_ms)} ms {words} this machine", remedy)
        else:
            yield ok("clocks", node, "agrees with this machine within what HTTP dates can show")


def check_members(config: Config, members: Mapping[NodeId, MemberRecord]) -> Iterator[Finding]:
    """What members say about themselves that a person should know."""
    for node, member in sorted(members.items()):
        if not member.storage_ok and with_volumes(config):
            remedy = f"is the storage full (ceph health detail)? else the storage network of {node}, and its keyring"
            yield error("members", node, "cannot write to the storage", remedy)
        if member.unfit:
            remedy = f"why it gave them up is in its journal; the mark lapses after {config.timing.unfit_ms // 1000} s"
            yield warning("members", node, f"unfit for {' '.join(member.unfit)}", remedy)
    missing = [node for node in config.machines if node not in members]
    if missing:
        yield note("members", " ".join(missing), "no members", "rack status says what is done about it")


def local_only(access: Access) -> Iterator[Finding]:
    """Say that a machine itself is not looked at when the file is an operator's."""
    if not access.local:
        remedy = "run 'rack check --config /etc/moxie/node.toml' on each node"
        yield note("scope", str(access.file), "an operator's file: nodes themselves are not looked at", remedy)
