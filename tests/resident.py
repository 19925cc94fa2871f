"""The memory that a process holds."""

import os
from pathlib import Path


def resident_bytes(process: int | str = "self") -> int:
    """Return the resident memory of a process, in bytes.

    Raises:
        OSError: if there is no such process, or on other systems than Linux.
    """
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
