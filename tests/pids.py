"""Whether processes that a test started, or had started, still run."""

import psutil

__all__ = ["alive"]


def alive(pid: int) -> bool:
    """Tell whether the process runs. A zombie does not; that nobody asked for its exit code is its parent's matter."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
