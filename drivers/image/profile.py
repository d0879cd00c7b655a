"""What an image is made of: packages, kernel, modules of the first minutes, and what is left out."""

import msgspec

from core.errors import InputError

SUITE = "bookworm"
"""Debian 12: the drivers' compiled Python libraries are for its Python, 3.11."""
PYTHON = "3.11"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of image.

    ``packages``: what Debian is to install beside its smallest system. ``kernel``: the meta package whose newest kernel
    is taken. ``perl``: keep it. ``coldplug``: subsystems whose devices udev looks at during boot, beside what the
    initrd has loaded; none: all. ``slot_mb``: what a slot has for one image; ``space_mb``: what a build takes.
    """

    name: str
    packages: tuple[str, ...]
    kernel: str
    perl: bool = False
    modules_dropped: tuple[str, ...] = ()
    coldplug: tuple[str, ...] = ()
    slot_mb: int = 512
    space_mb: int = 2_500


_BASE = (
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "nftables",
    "python3",
    "e2fsprogs",
    "fdisk",
    "dosfstools",
    "mtools",
    "dnsmasq-base",
    "ipmitool",
)
_CLOUD = (
    "zookeeper",
    "openjdk-17-jre-headless",
    "ceph-mon",
    "ceph-mgr",
    "ceph-mgr-modules-core",
    "ceph-osd",
    "ceph-common",
    "ceph-base",
    "python3-rados",
    "python3-rbd",
    "qemu-utils",
    "qemu-block-extra",
    "lvm2",
    "chrony",
    "procps",
)
PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="minimal",
            packages=_BASE,
            kernel="linux-image-cloud-amd64",
            modules_dropped=("arch/x86/kvm", "drivers/hv", "fs/ceph", "fs/xfs"),
            coldplug=("block", "nvme", "tpm", "watchdog"),
        ),
        Profile(
            name="hyperconverged",
            packages=(*_BASE, *_CLOUD),
            kernel="linux-image-amd64",
            perl=True,
            slot_mb=1_536,
            space_mb=8_000,
        ),
    )
}

PICKED = {
    "ipxe": ("usr/lib/ipxe/undionly.kpxe", "usr/lib/ipxe/snponly.efi"),
    "grub-pc-bin": (),
    "grub-efi-amd64-bin": (),
    "busybox-static": (),
}
"""Packages that are unpacked, not installed, and which of their files go into the root; the build uses others."""

_RULES_DROPPED = (
    *("60-autosuspend*", "60-cdrom*", "60-drm*", "60-evdev*", "60-fido*", "60-input*", "60-sensor*", "60-serial*"),
    *("60-persistent-alsa*", "60-persistent-input*", "60-persistent-storage-tape*", "60-persistent-v4l*", "64-btrfs*"),
    *("70-camera*", "70-joystick*", "70-memory*", "70-mouse*", "70-power*", "70-touchpad*", "70-uaccess*", "7?-seat*"),
    *("73-special*", "75-probe*", "78-sound*", "80-net-setup*", "81-net*", "85-hwclock*", "96-e2scrub*"),
)
"""Rules for devices and users that no server has. Each device event runs through all rules that are there."""

PRUNED = (
    "boot",
    "etc/apt",
    "etc/cron.d",
    "etc/cron.daily",
    "etc/init.d",
    "etc/logrotate.d",
    "etc/motd",
    "etc/rc?.d",
    "etc/rcS.d",
    "etc/skel",
    "etc/udev/hwdb.d",
    "etc/update-motd.d",
    "usr/bin/apt*",
    "usr/bin/dpkg*",
    "usr/lib/apt",
    "usr/lib/dpkg",
    "usr/lib/python3*/ensurepip",
    "usr/lib/python3*/idlelib",
    "usr/lib/python3*/lib2to3",
    "usr/lib/python3*/pydoc_data",
    "usr/lib/python3*/test",
    "usr/lib/python3*/turtledemo",
    "usr/lib/udev/hwdb.bin",
    "usr/lib/udev/hwdb.d",
    *(f"usr/lib/udev/rules.d/{glob}" for glob in _RULES_DROPPED),
    *(
        f"usr/lib/x86_64-linux-gnu/gconv/{glob}.so"
        for glob in ("[!I]*", "I[!B]*", "IBM[!8]*", "IBM8[!5]*", "IBM85[!0]*")
    ),
    "usr/lib/x86_64-linux-gnu/libapt-*",
    "usr/share/bash-completion",
    "usr/sbin/dpkg*",
    "usr/share/bug",
    "usr/share/doc-base",
    "usr/share/dpkg",
    "usr/share/gcc",
    "usr/share/gdb",
    "usr/share/info",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
    "usr/share/pixmaps",
    "usr/share/applications",
    "usr/share/zoneinfo/[A-DF-TV-Z]*",
    "usr/share/zoneinfo/E[a-su-z]*",
    "usr/share/zoneinfo/U[A-SU-Z]*",
    "usr/share/zoneinfo/[a-z]*",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg/info",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/triggers",
    "var/lib/dpkg/alternatives",
    "var/lib/systemd/*",
    "var/log/*",
    "var/tmp/*",
    "tmp/*",
)
"""Globs of what a node never reads: documents, other languages, package tools, caches, and traces of the build.

