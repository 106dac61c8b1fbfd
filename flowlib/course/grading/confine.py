"""What Linux can forbid a process, without being root: writing elsewhere, signals, unbounded memory and files.

Landlock (Linux 5.13, signals 6.12) lets a process give up rights for itself and all its children: here the right to
write, make or delete files outside its folder, to trace or to signal other processes. Where it is missing, on older
kernels and other systems, these limits are not there, and the grader relies on its other means: processes are watched
and killed from outside, and each submission gets a copy of the library of its own.
"""

import ctypes
import os
import struct
import sys
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # numbers of the system calls, the same on all architectures
_NO_NEW_PRIVILEGES, _SUBREAPER = 38, 36  # of prctl
_WRITE_FILE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
# Remove folders and files (4, 5); make devices, folders, files, sockets, pipes and links (6 to 12).
_CHANGE = sum(1 << bit for bit in range(4, 13))
_SCOPE_SIGNAL = 1 << 1
LARGEST_FILE = 256 * 2**20


def landlock() -> int:
    """The version of Landlock that the system has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, ctypes.CDLL(None).syscall(_CREATE, None, ctypes.c_size_t(0), 1))


def confine(folder: Path) -> bool:
    """Give up writing outside `folder`, and signals to processes outside; whether the system could do so."""
    version = landlock()
    if version < 1:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    rights = _WRITE_FILE | _CHANGE | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rules = struct.pack("=QQQ", rights, 0, _SCOPE_SIGNAL if version >= 6 else 0)
    rules = rules[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = libc.syscall(_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    try:
        allowed = {folder: rights, Path("/dev/null"): rights & (_WRITE_FILE | _TRUNCATE)}
        for path, right in allowed.items():
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            added = libc.syscall(_ADD, ruleset, 1, struct.pack("=Qi", right, opened), 0)
            os.close(opened)
            if added != 0:
                return False
        return libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and libc.syscall(_RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none is lost from sight. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def limit_files_and_processes(processes: int) -> None:
    """Bound the size of a file written, and how many more processes this user may start (root may start any number)."""
    if sys.platform == "win32":
        return
    import resource

    import psutil

    _lower(resource.RLIMIT_FSIZE, LARGEST_FILE)
    _lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        mine = os.getuid()
        tasks = sum(
            entry.info["num_threads"] or 0
            for entry in psutil.process_iter(["uids", "num_threads"])
            if entry.info["uids"] and entry.info["uids"].real == mine
        )
        _lower(resource.RLIMIT_NPROC, tasks + processes + 256)  # which counts threads too


def limit_memory(size: int) -> None:
    """Bound what this process may take from the system from now on, in bytes. Linux only."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + size)


def _lower(limit: int, value: int) -> None:
    import resource

    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))
