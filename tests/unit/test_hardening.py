"""The hardening of images: every test here fails when the overlay, the units or the kernel's words lose some of it."""

import json
import stat
from pathlib import Path

import pytest

from core.errors import InputError
from drivers.finding import Finding
from drivers.image import exposure, yardstick
from drivers.image.hardening import ENABLED, KERNEL_WORDS, LOCKED, MASKED, MOUNTS_FOR_ALL, OVERLAY, lay_over
from drivers.image.unpacked import Entry

UNITS = OVERLAY / "etc/systemd/system"
SHADOW = "root:$y$j9T$abc$def:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nguest::19000:0:99999:7:::\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small Debian with everything that should not stay in it."""
    root = tmp_path / "root"
    for folder in ("etc/systemd/system", "usr/bin", "lib/systemd/system"):
        (root / folder).mkdir(parents=True)
    (root / "etc/shadow").write_text(SHADOW)
    (root / "lib/systemd/system/nftables.service").write_text("[Service]\nExecStop=/usr/sbin/nft flush ruleset\n")
    su = root / "usr/bin/su"
    su.touch()
    su.chmod(0o4755)
    return root


def of(root: Path) -> list[Finding]:
    """All that is found in a root, without what needs systemd or nft."""
    entries = [
        Entry(
            kind="-",
            rights=stat.filemode(path.stat().st_mode)[1:],
            uid=0,
            gid=0,
            path="/" + str(path.relative_to(root)),
        )
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    ]
    found = [*exposure.logins(root, entries), *exposure.files(entries), *exposure.read_only(root)]
    return [*found, *(one for one in exposure.doors(root) if one.about != "nft --check")]


def errors(root: Path) -> list[str]:
    """What is wrong, by check and subject."""
    return [f"{finding.check}: {finding.about}" for finding in of(root) if finding.severity == "error"]


def test_a_bare_debian_is_told_everything_that_it_lacks(root: Path) -> None:
    assert errors(root) == [
        "logins: masked units",
        "logins: /etc/shadow",
        "files: set-user or set-group programs",
        "root: /",
        "root: logs",
        "doors: /etc/nftables.conf",
    ]


def test_what_is_laid_over_leaves_nothing_to_complain_about(root: Path) -> None:
    lay_over(root)
    assert errors(root) == []
    lay_over(root)
    assert errors(root) == []


def test_no_account_keeps_a_password_set_or_empty(root: Path) -> None:
    lay_over(root)
    rows = [line.split(":") for line in (root / "etc/shadow").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["root", LOCKED], ["daemon", LOCKED], ["guest", LOCKED]]
    (root / "etc/shadow").write_text(SHADOW.replace("$y$j9T$abc$def", "*"))
    assert errors(root) == ["logins: /etc/shadow"]


@pytest.mark.parametrize("unit", ["serial-getty@.service", "ssh.service", "emergency.service", "debug-shell.service"])
def test_a_unit_that_would_let_somebody_in_is_missed_as_soon_as_it_is_not_masked(root: Path, unit: str) -> None:
    lay_over(root)
    assert unit in MASKED
    (root / "etc/systemd/system" / unit).unlink()
    assert errors(root) == ["logins: masked units"]


def test_a_login_server_or_a_key_in_the_image_is_an_error(root: Path) -> None:
    lay_over(root)
    (root / "usr/sbin").mkdir()
    (root / "usr/sbin/sshd").touch()
    (root / "root/.ssh").mkdir(parents=True)
    (root / "root/.ssh/authorized_keys").touch()
    assert errors(root) == ["logins: servers", "logins: keys"]


def test_a_file_that_everybody_may_write_is_an_error(root: Path) -> None:
    lay_over(root)
    (root / "etc/open").touch()
    (root / "etc/open").chmod(0o666)
    assert errors(root) == ["files: files that everybody may write"]


@pytest.mark.parametrize("hook", ["input", "forward"])
def test_rules_that_let_in_what_they_do_not_name_are_an_error(root: Path, hook: str) -> None:
    lay_over(root)
    rules = root / "etc/nftables.conf"
    text = rules.read_text()
    assert f"hook {hook} priority filter; policy drop;" in text
    rules.write_text(text.replace(f"hook {hook} priority filter; policy drop;", f"hook {hook} priority filter;"))
    assert errors(root) == [f"doors: {hook}"]


def test_the_rules_touch_no_table_but_their_own() -> None:
    text = (OVERLAY / "etc/nftables.conf").read_text()
    assert "\nflush ruleset" not in text
    assert text.count("table inet firewall") == 3
    assert "ExecStop=\n" in (UNITS / "nftables.service.d/moxie.conf").read_text()


