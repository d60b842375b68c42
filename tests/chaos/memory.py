"""What a process holds, from /proc."""

from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Resident set size; 0 if the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def open_files(pid: int) -> int:
    """How many descriptors a process has open; 0 if it is gone."""
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0
