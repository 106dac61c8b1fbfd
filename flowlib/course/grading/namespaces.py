"""A world of its own for a process: other users, processes, files, network and shared memory are not there (Linux).

The files of this world are the interpreter, the packages and the data, which can be read, and the process's own folder,
which is memory of a bounded size and gone afterwards. There is no path to anything else: no checkout, no home, no other
submission, no reference.
"""

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from flowlib.course.grading.confine import DEVICES, give_up_rights

_MOUNTS, _UTS, _IPC, _USER, _PROCESSES, _NETWORK = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_NOSUID, _NODEV, _NOEXEC, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR, _AT_RECURSIVE = 442, 0x8000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}


def enter() -> bool:
    """Leave the system's namespaces, as far as that needs no fork; whether it could be done.

    The next process that this one forks is the first of its own, and ends all others with it.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _PIVOT_ROOT:
        return False
    user, group = os.getuid(), os.getgid()
    kinds = _MOUNTS | _UTS | _IPC | _PROCESSES | _NETWORK
    if _libc().unshare(kinds | _USER) != 0:
        return False
    try:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        os._exit(17)  # half in a namespace: nothing can run here
    return True


def settle(place: Path, folder: Path, readable: Iterable[Path], hidden: Iterable[Path], size: int) -> bool:
    """Make `place` the root of all files: `readable` as it is, less `hidden`, and `folder`, empty, of `size` bytes."""
    libc = _libc()
    if libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None) != 0:
        return False
    options = f"size={size},mode=755".encode()
    if libc.mount(b"tmpfs", bytes(place), b"tmpfs", _NOSUID | _NODEV, options) != 0:
        return False
    for path in _outermost(readable):
        if not _show(path, place / path.relative_to("/")):
            return False
    for path in hidden:
        within = bytes(place / path.relative_to("/"))
        if os.path.isdir(within) and libc.mount(b"tmpfs", within, b"tmpfs", _NOSUID | _NODEV, b"size=4k,mode=500") != 0:
            return False
    for link in ("/bin", "/sbin", "/lib", "/lib64"):
        if os.path.islink(link):
            os.symlink(os.readlink(link), place / link[1:])
    for name in DEVICES:
        _show(Path(name), place / name[1:], writable=True)
    for name in ("tmp", "dev/shm", "proc"):
        (place / name).mkdir(parents=True, exist_ok=True)
    (place / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
    libc.mount(b"proc", bytes(place / "proc"), b"proc", _NOSUID | _NODEV | _NOEXEC, None)  # not in every container
    os.chdir(place)
    machine = os.uname().machine
    if libc.syscall(_PIVOT_ROOT[machine], b".", b".") != 0 or libc.umount2(b".", 2) != 0:
        return False
    os.chdir(folder)
    return give_up_rights(read_any=False)  # no right to change any of this


def _show(path: Path, place: Path, *, writable: bool = False) -> bool:
    """Let a file or folder appear at another place; True if there is none."""
    libc = _libc()
    if not path.exists():
        return True
    if path.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    if libc.mount(bytes(path), bytes(place), None, _BIND | _RECURSIVE, None) != 0:
        return False
    attributes = (ctypes.c_uint64 * 4)((0 if writable else 1) | 2 | (0 if writable else 4), 0, 0, 0)
    return bool(libc.syscall(_MOUNT_SETATTR, -100, bytes(place), _AT_RECURSIVE, attributes, ctypes.c_size_t(32)) == 0)


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Paths, resolved, without those that lie in another."""
    known = sorted({path.resolve() for path in paths})
    return [path for path in known if not any(other in path.parents for other in known)]


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
