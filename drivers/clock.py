"""The one reader of the machine's clock: the node's own monotonic time, in milliseconds, the same for all processes."""

import time


def now_ms() -> int:
    """Milliseconds of CLOCK_MONOTONIC: never runs backwards, and the same number in every process of one boot."""
    return time.monotonic_ns() // 1_000_000


def seconds() -> float:
    """Seconds of the same clock with all its digits, for measuring durations only."""
    return time.monotonic()


def wall_text() -> str:
    """The time of day in UTC, ISO 8601, for log lines only; nothing is ever decided by it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def wall_ms() -> int:
    """Milliseconds since 1970 by the time of day, for certificates and for comparing clocks; may jump."""
    return time.time_ns() // 1_000_000