Of the tables of characters mtools needs one, for names on FAT: code page 850.
"""

PERL = ("usr/bin/perl*", "usr/lib/x86_64-linux-gnu/*perl*", "usr/share/perl*", "usr/bin/deb*", "usr/sbin/update-rc.d")
"""Perl, for which nothing in the smallest image asks once it is installed."""

MODULES_DROPPED = (
    "drivers/comedi",
    "drivers/gpu",
    "drivers/hid",
    "drivers/iio",
    "drivers/infiniband",
    "drivers/input",
    "drivers/media",
    "drivers/net/can",
    "drivers/net/wireless",
    "drivers/staging",
    "drivers/target",
    "drivers/usb/gadget",
    "drivers/xen",
    "drivers/block/drbd",
    "drivers/md/bcache",
    "drivers/misc/mei",
    "drivers/net/wwan",
    "drivers/nvme/target",
    "drivers/platform/surface",
    "drivers/scsi/scsi_debug.ko",
    "fs/afs",
    "fs/btrfs",
    "fs/cifs",
    "fs/gfs2",
    "fs/jfs",
    "fs/nfs",
    "fs/nfsd",
    "fs/ntfs3",
    "fs/ocfs2",
    "fs/orangefs",
    "fs/reiserfs",
    "fs/smb",
    "fs/udf",
    "net/batman-adv",
    "net/bluetooth",
    "net/can",
    "net/dccp",
    "net/ieee802154",
    "net/mac80211",
    "net/mac802154",
    "net/nfc",
    "net/rds",
    "net/sctp",
    "net/smc",
    "net/sunrpc",
    "net/tipc",
    "net/wireless",
    "sound",
)
"""Folders of kernel modules that a rack's node has no use for; some of them are a long history of holes."""

INITRD_MODULES = (
    *("virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi"),
    *("e1000", "e1000e", "igb", "ixgbe", "i40e", "ice", "mlx4_en", "mlx5_core", "bnxt_en", "tg3", "bnx2x"),
    *("ena", "gve", "ixgbevf", "vmxnet3", "8139cp", "r8169"),
    *("ahci", "ata_piix", "nvme", "sd_mod", "megaraid_sas", "mpt3sas", "smartpqi"),
    *("xhci_pci", "ehci_pci", "uhci_hcd", "usb_storage", "uas"),
    *("loop", "squashfs", "overlay", "ext4", "vfat", "nls_ascii", "nls_cp437"),
    "crc32c_generic",
)
"""Kernel modules that fetch or find the root image, as far as the kernel has them, with everything they depend on.

The last one ext4 asks for by an alias that no initrd resolves; in the kernel for virtual machines it is built in.
"""


def profile_of(name: str) -> Profile:
    """The profile of that name. Raises: InputError."""
    if name not in PROFILES:
        raise InputError([f"--profile {name[:40]!r}: no such profile; allowed: {', '.join(PROFILES)}"])
    return PROFILES[name]
