"""The command ``rack``: what runs a node, and what a person does with a rack.

Exit codes: 0 done, 1 not as it should be (a finding, a scenario, a wish that is not fulfilled yet), 2 bad input or a
rack that cannot be reached.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from pathlib import Path

from core.errors import InputError
from core.ids import NO_NODE, NodeId

BAD_INPUT = 2
LAB = "a rack of real processes on this machine"
IMAGE = "the system that nodes boot: build, verify, show, and the keys that sign it"
UPGRADE = "another image for every node: start, status, halt, resume, rehearse"
WATCH_S = 2.0
WAIT_S_MAX = 86_400


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and hand back its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    apart = {"lab": _lab_parser, "image": _image_parser, "upgrade": _upgrade_parser}.get(words[0] if words else "")
    arguments = apart().parse_args(words[1:]) if apart is not None else _parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = arguments.command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a sign gets a question mark, not a traceback
    try:
        code = command(arguments)
        sys.stdout.flush()
        return code
    except InputError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return BAD_INPUT
    except PermissionError as error:
        if not error.filename or words[:1] in (["supervisor"], ["agent"]):
            raise  # what runs a node says itself what it may not; here it would be our bug
        print(f"{error.filename}: permission denied; needed: root, or files of your own", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rack", description="The real rack.", epilog=_EXITS, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, allow_abbrev=False)
        one.set_defaults(command=run)
        return one

    one = add("supervisor", "run this node: its services, its agent, its ZooKeeper server", _supervisor)
    one.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's node.toml")
    one = add("agent", "the agent of this node, as its supervisor starts it", _agent)
    one.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's node.toml")
    one.add_argument("--child", action="store_true", help="started by the supervisor: end with it")
    one.add_argument("--spare", action="store_true", help="load everything, then wait for a word on standard input")
    one.add_argument("--hand-over", action="store_true", help="give everything up cleanly, then end")
    one = add("netboot", "boot other machines from the network: DHCP, TFTP, HTTP and the join server", _netboot)
    one.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's node.toml")
    one = add("storage", "make the rack's own storage grow: this node's disk, monitors, copies", _storage)
    one.add_argument("--config", type=Path, required=True, metavar="FILE", help="the node's node.toml")
    one = add("join", "a machine that was booted for it becomes a node: token for certificate, over TLS", _join)
    one.add_argument("--cmdline", type=Path, metavar="FILE", help="kernel command line (default: /proc/cmdline)")
    one.add_argument("--out", type=Path, metavar="DIR", help="where the node's files go (default: /etc/moxie)")
    _init_parser(add("init", "make what a new rack starts from: keys, certificates, a folder for each node", _init))
    one = _with_config(add("status", "what the rack is doing, what is pending and why", _status))
    one.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C")
    one.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    _scan_parser(_with_config(add("scan", "which BMCs answer, what they are, and who can be logged into", _scan)))
    _wish_parsers(add)
    one = _with_config(add("check", "is everything that the drivers rely on reachable and safe?", _check))
    one.add_argument("--json", action="store_true", help="one JSON object instead of a list")
    one = _with_config(add("snapshot", "write what a simulation of this rack needs, without secrets", _snapshot))
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    commands.add_parser("lab", help=LAB, add_help=False)  # only for the list: its words are parsed by _lab_parser
    commands.add_parser("image", help=IMAGE, add_help=False)  # as the lab
    commands.add_parser("upgrade", help=UPGRADE, add_help=False)  # as the lab
    return parser


def _lab_parser() -> argparse.ArgumentParser:
    from drivers.lab.cli import add, run

    parser = argparse.ArgumentParser(prog="rack lab", description=f"{LAB.capitalize()}.", allow_abbrev=False)
    add(parser.add_subparsers(required=True, metavar="COMMAND"))
    parser.set_defaults(command=run)
    return parser


def _image_parser() -> argparse.ArgumentParser:
    from drivers.image.cli import add, run

    parser = argparse.ArgumentParser(prog="rack image", description=f"{IMAGE.capitalize()}.", allow_abbrev=False)
    add(parser.add_subparsers(required=True, metavar="COMMAND"))
    parser.set_defaults(command=run)
    return parser


def _upgrade_parser() -> argparse.ArgumentParser:
    from drivers.upgrade_cli import add

    parser = argparse.ArgumentParser(prog="rack upgrade", description=f"{UPGRADE.capitalize()}.", allow_abbrev=False)
    add(parser.add_subparsers(required=True, metavar="COMMAND"))
    return parser


_EXITS = "exit codes: 0 done, 1 not as it should be, 2 bad input or a rack that cannot be reached"


def _with_config(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    words = "operator.toml or node.toml (default: operator.toml here or in /etc/moxie, else /etc/moxie/node.toml)"
    parser.add_argument("--config", type=Path, metavar="FILE", help=words)
    return parser


def _init_parser(parser: argparse.ArgumentParser) -> None:
    from drivers.first_words import add_first

    add_first(parser)
    parser.add_argument("--inventory", type=Path, metavar="FILE", help="the nodes, their addresses and BMCs")
    parser.add_argument("--catalog", type=Path, metavar="FILE", help="the services")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything is written")
    parser.add_argument("--node", default="", metavar="ID", help="the node that the rack begins on (default: number 1)")
    parser.add_argument("--ceph-conf", type=Path, metavar="FILE", help="ceph.conf, where the nodes have it")
    parser.add_argument("--ceph-user", default="admin", metavar="NAME", help="user at Ceph (default: admin)")
    parser.add_argument("--ceph-keyring", type=Path, metavar="FILE", help="its keyring, where the nodes have it")
    parser.add_argument("--ceph-pool", default="rbd", metavar="NAME", help="pool of the volumes (default: rbd)")
    parser.add_argument("--interface", metavar="NAME", help="where services' addresses come up (default: eth0)")
    parser.add_argument("--renew", action="store_true", help="make certificates anew that end within 90 days")
    parser.add_argument(
        "--revocation-list", action="store_true", help="have a rack of an older version revoke certificates; run twice"
    )
    parser.add_argument(
        "--seed-records", action="store_true", help="write the first shared records, with --config only"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="operator.toml, for --seed-records")


def _scan_parser(parser: argparse.ArgumentParser) -> None:
    subnets = "such as 10.97.0.0/24 (default: every [[network]] of the inventory)"
    parser.add_argument("subnet", nargs="*", metavar="SUBNET", help=subnets)
    parser.add_argument("--user", metavar="NAME", help="try this user instead of the inventory's credentials")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="its password: one line, mode 0600")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="what Redfish BMCs' certificates must be signed by")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def _wish_parsers(add: Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]) -> None:
    texts = {
        "drain": "have a node give its services away and go into maintenance",
        "undrain": "take a node back into service",
        "retire": "take a node out of the rack for good; a member is drained first",
        "release": "give a quarantined or retired node another chance",
    }
    for name, text in texts.items():
        one = _with_config(add(name, text, _wish))
        one.add_argument("node", metavar="NODE")
        one.add_argument("--wait", type=_seconds, default=0, metavar="S", help="wait so many seconds until it is done")
        one.set_defaults(wish=name)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= WAIT_S_MAX):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: whole seconds from 0 to {WAIT_S_MAX}")
    return int(text)


# -- what runs a node --------------------------------------------------------------------------------------------------
# Each command imports what it needs: the agent and the supervisor are to stay small.


def _supervisor(arguments: argparse.Namespace) -> int:
    from drivers.config import load_config
    from drivers.supervisor import main as supervise

    return supervise(load_config(arguments.config))


def _agent(arguments: argparse.Namespace) -> int:
    from drivers.agent import run

    return run(arguments.config, child=arguments.child, spare=arguments.spare, hand_over=arguments.hand_over)


def _join(arguments: argparse.Namespace) -> int:
    from drivers.join.boot import CMDLINE
    from drivers.join.client import FOLDER, Machine, main

    return main(Machine(cmdline=arguments.cmdline or CMDLINE, folder=arguments.out or FOLDER))


def _netboot(arguments: argparse.Namespace) -> int:
    from drivers.config import load_config
    from drivers.netboot.service import run

    return run(load_config(arguments.config))


def _storage(arguments: argparse.Namespace) -> int:
    from drivers.ceph_service import run
    from drivers.config import load_config

    return run(load_config(arguments.config))


# -- what a person does ------------------------------------------------------------------------------------------------


def _init(arguments: argparse.Namespace) -> int:
    from drivers.init import CephAccess, Plan, prepare, told

    if arguments.seed_records:
        return _seed(arguments)
    if arguments.first:
        from drivers.first_server import run

        return run(arguments)
    missing = [f"--{name}" for name in ("inventory", "catalog", "out") if getattr(arguments, name) is None]
    if missing:
        raise InputError([f"rack init: {' '.join(missing)} missing; needed: --inventory FILE --catalog FILE --out DIR"])
    plan = Plan(
        inventory=arguments.inventory,
        catalog=arguments.catalog,
        out=arguments.out,
        first=NodeId(arguments.node) if arguments.node else NO_NODE,
        ceph=CephAccess.asked(arguments),
        settings={"address": {"interface": arguments.interface or "eth0"}},
        renew=arguments.renew,
    )
    if arguments.revocation_list:
        from drivers.revocable import make_revocable

        return 0 if make_revocable(plan, print) else 1
    print(told(plan, prepare(plan)))
    return 0


def _seed(arguments: argparse.Namespace) -> int:
    from drivers.access import load_access
    from drivers.seed import seed_rack

    for line in seed_rack(load_access(arguments.config)):
        print(line)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from drivers.access import load_access
    from drivers.status import look, to_json
    from drivers.status_text import status_text
    from formats.columns import room_here
    from formats.paint import Paint

    access = load_access(arguments.config)
    paint = Paint(sys.stdout.isatty())
    while True:
        try:
            rack = look(access)
            text = to_json(rack) if arguments.json else status_text(rack, paint, room_here())
        except InputError as error:
            if not arguments.watch:
                raise
            text = paint.bad("\n".join(error.problems)) + "\n"  # whoever watches wants to see it come back
        clear = "\x1b[H\x1b[2J" if arguments.watch and sys.stdout.isatty() and not arguments.json else ""
        sys.stdout.write(clear + text)
        sys.stdout.flush()
        if not arguments.watch:
            return 0
        time.sleep(WATCH_S)


def _scan(arguments: argparse.Namespace) -> int:
    from drivers.scan_command import scan

    return scan(arguments)


def _wish(arguments: argparse.Namespace) -> int:
    from drivers.access import load_access
    from drivers.operate import Wish, carry_out

    access = load_access(arguments.config)
    wish, node, wait_ms = Wish(arguments.wish), NodeId(arguments.node), arguments.wait * 1000
    done = carry_out(access, wish, node, wait_ms, print)
    if done and wish is Wish.RETIRE:
        from drivers.retire import finish

        done = finish(access, node, wait_ms, print)
    if done and wish is Wish.RELEASE:
        from drivers.retire import take_back

        done = take_back(access, node, print)
    return 0 if done or not arguments.wait else 1


def _check(arguments: argparse.Namespace) -> int:
    from drivers.access import load_access
    from drivers.check import check, exit_code, to_json
    from drivers.finding import findings_text
    from formats.paint import Paint

    findings = check(load_access(arguments.config))
    sys.stdout.write(to_json(findings) if arguments.json else findings_text(findings, Paint(sys.stdout.isatty())))
    return exit_code(findings)


def _snapshot(arguments: argparse.Namespace) -> int:
    from drivers.access import load_access
    from drivers.snapshot import take
    from drivers.status import look

    access = load_access(arguments.config)
    taken = take(access, look(access), arguments.out)
    print(f"{arguments.out}: {len(taken.files)} files")
    for said in taken.missing:
        print(f"  without {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
