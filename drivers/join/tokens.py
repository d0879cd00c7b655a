"""One-time boot tokens: 256 random bits, of which the boot server keeps only a digest."""

import hashlib
import secrets

import msgspec

BYTES = 32
"""Nobody guesses one within the minutes that it lives, nor in a thousand years."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A new token. ``text`` goes to the machine and is kept nowhere; ``digest`` is what ``core.gate.Gate`` knows."""

    text: str
    digest: str


def make() -> Token:
    """Make a token from the system's randomness."""
    text = secrets.token_hex(BYTES)
    return Token(text=text, digest=digest(text))


def digest(text: str) -> str:
    """What the gate compares, in hex. Who measures how long a comparison takes learns about this, not the token."""
    return hashlib.sha256(text.encode()).hexdigest()
