"""``rack scan``: which BMCs answer in some subnets, what they are known as, and whether they can be logged into."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from core.errors import InputError
from core.identity import forms
from core.records import MACHINES, MachineRecord
from drivers.access import PLACES, Access, load_access
from drivers.bmc import BmcFailure, password_of
from drivers.clock import now_ms, wall_text
from drivers.inventory import BmcTable, Inventory
from drivers.networks import AccessTable, NetworkTable, subnet_of
from drivers.power import open_table
from drivers.redfish import trusted_by
from drivers.roster import Roster
from drivers.scan import REFUSES, WINDOW_MS, Scans, Sighting, in_order
from formats.columns import columns, room_here, wrapped
from formats.paint import Paint
from formats.problems import Problems, one_of

LOOK_MS_MAX = 20_000
SHOWN_MAX = 8
LEARN_MS_MAX = 1_500
"""How long the rack is asked what it knows; without an answer the files say it."""


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet that was looked through."""

    network: NetworkTable
    sightings: tuple[Sighting, ...]
    ms: int


def scan(arguments: Namespace) -> int:
    """Run ``rack scan``; 0: every BMC that answered can be used, 1: some cannot, or nobody answered.

    Raises: InputError for subnets, files and networks that cannot be used, and for credentials that every BMC refuses.
    """
    access = _access(arguments.config)
    inventory = access.config.inventory if access is not None else Inventory(machines={})
    networks = _networks(arguments, inventory, str(access.config.tables.inventory) if access is not None else "")
    records = _records(access) if access is not None else ()
    scans = Scans(inventory, lambda: records, open_table, now_ms)
    looked = [_look(scans, network) for network in networks]
    sys.stdout.write(to_json(looked) if arguments.json else to_text(looked, Paint(sys.stdout.isatty()), room_here()))
    found = [one for look in looked for one in look.sightings]
    refused = sum(_problem(look, one).startswith(REFUSES) for look in looked for one in look.sightings)
    if refused and not any(one.access for one in found):
        given = f"--user {arguments.user} and --password-file" if arguments.user else "what [[network.access]] gives"
        needed = "needed: the right user and password"
        raise InputError([f"rack scan: every BMC that was tried ({refused}) refuses {given}; {needed}"])
    return 0 if found and not any(_problem(look, one) for look in looked for one in look.sightings) else 1


def _problem(look: Looked, one: Sighting) -> str:
    """Why a BMC cannot be used; that nobody was to be logged in is none."""
    return one.problem if look.network.access else ""


def to_json(looked: Iterable[Looked]) -> str:
    """One JSON object on one line."""
    shown: dict[str, Any] = {
        "at": wall_text(),
        "networks": [
            {
                "name": look.network.name,
                "subnet": look.network.subnet,
                "addresses": len(look.network.addresses) or look.network.net.num_addresses,
                "took_ms": look.ms,
                "found": [_plain(look, one) for one in look.sightings],
            }
            for look in looked
        ],
    }
    return json.dumps(shown, separators=(",", ":")) + "\n"


def to_text(looked: Sequence[Looked], paint: Paint, room: int = 0) -> str:
    """A table for each subnet. ``room``: columns of the terminal, 0: as many as it takes."""
    parts: list[str] = []
    for look in looked:
        count, net = len(look.sightings), look.network.net
        usable = sum(not one.problem and bool(one.access) for one in look.sightings)
        asked = len(look.network.addresses) or net.num_addresses
        many = f"{asked} address{'' if asked == 1 else 'es'}"
        said = f"{net}: no BMC at {many} answered"
        if count:
            tried = f"{usable} can be used" if look.network.access else "no credentials are given: none was tried"
            said = f"{net}: {count} BMC{'' if count == 1 else 's'} of {many}, {tried}"
        parts.append(f"{paint.strong(said)}  {paint.dim(f'{look.ms / 1_000:.1f} s')}\n")
        rows = [row for one in look.sightings for row in _rows(look, one, paint)]
        head = ("ADDRESS", "SPEAKS", "GUID", "KNOWN AS", "CREDENTIALS", "POWER")
        parts += [line + "\n" for line in columns(head, rows, paint, room)]
        parts += [part + "\n" for line in _problems(look) for part in wrapped(paint.bad(line), room, 2, 4)]
        if _unverified(look):
            parts.append(
                paint.dim("  certificates of Redfish BMCs were not checked; needed for that: ca, or --ca FILE") + "\n"
            )
    return "".join(parts)


def _unverified(look: Looked) -> bool:
    """Whether a password was sent to whoever answered, over TLS that nobody vouched for."""
    lax = {one.name for one in look.network.access if one.driver == "redfish" and one.tls and one.ca is None}
    return any(one.access in lax for one in look.sightings)


def _problems(look: Looked) -> list[str]:
    """What is wrong, each sentence once, with the addresses that it is about."""
    about: dict[str, list[str]] = {}
    for one in look.sightings:
        if problem := _problem(look, one):
            about.setdefault(problem, []).append(one.address)
    lines = []
    for problem, addresses in about.items():
        more = f" and {len(addresses) - SHOWN_MAX} more" if len(addresses) > SHOWN_MAX else ""
        lines.append(f"{' '.join(addresses[:SHOWN_MAX])}{more}: {problem}")
    return lines


def _rows(look: Looked, one: Sighting, paint: Paint) -> list[Sequence[str]]:
    guid = one.seen.guid if one.seen is not None else one.answered.guid
    uuids = forms(guid) or (_shown(guid),)
    power = {True: paint.good("on"), False: "off", None: "–"}[one.on]
    words = paint.bad("none accepted") if _problem(look, one) else paint.good(one.access) if one.access else "not tried"
    known = paint.node(one.known_as) if one.known_as else paint.dim("new")
    first = (one.address, _speaks(one), uuids[0], known, words, power)
    return [first, *(("", "", paint.dim(f"{uuid} ({order})"), "", "", "") for uuid, order in _orders(uuids))]


