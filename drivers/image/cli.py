"""``rack image``: images of the system that nodes boot are built, signed, checked and looked at.

Exit codes: 0 done, 1 a step of the build failed, 2 bad input or a machine that cannot.
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from formats.arguments import whole

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FAILED = 1
STATE_MB_MAX = 1_000_000
VERSION_MAX = 64


def add(commands: "Commands") -> None:
    """Add the commands about images to a command line."""
    from drivers.image.harden import add_words

    one = _command(commands, "build", "build an image: kernel, initrd, root, and a signed list of them", _build)
    one.add_argument("--profile", default="minimal", metavar="NAME", help="minimal (default) or hyperconverged")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
    one.add_argument("--key", type=Path, metavar="FILE", help="the key that signs it, from `rack image keys`")
    one.add_argument("--disk", action="store_true", help="write disk.img too: a USB key or a first server's disk")
    one.add_argument("--state-mb", type=whole(16, STATE_MB_MAX), default=1_024, metavar="MB", help="its memory")
    one.add_argument("--mirror", action="append", default=[], metavar="SOURCE", help="a URL or file of apt sources")
    one.add_argument("--version", type=_version, metavar="TEXT", help="what the image calls itself")
    one.add_argument("--compress", choices=("zstd", "lz4", "xz"), default="zstd", help="of the root (default: zstd)")
    one.add_argument("--cache", type=Path, metavar="DIR", help="unpacked packages (default: /var/cache/moxie/images)")
    one.add_argument("--fresh", action="store_true", help="fetch and unpack all packages anew")
    one = _command(commands, "verify", "check signature and every file of an image", _verify)
    one.add_argument("folder", type=Path, metavar="DIR")
    one.add_argument("--key", type=Path, required=True, metavar="FILE", help="the public key, images.pub")
    one = _command(commands, "show", "what an image is, how large, and what is in it", _show)
    one.add_argument("folder", type=Path, metavar="DIR")
    one.add_argument("--packages", action="store_true", help="every package with its version")
    add_words(_command(commands, "harden", "measure how hardened an image is, and say what it lost", _harden))
    one = _command(commands, "keys", "make the two keys that sign and check images", _keys)
    one.add_argument("folder", type=Path, metavar="DIR")


def run(arguments: argparse.Namespace) -> int:
    """Run one of the commands and hand back its exit code. Raises: InputError."""
    command: Callable[[argparse.Namespace], int] = arguments.image_command
    return command(arguments)


def _command(
    commands: "Commands", name: str, text: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
    one.set_defaults(image_command=command)
    return one


def _build(arguments: argparse.Namespace) -> int:
    from drivers.image.build import CACHE, Plan, build
    from drivers.image.profile import profile_of
    from drivers.image.tools import BuildFailure

    plan = Plan(
        profile=profile_of(arguments.profile),
        out=arguments.out.absolute(),
        key=arguments.key,
        mirrors=tuple(arguments.mirror),
        disk=arguments.disk,
        state_mb=arguments.state_mb,
        version=arguments.version or "",
        compress=arguments.compress,
        cache=(arguments.cache or CACHE).absolute(),
        fresh=arguments.fresh,
    )
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:5.0f} s  {text}", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        identity = build(plan, say)
    except BuildFailure as error:
        print(f"rack image build: {error}", file=sys.stderr)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before)
    say("done")
    if plan.key is None:
        print("not signed: no node takes it; sign with --key FILE (rack image keys DIR makes one)", file=sys.stderr)
    print(f"{identity}  {plan.out}")
    return _show(argparse.Namespace(folder=plan.out, packages=False))


def _interrupt(_number: int, _frame: object) -> None:
    """Being told to end is like Ctrl-C: what was begun is taken away."""
    raise KeyboardInterrupt


def _verify(arguments: argparse.Namespace) -> int:
    from drivers.image.manifest import read_manifest, verify

    identity = verify(arguments.folder, arguments.key)
    manifest = read_manifest(arguments.folder)
    print(f"{identity}  {arguments.folder}: {len(manifest.files)} files as they were signed")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from drivers.image.show import packages_of, summary

    sys.stdout.write(summary(arguments.folder))
    if arguments.packages:
        sys.stdout.write(packages_of(arguments.folder))
    return 0


def _harden(arguments: argparse.Namespace) -> int:
    from drivers.image.harden import run

    return run(arguments)


def _keys(arguments: argparse.Namespace) -> int:
    from drivers.image.manifest import make_keys

    private, public = make_keys(arguments.folder)
    print(f"{private}  signs images: keep it off the rack, and a copy somewhere else")
    print(f"{public}  checks them: every node gets it")
    return 0


def _version(text: str) -> str:
    if not (text.isascii() and 0 < len(text) <= VERSION_MAX and all(one.isalnum() or one in ".+~-" for one in text)):
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: allowed: letters, digits and .+~-, at most {VERSION_MAX}")
    return text
