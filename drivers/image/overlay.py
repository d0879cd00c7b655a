"""What belongs to every image: the words its kernel starts with, and the tree that is laid over Debian's."""

from pathlib import Path

from drivers.image.hardening import KERNEL_WORDS, lay_over

WORDS = ("quiet", "net.ifnames=0", "panic=30")
"""No chatter of the kernel on a serial line, the card's name as the initrd knows it, and a dead system starts anew."""


def kernel_words() -> tuple[str, ...]:
    """The words of the kernel command line that belong to the image."""
    return (*WORDS, *KERNEL_WORDS)


def overlay(root: Path) -> None:
    """Lay our units, rules and settings over a root, and harden it."""
    lay_over(root)
