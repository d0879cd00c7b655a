"""The wheel holds exactly the named packages and the files they need at run time."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tests.tidy.source import PACKAGES, ROOT, modules, tracked


def test_every_package_is_named_in_pyproject() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    there = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in modules(*PACKAGES)}
    assert sorted(named) == sorted(there)


def test_every_pin_is_exact_and_every_dependency_pinned() -> None:
    pins = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    assert [pin for pin in pins if pin.count("==") != 1] == []
    names = {pin.split("==")[0].lower() for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(d for extra in ("twin", "dev") for d in project["optional-dependencies"][extra]),
    ]
    assert [want for want in wanted if want.split(">=")[0].lower() not in names] == []


def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    wanted = ("pyproject.toml", "README.md", "LICENSE", *PACKAGES)
    for path in tracked():
        relative = path.relative_to(ROOT)
        if relative.parts[0] in wanted:
            (source / relative).parent.mkdir(parents=True, exist_ok=True)
            (source / relative).write_bytes(path.read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("moxie_rack-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packed = {entry for entry in names if ".dist-info/" not in entry}
    data = {"twin/calibration.toml", "twin/report/page.css", "twin/report/page.js", "twin/swarm/menu.toml"}
    data |= {"twin/capacity/assumptions.toml", "twin/crush/crush_ln.json", "twin/scaling/figures.toml"}
    data |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "twin/swarm/profiles").glob("*.toml")}
    image = ROOT / "drivers/image"
    shipped = [
        *image.glob("*.toml"),
        *image.glob("*.sh"),
        *image.glob("*.cfg"),
        *(path for path in image.rglob("root/**/*") if path.is_file()),
    ]
    data |= {path.relative_to(ROOT).as_posix() for path in shipped}
    assert packed == {path.relative_to(ROOT).as_posix() for path in modules(*PACKAGES)} | data
