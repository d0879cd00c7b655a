"""``rack check``: is everything that the drivers rely on reachable and safe? Each finding comes with its remedy."""

import json
from collections.abc import Iterator

import msgspec

from core.errors import InputError
from core.records import EnsembleRecord
from drivers.access import Access
from drivers.check_bmc import check_bmcs
from drivers.check_ceph import check_ceph
from drivers.check_machine import check_machine, secrets_of
from drivers.check_rack import (
    check_agents,
    check_certificates,
    check_ensemble,
    check_members,
    check_names,
    check_timing,
    local_only,
)
from drivers.finding import Finding, count, error
from drivers.servers import servers
from drivers.status import heard, state_of
from drivers.zookeeper_operator import Operator, Unreachable


def check(access: Access) -> tuple[Finding, ...]:
    """Look at everything; takes seconds, and changes nothing."""
    return tuple(_all(access))


def exit_code(findings: tuple[Finding, ...]) -> int:
    """0, or 1 if anything is unsafe or broken."""
    return int(count(findings)["error"] > 0)


def to_json(findings: tuple[Finding, ...]) -> str:
    """One JSON object on one line."""
    shown = {"counts": count(findings), "findings": findings}
    return json.dumps(msgspec.to_builtins(shown, str_keys=True), separators=(",", ":")) + "\n"


def _all(access: Access) -> Iterator[Finding]:
    config = access.config
    yield from local_only(access)
    yield from check_machine(config) if access.local else secrets_of(config)
    yield from check_certificates(config)
    if access.local:
        yield from check_names(config)
    yield from check_timing(config)
    yield from _rack(access)
    if config.tables.ceph is not None:
        yield from check_ceph(config.tables.ceph, config.timing)
    yield from check_bmcs(config.machines)


def _rack(access: Access) -> Iterator[Finding]:
    """What needs the ensemble; if it cannot be reached, that is the finding."""
    try:
        answers = servers(access.config)
    except InputError as problem:
        yield error("ensemble", "[tls]", "; ".join(problem.problems), "the files of 'rack init'")
        return
    try:
        with Operator(access.config) as operator:
            records = operator.tree()
    except Unreachable as failure:
        yield from check_ensemble(answers, ())
        if not all(server.error for server in answers.values()):
            remedy = "start the missing voters: a majority of them must run"
            yield error("ensemble", "quorum", f"servers answer, but cannot commit ({failure})", remedy)
        return
    rack = state_of(access, records, answers, heard(access))
    ensemble = rack.ensemble
    yield from check_ensemble(answers, ensemble.voters if isinstance(ensemble, EnsembleRecord) else ())
    yield from check_agents(rack.agents, rack.members)
    yield from check_members(access.config, rack.members)
