"""A process of its own that reads and writes the guard export of one volume, asked over its standard input.

It exists because of the kernel: to close a file that is served through FUSE is a call to its server, and a process
that is started closes all it inherits. Were the file open in the supervisor, no program could be started there any more
while one volume hangs. It imports as little as possible, for it is started on the way to a takeover.

In: ``R`` or ``W``, ten digits (an offset), for ``W`` 4 KiB. Out: three digits (an error number, 000 for none), for a
read 4 KiB. At the start, once the export is open: ``000``, or why it could not be opened.
"""

import errno
import mmap
import os
import sys
import time

BLOCK_BYTES = 4_096
POLL_S = 0.002


def opened(path: str, bytes_min: int) -> int:
    """Wait until the export shows the image, which the file that it covers does not, and open it past every cache."""
    while os.stat(path).st_size < bytes_min:  # noqa: PTH116 - pathlib takes as long to import as all the rest
        time.sleep(POLL_S)
    return os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)


def taken(size: int) -> bytes:
    """Read exactly so many bytes of standard input; none at its end."""
    found = b""
    while len(found) < size:
        more = os.read(0, size - len(found))
        if not more:
            return b""
        found += more
    return found


def said(number: int, raw: bytes = b"") -> None:
    os.write(1, b"%03d" % number + raw)


def main(path: str, bytes_min: int) -> None:
    """Answer until standard input ends."""
    try:
        handle = opened(path, bytes_min)
    except OSError as error:
        said(error.errno or errno.EIO)
        return
    said(0)
    page = mmap.mmap(-1, BLOCK_BYTES)  # direct I/O wants memory that is aligned to a page
    while head := taken(11):
        at = int(head[1:])
        try:
            if head[:1] == b"R":
                os.preadv(handle, [page], at)
                said(0, page[:])
            else:
                page[:] = taken(BLOCK_BYTES)
                os.pwritev(handle, [page], at)
                said(0)
        except OSError as error:
            said(error.errno or errno.EIO)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
