"""How an image is hardened: files laid over its root, units it never starts, words its kernel starts with.

What each measure is for, what it costs, and what is left out: docs/hardening.md. ``rack image harden`` measures it.
"""

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

OVERLAY = Path(__file__).parent / "root"
"""What is copied over an image's root: configuration only, no program and no secret."""

SPELLED = (
    "spectre_v2=auto",
    "spectre_v2_user=auto",
    "spectre_bhi=on",
    "spec_store_bypass_disable=auto",
    "l1tf=flush",
    "mds=full",
    "tsx_async_abort=full",
    "mmio_stale_data=full",
    "retbleed=auto",
    "spec_rstack_overflow=safe-ret",
    "reg_file_data_sampling=on",
    "tsa=on",
    "indirect_target_selection=on",
    "vmscape=ibpb",
)
"""Mitigations that are on by default, written down: from Linux 6.9 on a kernel can be built with any of them off. Those
that have no word for their default (srbds, gather_data_sampling) are left out."""

KERNEL_WORDS = (
    "init_on_alloc=1",
    "init_on_free=1",
    "slab_nomerge",
    "page_alloc.shuffle=1",
    "randomize_kstack_offset=1",
    "hardened_usercopy=1",
    "mitigations=auto",
    *SPELLED,
    "vsyscall=none",
    "vdso32=0",
    "debugfs=off",
    "proc_mem.force_override=never",
    "module.sig_enforce=1",
    "lockdown=confidentiality",
    "intel_iommu=on",
    "iommu=force",
    "iommu.strict=1",
    "iommu.passthrough=0",
    "oops=panic",
)
"""Words for the kernel's command line, in this order. Source: KSPP recommended settings, and Documentation/admin-guide/
kernel-parameters.txt of Linux 6.1. Debian signs its modules, so that only its own load under ``module.sig_enforce``."""

MASKED = (
    # whoever could log in
    *(f"{name}.service" for name in ("getty@", "serial-getty@", "console-getty", "autovt@", "container-getty@")),
    *("debug-shell.service", "emergency.service", "rescue.service", "ssh.service", "ssh@.service", "ssh.socket"),
    *("systemd-logind.service", "systemd-user-sessions.service", "user@.service", "user-runtime-dir@.service"),
    *(f"systemd-ask-password-{name}.{kind}" for name in ("console", "wall") for kind in ("path", "service")),
    *("getty.target", "getty-static.service", "ctrl-alt-del.target", "systemd-initctl.service"),
    *("systemd-initctl.socket", "systemd-homed.service", "systemd-userdbd.service", "systemd-firstboot.service"),
    # what changes a system that is not to change
    *(
        f"{name}.{kind}"
        for name in ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup")
        for kind in ("service", "timer")
    ),
    *(f"{name}.{kind}" for name in ("man-db", "logrotate", "e2scrub_all") for kind in ("service", "timer")),
    *("e2scrub_reap.service", "ldconfig.service", "fstrim.timer", "systemd-networkd.service", "rsyslog.service"),
    *(f"systemd-{name}.service" for name in ("network-generator", "hwdb-update", "machine-id-commit", "update-done")),
    *(f"systemd-{name}.service" for name in ("timesyncd", "sysusers", "repart", "pstore", "random-seed", "binfmt")),
    # debugging, records of logins, formats and devices that nobody asked for
    *("systemd-coredump.socket", "systemd-coredump@.service", "systemd-journald-audit.socket"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-journal-flush.service"),
    *("proc-sys-fs-binfmt_misc.automount", "proc-sys-fs-binfmt_misc.mount", "sys-kernel-config.mount"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "dev-mqueue.mount"),
    *(f"systemd-pcrphase{name}.service" for name in ("", "-sysinit", "-initrd")),
    *("systemd-rfkill.service", "systemd-rfkill.socket", "modprobe@.service"),
    # what the storage's packages start for others: disks over fabrics, reports to strangers, mapped volumes
    *("nvmefc-boot-connections.service", "nvmf-autoconnect.service", "smartmontools.service", "uuidd.socket"),
    *("ceph-crash.service", "rbdmap.service", "lvm2-monitor.service", "lvm2-lvmpolld.socket", "dm-event.socket"),
)
"""Units that nothing may start. It is also what makes a boot short: each of them starts programs of its own."""

ENABLED = {
    "nftables.service": ("sysinit.target", "/lib/systemd/system"),
    "moxie-readonly.service": ("sysinit.target", "/etc/systemd/system"),
    "moxie-disk.service": ("multi-user.target", "/etc/systemd/system"),
    "moxie-install.service": ("multi-user.target", "/etc/systemd/system"),
    "moxie-settle.timer": ("timers.target", "/etc/systemd/system"),
    "moxie-join.service": ("multi-user.target", "/etc/systemd/system"),
    "moxie-daemons.service": ("multi-user.target", "/etc/systemd/system"),
    "moxie-first.service": ("multi-user.target", "/etc/systemd/system"),
    "moxie.service": ("multi-user.target", "/etc/systemd/system"),
}
"""Units that start with the system: the target that wants each, and where its file is."""

MOUNTS_FOR_ALL = ("moxie-readonly.service", "moxie-disk.service")
"""Units whose work is to mount for the whole system: in a mount namespace of their own it would go with them."""

LOCKED = "!*"
"""A password field that no password matches and no key login accepts."""
_UNITS = Path("etc/systemd/system")


def lay_over(root: Path) -> None:
    """Harden the file tree of an image: lay the overlay over it, mask and enable units, lock every account.

    Nothing keeps a set-user or set-group bit: nobody but root runs here, and services run with NoNewPrivileges.
    """
    for path in sorted(OVERLAY.rglob("*")):
        _lay(path, root / path.relative_to(OVERLAY))
    for unit in MASKED:
        link(root / _UNITS / unit, "/dev/null")
    for unit, (target, home) in ENABLED.items():
        link(root / _UNITS / f"{target}.wants" / unit, f"{home}/{unit}")
    link(root / _UNITS / "default.target", "/lib/systemd/system/multi-user.target")
    lock_accounts(root)
    for path in privileged(root):
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~(stat.S_ISUID | stat.S_ISGID))


def lock_accounts(root: Path) -> None:
    """Leave no account of ``root`` with a password, neither set nor empty."""
    for name in ("shadow", "shadow-"):
        file = root / "etc" / name
        if file.is_file():
            rows = [line.split(":") for line in file.read_text(encoding="utf-8").splitlines() if ":" in line]
            for row in rows:
                row[1] = LOCKED
            file.write_text("".join(":".join(row) + "\n" for row in rows), encoding="utf-8")


def privileged(root: Path) -> Iterator[Path]:
    """Find the programs below ``root`` that run with another's rights: files with a set-user or set-group bit."""
    for path in sorted(root.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            yield path


def _lay(path: Path, target: Path) -> None:
    """Copy one file or make one folder, readable by everybody and writable by its owner, whatever umask made ours."""
    if path.is_dir():
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
    elif "__pycache__" not in path.parts:
        target.unlink(missing_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def link(path: Path, to: str) -> None:
    """Make ``path`` a symbolic link, in place of whatever is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(to)
