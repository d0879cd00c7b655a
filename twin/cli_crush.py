"""The command ``twin crush``: map inputs through a CRUSH map, and print what `crushtool --test` prints."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import InputError
from formats.arguments import whole

if TYPE_CHECKING:
    from twin.crush.compile import Compiled

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

X_MAX = (1 << 31) - 2
REPLICAS_MAX = 1000
DEVICE_MAX = (1 << 24) - 1
EPILOG = """\
MAP is the JSON of `ceph osd crush dump` or `crushtool --dump`, the binary of
`ceph osd getcrushmap`, or a crushmap text (whose weights are rounded: a warning
says so). The output is that of

    crushtool -i MAP --test --show-mappings --rule R --num-rep N --min-x A --max-x B

line for line. 2147483647 is a position that could not be filled.
"""


def add_commands(commands: "Commands") -> None:
    """Add the command to the command line."""
    one = commands.add_parser(
        "crush",
        help="map inputs through a CRUSH map, as crushtool does",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    one.add_argument("map", type=Path, metavar="MAP", help="a CRUSH map: JSON, compiled, or text")
    one.add_argument("--rule", metavar="R", help="a rule's number or name (default: all)")
    one.add_argument(
        "--num-rep", type=whole(0, REPLICAS_MAX), metavar="N", help="how many replicas or shards (default: as the rule)"
    )
    one.add_argument("--min-x", type=whole(0, X_MAX), metavar="A", help="the first input (default: 0)")
    one.add_argument("--max-x", type=whole(0, X_MAX), metavar="B", help="the last input, with --min-x (default: 1023)")
    one.add_argument("--x", type=whole(0, X_MAX), metavar="X", help="one input")
    weight_help = "a device's reweight, 0 to 1; may be given again"
    one.add_argument("--weight", nargs=2, action="append", default=[], metavar=("OSD", "WEIGHT"), help=weight_help)
    one.add_argument("--out", type=_device, nargs="+", action="extend", default=[], metavar="OSD", help="weight 0")
    one.add_argument("--choose-args", metavar="NAME", help='a set of them, or "none" (default: "0", else "-1")')
    one.add_argument("--pool-id", type=whole(0, X_MAX), metavar="ID", help="hash each input with this pool first")
    one.add_argument("--show-mappings", action="store_true", help="print mappings (default, without another --show)")
    one.add_argument("--show-bad-mappings", action="store_true", help="print those that are too short or have holes")
    one.add_argument("--show-statistics", action="store_true", help="print how many results have which size")
    one.set_defaults(command=_crush)


def _device(text: str) -> int:
    return whole(0, DEVICE_MAX)(text.removeprefix("osd."))


def _crush(arguments: argparse.Namespace) -> int:
    from twin.crush.compile import compile_map  # numpy is not light
    from twin.crush.read import read_map
    from twin.crush.tester import Wanted, printed_lines

    crush, warnings = read_map(arguments.map)
    compiled = compile_map(crush)
    x_min, x_max = _range(arguments)
    wanted = Wanted(
        rules=_rules(arguments, compiled),
        x_min=x_min,
        x_max=x_max,
        replicas=None if arguments.num_rep is None else (arguments.num_rep, arguments.num_rep),
        weights=_weights(arguments),
        choose_args=_choose_args(arguments, compiled),
        pool=arguments.pool_id,
        mappings=arguments.show_mappings or not (arguments.show_bad_mappings or arguments.show_statistics),
        bad=arguments.show_bad_mappings,
        statistics=arguments.show_statistics,
    )
    for warning in warnings:
        sys.stderr.write(f"{warning}\n")
    for block in printed_lines(compiled, wanted):
        sys.stdout.write(block)
    return 0


def _range(arguments: argparse.Namespace) -> tuple[int, int]:
    """The inputs: one, or from and to; with one end missing 0 to 1023, as crushtool has it."""
    if arguments.x is not None:
        if arguments.min_x is not None or arguments.max_x is not None:
            raise InputError(["--x: goes with neither --min-x nor --max-x; allowed: one input, or a range"])
        return arguments.x, arguments.x
    if arguments.min_x is None or arguments.max_x is None:
        if (arguments.min_x, arguments.max_x) != (None, None):
            sys.stderr.write("only one of --min-x and --max-x: like crushtool, this takes 0 to 1023\n")
        return 0, 1023
    if arguments.min_x > arguments.max_x:
        raise InputError([f"--min-x {arguments.min_x}: allowed: up to --max-x {arguments.max_x}"])
    return arguments.min_x, arguments.max_x


def _rules(arguments: argparse.Namespace, compiled: "Compiled") -> tuple[int, ...]:
    if arguments.rule is None:
        return tuple(sorted(compiled.rules))
    named = {rule.name: number for number, rule in compiled.rules.items()}
    text = str(arguments.rule)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else named.get(text, -1)
    if number not in compiled.rules:
        known = ", ".join(f"{rule} ({compiled.rules[rule].name})" for rule in sorted(compiled.rules))
        raise InputError([f"--rule {text}: {arguments.map} has no such rule; allowed: {known or 'none'}"])
    return (number,)


def _weights(arguments: argparse.Namespace) -> dict[int, float]:
    weights = {}
    for device, weight in arguments.weight:
        try:
            weights[_device(device)] = float(weight)
        except (ValueError, argparse.ArgumentTypeError):
            raise InputError(
                [f"--weight {device} {weight}: allowed: a device number, and a number from 0 to 1"]
            ) from None
        if not 0 <= weights[_device(device)] <= 1:
            raise InputError([f"--weight {device} {weight}: allowed: a number from 0 to 1"])
    return weights | dict.fromkeys(arguments.out, 0.0)


def _choose_args(arguments: argparse.Namespace, compiled: "Compiled") -> str | None:
    from twin.crush.tester import default_choose_args

    name: str | None = arguments.choose_args
    if name is None:
        return default_choose_args(compiled)
    if name != "none" and name not in compiled.drawn:
        known = ", ".join((*compiled.drawn, "none"))
        raise InputError([f"--choose-args {name}: {arguments.map} has no such set; allowed: {known}"])
    return None if name == "none" else name
