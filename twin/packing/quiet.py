"""Keeping a library's own lines off stdout, where ``--json`` promises one object and nothing else."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT = 1


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what C code writes to stdout nowhere meanwhile; Python's own buffer is not touched.

    HiGHS prints a line for some plans whatever it is told (``transformNewIntegerFeasibleSolution``, scipy 1.17).
    Without a stdout to redirect, nothing happens.
    """
    flush = getattr(ctypes.CDLL(None), "fflush", None)
    try:
        kept = os.dup(STDOUT)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if flush is not None:
        flush(None)
    os.dup2(nowhere, STDOUT)
    try:
        yield
    finally:
        if flush is not None:
            flush(None)
        os.dup2(kept, STDOUT)
        os.close(nowhere)
        os.close(kept)