@pytest.mark.parametrize("unit", [unit for unit in sorted(ENABLED) if unit.endswith(".service")])
def test_every_unit_of_ours_is_confined(unit: str) -> None:
    files = [path for path in (UNITS / unit, UNITS / f"{unit}.d/moxie.conf") if path.is_file()]
    said = "".join(path.read_text() for path in files)
    must = [key for key in exposure.UNIT_MUST if not (key == "ProtectSystem" and unit in MOUNTS_FOR_ALL)]
    assert [key for key in must if f"\n{key}=" not in said] == []
    assert "NoNewPrivileges=yes" in said


def test_a_unit_that_loses_its_confinement_is_found(root: Path) -> None:
    lay_over(root)
    file = root / "etc/systemd/system/moxie.service"
    file.write_text(file.read_text().replace("NoNewPrivileges=yes\n", ""))
    found = [finding for finding in exposure.units(root) if finding.about == "moxie.service"]
    assert any(finding.severity == "error" and "NoNewPrivileges" in finding.measured for finding in found)


def test_the_node_does_not_start_without_its_firewall() -> None:
    for unit in ("moxie.service", "moxie-join.service"):
        assert "Requires=nftables.service" in (UNITS / unit).read_text()


def test_the_supervisor_has_the_capabilities_it_needs_and_no_other() -> None:
    line = next(
        line for line in (UNITS / "moxie.service").read_text().splitlines() if line.startswith("CapabilityBoundingSet=")
    )
    assert line.partition("=")[2].split() == [
        *("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID"),
        *("CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE", "CAP_KILL"),
    ]


def test_mitigations_stay_on_and_modules_are_signed() -> None:
    assert {"mitigations=auto", "module.sig_enforce=1", "lockdown=confidentiality", "slab_nomerge"} <= {*KERNEL_WORDS}
    assert not [word for word in KERNEL_WORDS if word.endswith("=off") and word != "debugfs=off"]


def test_sysctls_are_read_as_systemd_would(tmp_path: Path) -> None:
    for folder, name, text in (
        ("usr/lib/sysctl.d", "50-first.conf", "kernel.sysrq = 438\nvm.a/b = 1\n"),
        (
            "etc/sysctl.d",
            "90-later.conf",
            "# kernel.sysrq = 7\nkernel.sysrq=0\n-kernel.new = 1\nnet.ipv4.conf.*.x = 0\n",
        ),
        ("usr/lib/sysctl.d", "90-later.conf", "kernel.sysrq = 99\n"),
    ):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / name).write_text(text)
    kernel = {"kernel.sysrq": "1", "net.ipv4.conf.all.x": "1", "net.ipv4.conf.eth0.x": "1", "net.ipv4.x": "1"}
    assert yardstick.sysctls(tmp_path, kernel) == {
        "kernel.sysrq": "0",
        "net.ipv4.conf.all.x": "0",
        "net.ipv4.conf.eth0.x": "0",
        "net.ipv4.x": "1",
    }


def test_the_overlay_betters_every_sysctl_that_the_yardstick_looks_at() -> None:
    default = yardstick.debian()
    ours = yardstick.sysctls(OVERLAY, default.kernel)
    wanted = {
        "kernel.kptr_restrict": "2",
        "kernel.yama.ptrace_scope": "3",
        "kernel.sysrq": "0",
        "kernel.kexec_load_disabled": "1",
        "user.max_user_namespaces": "0",
        "fs.protected_regular": "2",
        "net.core.bpf_jit_harden": "2",
        "net.ipv4.conf.all.accept_redirects": "0",
        "net.ipv6.conf.default.accept_ra": "0",
    }
    assert {key: ours[key] for key in wanted} == wanted
    assert all(default.kernel[key] != value for key, value in wanted.items())


def test_a_checker_that_is_none_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such program"):
        yardstick.find_checker(tmp_path / "nothing")
    config = tmp_path / "config"
    config.touch()
    with pytest.raises(InputError, match="no report"):
        yardstick.measure(("/bin/echo",), config, "", {})


def test_the_checkers_report_is_counted_by_kind(tmp_path: Path) -> None:
    program, config = tmp_path / "checker", tmp_path / "config"
    rows = [
        {"option_name": name, "type": kind, "reason": "r", "decision": "d", "desired_val": "1", "check_result": "OK"}
        | {"check_result_bool": passed}
        for name, kind, passed in (("a", "cmdline", True), ("b", "cmdline", False), ("c", "sysctl", True))
    ]
    program.write_text(f"#!/bin/sh\necho '{json.dumps(rows)}'\n")
    program.chmod(0o755)
    config.touch()
    score = yardstick.measure(yardstick.find_checker(program), config, "quiet", {"kernel.sysrq": "0"})
    assert (score.passed, score.all) == ({"cmdline": 1, "sysctl": 1}, {"cmdline": 2, "sysctl": 1})
    assert [check.option_name for check in score.failed] == ["b"]
