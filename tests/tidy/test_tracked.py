"""What is committed: nothing of the machine it was written on, nothing that came from elsewhere."""

import re

from tests.tidy.source import ROOT, modules, name, tracked

FOREIGN = re.compile(
    r"(?<![\w.])/(?:work|root|home|opt|srv|Users)/\w"  # a path of somebody's machine
    r"|\b(?:pypi|pythonhosted|npmjs|proxy\.golang)\.(?:org|com)\b"  # a registry's host
    r"|--(?:extra-)?index-url|--hash=sha256"
)
FIGURES = {".png", ".xz"}


def test_no_file_names_a_machine_path_or_a_registry() -> None:
    found: list[str] = []
    for path in tracked():
        if path.suffix in FIGURES or path == ROOT / "tests/tidy/test_tracked.py":
            continue
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if match := FOREIGN.search(text):
                found.append(f"{name(path)}:{number}: {match.group()}")
    assert found == []


def test_the_check_for_foreign_names_sees_them() -> None:
    assert FOREIGN.search("see /" + "work/x")
    assert FOREIGN.search("https://" + "pypi.org/simple")
    assert not FOREIGN.search("/moxie/nodes and ../shared/data, /proc/sys/kernel/random/boot_id")


def test_no_recorded_failure_is_committed() -> None:
    assert [name(path) for path in tracked() if "LA-UR-05-7318-failure" in path.name] == []


def test_every_package_folder_is_a_package() -> None:
    folders = {path.parent for path in modules("core", "twin", "drivers")}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_lint_ignore_gives_its_reason() -> None:
    bare = re.compile(r"#\s*(?:noqa|type:\s*ignore)(?!(?::\s*[A-Z0-9, ]+?|\[[\w, -]+\])\s+[#-]\s*\S)")
    found: list[str] = []
    for path in modules("core", "twin", "drivers", "bench", "docs"):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if bare.search(text):
                found.append(f"{name(path)}:{number}: {text.strip()}")
    assert found == []
