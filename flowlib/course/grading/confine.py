"""What Linux lets a process give up for itself and its children, root or not: `landlock`, system calls, and limits.

Each is used where it exists. Landlock (Linux 5.13; signals and abstract sockets 6.12) bounds which files are read and
written; the filter of system calls (seccomp) bounds what Landlock does not know: modes, owners and times of files,
shared memory that would be left behind or counted for nobody, sockets, other processes' memory. `namespaces` does more.
"""

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # numbers of the system calls, the same on all architectures
_DUMPABLE, _SECCOMP, _SUBREAPER, _NO_NEW_PRIVILEGES = 4, 22, 36, 38  # of prctl
_EXECUTE, _WRITE_FILE, _READ = 1 << 0, 1 << 1, 1 << 2 | 1 << 3
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
# Remove folders and files (4, 5); make devices, folders, files, sockets, pipes and links (6 to 12).
_CHANGE = sum(1 << bit for bit in range(4, 13))
_NETWORK, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
LARGEST_FILE = 256 * 2**20
MOST_FILES = 512  # open at a time, sockets and pipes too, in which the system keeps memory for a process
_READ_ANY = 1 << 2  # the right of root to read what others have closed to all but themselves
_CAPSET = {"x86_64": 126, "aarch64": 91}
_OPEN, _OPEN_ANEW = {"x86_64": ((2, 24), (257, 32)), "aarch64": ((56, 32),)}, 437  # and where their flags stand
_CLONE, _CLONE_ANEW, _ANEW = {"x86_64": 56, "aarch64": 220}, 435, 0x7E020000  # flags of new namespaces

# Numbers of system calls by machine. Always refused, and refused where no namespace keeps other files out of reach:
_REFUSED = {
    "x86_64": (
        (319, 447, 101, 310, 311, 165, 166, 155, 272, 308, 250, 248, 249, 321, 298, 323, 425, 29, 68, 64, 240, 304,
         438),
        (76, 90, 91, 268, 452, 92, 93, 94, 260, 188, 189, 190, 197, 198, 199, 132, 235, 261, 280),
        (41, 0xC000003E),
    ),
    "aarch64": (
        (279, 447, 117, 270, 271, 40, 39, 41, 97, 268, 219, 217, 218, 280, 241, 282, 425, 194, 186, 190, 180, 265, 438),
        (45, 52, 53, 452, 54, 55, 5, 6, 7, 14, 15, 16, 88),
        (198, 0xC00000B7),
    ),
}  # fmt: skip


def landlock() -> int:
    """The version of Landlock that the system has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, ctypes.CDLL(None).syscall(_CREATE, None, ctypes.c_size_t(0), 1))


def restrict_files(folder: Path, readable: Iterable[Path], version: int | None = None) -> bool:
    """Give up all files but those in `folder`, reading those in `readable`, and some devices; whether it could be done.

    Args:
        version: of Landlock to use, where the system has a later one.
    """
    version = min(landlock(), 7 if version is None else version)
    if version < 1:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    writes = _WRITE_FILE | _CHANGE | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    rights = writes | _READ | _EXECUTE | (_IOCTL if version >= 5 else 0)
    rules = struct.pack("=QQQ", rights, _NETWORK, _SCOPES)
    rules = rules[: 24 if version >= 6 else 16 if version >= 4 else 8]
    ruleset = libc.syscall(_CREATE, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return False
    of_files = rights & (_WRITE_FILE | _TRUNCATE | _EXECUTE | 1 << 2 | _IOCTL)
    allowed = [(path, _READ | _EXECUTE) for path in readable] + [(folder, rights)]
    allowed += [(Path(name), of_files) for name in DEVICES]
    try:
        for path, right in allowed:
            if not path.exists():
                continue
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            right = right if path.is_dir() else right & of_files
            added = libc.syscall(_ADD, ruleset, 1, struct.pack("=Qi", right, opened), 0)
            os.close(opened)
            if added != 0:
                return False
        return no_new_privileges() and libc.syscall(_RESTRICT, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def restrict_calls(*, files: bool) -> bool:
    """Refuse system calls that an answer has no need of; with `files`, also changes of modes, owners and times."""
    known = _REFUSED.get(platform.machine()) if sys.platform == "linux" else None
    if known is None or sys.maxsize < 2**32:
        return False
    always, of_files, (socket, machine) = known
    load, equal, above, any_of, both, back = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
    allow, refuse = 0x7FFF0000, 0x00050001  # with "Operation not permitted"
    program = [(load, 0, 0, 4), (equal, 1, 0, machine), (back, 0, 0, refuse), (load, 0, 0, 0)]
    program += [(above, 0, 1, 0x40000000), (back, 0, 0, refuse)]  # the numbers of another way to call
    for number in (*always, *(of_files if files else ())):
        program += [(equal, 0, 1, number), (back, 0, 0, refuse)]
    # In namespaces of its own a process has rights. The later call hides its flags: as if there were none.
    program += [(equal, 0, 1, _CLONE_ANEW), (back, 0, 0, 0x00050000 | errno.ENOSYS)]
    program += [(equal, 0, 4, _CLONE[platform.machine()]), (load, 0, 0, 16), (any_of, 0, 1, _ANEW)]
    program += [(back, 0, 0, refuse), (back, 0, 0, allow)]
    # Before its version 3 Landlock lets a file be emptied: by its name, or while it is opened to be read.
    for number, place in _OPEN[platform.machine()] if files else ():
        program += [(equal, 0, 5, number), (load, 0, 0, place), (both, 0, 0, 0x203), (equal, 0, 1, 0x200)]
        program += [(back, 0, 0, refuse), (back, 0, 0, allow)]
    program += [(equal, 0, 1, _OPEN_ANEW), (back, 0, 0, 0x00050000 | errno.ENOSYS)] if files else []
    program += [(equal, 0, 3, socket), (load, 0, 0, 16), (equal, 1, 0, 1), (back, 0, 0, refuse), (back, 0, 0, allow)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("=HxxxxxxQ", len(program), ctypes.addressof(code)))
    return no_new_privileges() and ctypes.CDLL(None).prctl(_SECCOMP, 2, header, 0, 0) == 0


def no_new_privileges() -> bool:
    """Give up that a program could have more rights than this one."""
    return bool(ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0)


def give_up_rights(*, read_any: bool) -> bool:
    """Give up all rights of root; with `read_any` but to read what others have closed. Linux only."""
    number = _CAPSET.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return False
    kept = _READ_ANY if read_any and os.geteuid() == 0 else 0
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(kept, kept)
    return bool(ctypes.CDLL(None).syscall(number, header, rights) == 0)


def keep_memory_private(private: bool = True) -> None:
    """Let no other process of this user read this one's memory. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DUMPABLE, 0 if private else 1, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none is lost from sight. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def default_signals() -> None:
    """Let each signal do what it does by default, but for those that Python or the stage ignore on purpose.

    A grader that was started in the background of a shell ignores SIGQUIT, one under nohup SIGHUP, and so would all
    that it starts: an answer whose child ends itself by such a signal would go on in two processes.
    """
    for number in signal.valid_signals() - {signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def limit_files_and_processes(processes: int) -> None:
    """Bound the size of a file written, and how many more processes this user may start (root may start any number)."""
    import resource

    import psutil

    _lower(resource.RLIMIT_FSIZE, LARGEST_FILE)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, MOST_FILES)
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
