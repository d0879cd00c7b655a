"""Our Python code and the libraries it needs, copied from the Python that builds the image into the image's root."""

import importlib.metadata
import re
import shutil
import sys
from pathlib import Path

from core.errors import InputError
from drivers.image.profile import PYTHON
from drivers.image.tools import BuildFailure, call

DISTRIBUTION = "moxie-rack"
REQUIRED = ("msgspec", "kazoo", "pyghmi", "pyroute2", "dbus-fast", "cryptography", "prometheus-client", "packaging")
"""What our code on a node imports: the project's own dependencies and those of its extra ``drivers``."""
PACKAGES = ("core", "formats", "trial", "drivers")
"""Our packages that a node runs; the simulated rack stays at home."""
HOME = "usr/lib/moxie"
DEPTH_MAX = 50
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
_TESTS = re.compile(
    r"(^|/)tests?(/|$)|\.(c|h|pyx|pxd|pyi)$|^\.\./|(^|/)__pycache__/|\.dist-info/(RECORD|INSTALLER|direct_url.json)$|(^|/)REQUESTED$"
)
INTERPRETER = "bin/python3"
_RACK = f"""#!/{HOME}/{INTERPRETER}
import sys

from drivers.cli import main

sys.exit(main())
"""


def needed() -> tuple[importlib.metadata.Distribution, ...]:
    """The installed distributions that a node's code needs, directly or not, by name.

    Raises: InputError if one of them is not installed here.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    missing: list[str] = []
    wanted = list(REQUIRED)
    while wanted:
        name = wanted.pop()
        if _plain(name) in found:
            continue
        try:
            one = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        found[_plain(name)] = one
        wanted += [needs for text in one.requires or () if (needs := _wanted(text))]
        if len(found) > DEPTH_MAX:
            raise BuildFailure(f"{DISTRIBUTION}: needs more than {DEPTH_MAX} distributions")
    if missing:
        raise InputError([f"{', '.join(sorted(missing))}: not installed beside this rack; remedy: make setup"])
    return tuple(found[name] for name in sorted(found))


def copy_code(root: Path, sources: Path) -> None:
    """Copy our packages, their libraries and the command ``rack`` into a root.

    ``sources``: the folder that holds our packages. Raises: InputError, BuildFailure.
    """
    check_python()
    home = root / HOME
    home.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        shutil.copytree(sources / package, home / package, ignore=_LEFT_OUT)
    shutil.rmtree(home / "drivers/image/root", ignore_errors=True)  # it is the image's root already
    for one in needed():
        for file in sorted(one.files or (), key=str):
            if _TESTS.search(str(file)):
                continue
            target = home / str(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    rack = root / "usr/bin/rack"
    rack.write_text(_RACK)
    for path in sorted((home, *home.rglob("*"))):
        path.chmod(0o755 if path.is_dir() else 0o644)
    rack.chmod(0o755)
    make_interpreter(home, Path(f"../../../bin/python{PYTHON}"), Path("/") / HOME)


def make_interpreter(home: Path, python: Path, code: Path) -> None:
    """Make a Python in ``home`` that finds ``code`` before Debian's libraries: Ceph brings older ones of that name.

    It is a virtual environment over the system's Python, whose libraries (``rados``) it finds as well. Ceph's own
    programs go on with the system's and never see ours. Source: PEP 405, and Python's documentation of ``site``.
    """
    settings = {"home": "/usr/bin", "include-system-site-packages": "true", "version": f"{PYTHON}.0"}
    place = home / f"lib/python{PYTHON}/site-packages"
    place.mkdir(parents=True)
    (home / INTERPRETER).parent.mkdir()
    (home / INTERPRETER).symlink_to(python)
    files = {
        home / "pyvenv.cfg": "".join(f"{name} = {value}\n" for name, value in settings.items()),
        place / f"{DISTRIBUTION}.pth": f"{code}\n",
    }
    for path, text in files.items():
        path.write_text(text)
        path.chmod(0o644)
    for path in (home / "lib", home / f"lib/python{PYTHON}", place, home / "bin"):
        path.chmod(0o755)


def compile_code(root: Path) -> None:
    """Compile all Python of a root to byte code that is used whatever the time stamps say: booting must not compile.

    Raises: BuildFailure.
    """
    for cache in sorted(root.glob("usr/lib/**/__pycache__")):
        shutil.rmtree(cache)
    places = [f"/{HOME}", f"/usr/lib/python{PYTHON}", "/usr/lib/python3/dist-packages"]
    program = (f"/usr/bin/python{PYTHON}", "-I", "-S", "-B", "-m", "compileall", "-q", "-j", "1")
    call(
        ("chroot", str(root), *program, "--invalidation-mode", "unchecked-hash", *places),
        seconds=600,
        variables={"PYTHONHASHSEED": "0"},
    )


def check_python() -> None:
    """Check that libraries compiled for this Python run in the image. Raises: InputError."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != PYTHON:
        raise InputError([f"Python {here}: the image's is {PYTHON}; needed: rack in a Python {PYTHON}"])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wanted(requirement: str) -> str:
    """The distribution that a requirement names, if it holds in the image; empty otherwise. Extras are not wanted."""
    from packaging.requirements import Requirement

    one = Requirement(requirement)
    here = {"python_full_version": f"{PYTHON}.0", "python_version": PYTHON, "sys_platform": "linux", "extra": ""}
    return one.name if one.marker is None or one.marker.evaluate(here) else ""
