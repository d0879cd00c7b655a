"""``rack check`` of the BMCs: whether every one answers to its password, and nobody else's."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from core.ids import NodeId
from drivers.bmc import Survey
from drivers.config import Machine
from drivers.finding import Finding, error, note, ok, warning

LIMIT_MS = 8_000
THREADS_MAX = 8
EVENTS_SHOWN = 3

Ask = Callable[[Machine], Survey]


def check_bmcs(machines: Mapping[NodeId, Machine], ask: Ask | None = None) -> Iterator[Finding]:
    """Ask every BMC, at most ``THREADS_MAX`` at a time; ``ask`` asks one (default: with its driver)."""
    without = [node for node, machine in machines.items() if machine.bmc.driver == "none"]
    asked = {node: machine for node, machine in machines.items() if machine.bmc.driver != "none"}
    if without:
        remedy = "[node.bmc] in the inventory; until then nobody can power these nodes on, or prove that they are off"
        yield warning("bmc", " ".join(without), "no BMC in the inventory", remedy)
    if not asked:
        return
    with ThreadPoolExecutor(min(THREADS_MAX, len(asked)), "bmc") as pool:
        surveys = dict(zip(asked, pool.map(ask or _survey, asked.values()), strict=True))
    for node, survey in surveys.items():
        yield from judge(node, asked[node], survey)
    yield from _twins(surveys)


def _survey(machine: Machine) -> Survey:
    """Ask with the machine's own driver, whose library is loaded only now."""
    if machine.bmc.driver == "redfish":
        from drivers.redfish import survey as redfish

        return redfish(machine, LIMIT_MS)
    from drivers.ipmi import survey as ipmi

    return ipmi(machine, LIMIT_MS)


def judge(node: NodeId, machine: Machine, survey: Survey) -> Iterator[Finding]:
    """What a survey means."""
    about = f"{node} ({machine.bmc.driver} {machine.bmc.address})"
    if survey.problem:
        remedies = {
            "credentials": "the right user and password in the inventory's password_file; after a few more attempts "
            "some BMCs lock the user",
            "untrusted": "in the inventory, ca: the BMC's own certificate, or that of the authority that signed it",
            "silent": "the BMC's power and cable, and its address and port in the inventory",
            "unreachable": "the route to the management network, and the BMC's address in the inventory",
        }
        remedy = remedies.get(survey.kind, "look at the BMC's own page or console")
        yield error("bmc", about, survey.problem, remedy)
        return
    power = "unknown" if survey.on is None else "on" if survey.on else "off"
    yield ok(
        "bmc",
        about,
        f"answers in {survey.took_ms} ms; power {power}; UUID {' or '.join(survey.uuids[:1]) or 'not told'}",
    )
    if survey.default_password:
        remedy = "set another password at the BMC, write it to password_file, run 'rack init' again"
        yield error("bmc", about, f"its password is the factory default of {survey.default_password}", remedy)
    if survey.matches is False:
        yield error("bmc", about, "its UUID is another machine's than the inventory says", "check the cabling")
    for sensor in survey.sensors:
        if not sensor.ok:
            yield warning("bmc", about, f"sensor {sensor.name} is {sensor.value}", "look at the machine")
    if survey.events:
        yield note("bmc", about, f"last entries of its log: {'; '.join(survey.events[-EVENTS_SHOWN:])}")


def _twins(surveys: Mapping[NodeId, Survey]) -> Iterator[Finding]:
    """Two BMCs with one UUID are one BMC under two addresses: orders would hit the wrong node."""
    first: dict[str, NodeId] = {}
    for node, survey in surveys.items():
        for uuid in survey.uuids[:1]:
            other = first.setdefault(uuid, node)
            if other != node:
                remedy = "correct the BMC addresses in the inventory: power orders for one would hit the other"
                yield error("bmc", f"{other}, {node}", f"both have the UUID {uuid}", remedy)