def _orders(uuids: Sequence[str]) -> list[tuple[str, str]]:
    """The other forms in which a machine may show its identity."""
    words = ("first fields swapped", "all reversed")
    return list(zip(uuids[1:], words, strict=False))


def _speaks(one: Sighting) -> str:
    said = ["IPMI 2.0" if one.answered.v2 else "IPMI"] if one.answered.ipmi else []
    said += [f"Redfish {one.redfish.version}"] if one.redfish is not None else []
    return ", ".join(said) or "–"


def _shown(guid: str) -> str:
    try:
        return f"{UUID(guid)} (no identity)"
    except ValueError:
        return "–"


def _plain(look: Looked, one: Sighting) -> dict[str, Any]:
    guid = str(one.seen.guid) if one.seen is not None else one.answered.guid
    return {
        "address": one.address,
        "bmc": one.seen.bmc if one.seen is not None else "",
        "ipmi": one.answered.ipmi,
        "ipmi_2": one.answered.v2,
        "redfish": one.redfish.version if one.redfish is not None else "",
        "guid": guid,
        "uuids": list(forms(guid)),
        "known_as": one.known_as,
        "access": one.access,
        "problem": _problem(look, one),
        "power": {True: "on", False: "off", None: ""}[one.on],
    }


# -- what is asked for -------------------------------------------------------------------------------------------------


def _access(file: Path | None) -> Access | None:
    """The rack's files; None if there are none and none were named: subnets and credentials may be given by hand."""
    if file is None and not any(place.is_file() for place in PLACES):
        return None
    return load_access(file)


def _networks(arguments: Namespace, inventory: Inventory, file: str) -> list[NetworkTable]:
    """What to look through, with what may be tried there. Raises: InputError."""
    problems = Problems("rack scan")
    given = _given(arguments, problems)
    found: list[NetworkTable] = []
    for text in arguments.subnet:
        net = subnet_of(text, "SUBNET", problems)
        if net is None:
            continue
        within = next(
            (one for one in inventory.networks if one.net.version == net.version and int(one.net.network_address)
             <= int(net.network_address) and int(net.broadcast_address) <= int(one.net.broadcast_address)), None
        )  # fmt: skip
        if within is None and inventory.networks and not given:
            known = one_of(f"{one.name} {one.subnet}" for one in inventory.networks)
            remedy = "or --user NAME --password-file FILE, to look elsewhere with those"
            problems.add("SUBNET", text, f"is in no [[network]] of {file}; allowed: part of {known}, {remedy}")
            continue
        network = within or NetworkTable(name="given", subnet=str(net))
        found.append(msgspec.structs.replace(network.within(net), access=given or network.access))
    if not arguments.subnet:
        found = [msgspec.structs.replace(one, access=given or one.access) for one in inventory.networks]
        if not found:
            problems.say("nowhere to look; needed: a SUBNET such as 10.97.0.0/24, or [[network]] in the inventory")
    problems.check()
    return found


def _given(arguments: Namespace, problems: Problems) -> tuple[AccessTable, ...]:
    """The credentials of the command line, for either protocol."""
    user, file = arguments.user, arguments.password_file
    if user is None and file is None:
        if arguments.ca is not None:
            problems.say("--ca belongs to --user and --password-file; the inventory's accesses have a ca of their own")
        return ()
    if user is None or file is None:
        problems.say("--user and --password-file belong together; needed: both, or none for those of the inventory")
        return ()
    try:
        password_of(BmcTable(password_file=file))
        if arguments.ca is not None:
            trusted_by(arguments.ca)
    except BmcFailure as failure:
        problems.say(failure.detail)
    return (
        AccessTable(name="ipmi", driver="ipmi", user=user, password_file=file),
        AccessTable(name="redfish", driver="redfish", user=user, password_file=file, ca=arguments.ca),
    )


def _records(access: Access) -> tuple[MachineRecord, ...]:
    """What is on record of machines: as the rack says now, else as it is kept."""
    from drivers.zookeeper_operator import Operator, Unreachable

    kept = Roster(
        access.config, access.config.tables.state_dir if access.local else access.config.tables.inventory.parent
    )
    try:
        with Operator(access.config, LEARN_MS_MAX) as operator:
            shared = operator.below(MACHINES)
    except (Unreachable, InputError):
        return kept.known
    access.learn(shared)
    return tuple(change.data for change in shared.values() if isinstance(change.data, MachineRecord))


def _look(scans: Scans, network: NetworkTable) -> Looked:
    """Look through all of a network: a large one in parts, with the time between that the kernel needs."""
    began_ms, looks = now_ms(), scans.looks(network)
    found: dict[str, Sighting] = {}
    for turn in range(looks):
        part_ms = now_ms()
        _progress(f"looking through {network.subnet}, part {turn + 1} of {looks} …")
        try:
            found |= {one.address: one for one in scans.look(network, part_ms + LOOK_MS_MAX, afresh=True)}
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            remedy = "is this machine's management interface up, and has it a route there?"
            raise InputError([f"rack scan: {network.subnet} cannot be reached ({reason}); {remedy}"]) from None
        if turn + 1 < looks:
            time.sleep(max(part_ms + WINDOW_MS - now_ms(), 0) / 1_000)
    sightings = tuple(found[address] for address in sorted(found, key=in_order))
    return Looked(network=network, sightings=sightings, ms=now_ms() - began_ms)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)
