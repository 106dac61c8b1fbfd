"""What a graded process can do to other files with each version of Landlock, where there are no namespaces."""

import os
import sys
from pathlib import Path

import pytest

from flowlib.course.grading import confine, world


def refused(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False


def attempts(folder, own):
    """By name, what must be refused."""
    secret = folder / "secret"
    return {
        "read": secret.read_text,
        "write": lambda: secret.write_text("x"),
        "truncate": lambda: os.truncate(secret, 0),
        "empty while reading": lambda: os.open(folder / "library", os.O_RDONLY | os.O_TRUNC),
        "mode": lambda: secret.chmod(0),
        "create": lambda: (folder / "new").write_text("x"),
        "remove": secret.unlink,
        "move out": lambda: (own / "mine").rename(folder / "moved"),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are of Linux")
@pytest.mark.parametrize("version", range(1, 8))
def test_no_file_of_others_is_read_or_changed(tmp_path, monkeypatch, version):
    if confine.landlock() < version:
        pytest.skip("this system has no such version")
    own = tmp_path / "own"
    own.mkdir()
    for name in ("secret", "library"):
        (tmp_path / name).write_text(name)
    places, hidden = world.readable()
    monkeypatch.setattr(world, "readable", lambda: ([*places, tmp_path / "library"], hidden))
    heard, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            lacking = world.enter(own, own, without=("namespaces", f"landlock{version}"), disk=0, inside=False)
            (own / "mine").write_text("x")
            done = [name for name, attempt in attempts(tmp_path, own).items() if not refused(attempt)]
            os.write(said, repr((lacking, done)).encode())
        finally:
            os._exit(0)
    os.close(said)
    os.waitpid(pid, 0)
    with os.fdopen(heard) as lines:
        assert lines.read() == "(['namespaces'], [])"
    assert [Path(tmp_path / name).read_text() for name in ("secret", "library")] == ["secret", "library"]
