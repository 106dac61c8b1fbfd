"""The world of a graded process: the files that it can read, its environment, and what the system lacks for it."""

import os
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path

import flowlib
from flowlib.course.grading import confine, namespaces

MEANS = ("namespaces", "landlock", "seccomp")
_KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "SYSTEMROOT",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "FLOWLIB_DATA",
    "VIRTUAL_ENV",
)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/etc/ld.so.cache", "/etc/localtime", "/nix/store")


def environment(folder: Path) -> dict[str, str]:
    """The variables of a graded process: those that Python needs to start, and places in its folder for the others."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    places = {
        name: str(folder) for name in ("HOME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "IPYTHONDIR", "MPLCONFIGDIR")
    }
    # Submissions share the cores, and one thread always gives the same bits. Each further thread would set addresses
    # aside that count as memory, though nothing is there.
    return {**kept, **places, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2",
            "PYTHONNOUSERSITE": "1"}  # fmt: skip


def readable() -> tuple[list[Path], list[Path]]:
    """What a graded process may read, and what of that is hidden: the references, with their hidden tests."""
    package = Path(flowlib.__file__).resolve().parent
    places = {Path(name) for name in (sys.prefix, sys.base_prefix, *_SYSTEM, *sysconfig.get_paths().values())}
    places |= {Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    if "FLOWLIB_DATA" in os.environ:
        places.add(Path(os.environ["FLOWLIB_DATA"]))
    hidden = [package / "course" / "reference"]
    return [path.resolve() for path in places if path.exists()] + [package], hidden


def enter(folder: Path, root: Path, *, without: Collection[str], disk: int, inside: bool) -> list[str]:
    """Give up all that a graded process has no need of; the means that the system lacks, of `MEANS`.

    Args:
        folder: the process's own.
        root: an empty folder, for the root of a world of its own.
        without: means not to use.
        disk: bytes of its folder.
        inside: whether this is the first process of namespaces of its own.
    """
    places, hidden = readable()
    inside = inside and namespaces.settle(root, folder, places, hidden, disk)
    lacking = [] if inside else ["namespaces"]
    if inside:
        places = [Path("/")]
    else:
        os.chdir(folder)
        confine.give_up_rights(read_any=True)
        places = [part for path in places for part in _less(path, hidden)]
    version = next((int(name[-1]) for name in without if name[:-1] == "landlock"), None)
    if "landlock" in without or not confine.restrict_files(folder if not inside else Path("/"), places, version):
        lacking.append("landlock")
    if "seccomp" in without or not confine.restrict_calls(files=not inside):
        lacking.append("seccomp")
    confine.no_new_privileges()
    return lacking


def _less(path: Path, hidden: list[Path]) -> list[Path]:
    """A folder as its parts, as far as needed to leave out what is hidden in it."""
    if path in hidden:
        return []
    if not any(path in other.parents for other in hidden):
        return [path]
    return [part for entry in sorted(path.iterdir()) for part in _less(entry, hidden)]


def warning(lacking: Collection[str]) -> str:
    """What it means that a system lacks some of `MEANS`, in a line; empty if it lacks none."""
    if not lacking:
        return ""
    names = ", ".join(sorted(lacking))
    if "namespaces" in lacking and "landlock" in lacking:
        harm = (
            "a submission can read and change whatever you can; grade on Linux, or in a container that you throw away"
        )
    else:
        harm = f"{', '.join(means for means in MEANS if means not in lacking)} alone keep submissions apart"
    return f"this system does not allow {names}: {harm}"
