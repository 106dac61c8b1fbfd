"""How a command uses the processor: how many threads, and processes that share the work."""

import os
import signal
import socket
import subprocess
import sys
import time


def set_threads(threads: int | None) -> None:
    """Compute with so many threads, whatever else the machine does; None leaves the number to torch and the trainer."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)


def share_work(processes: int) -> int:
    """Start this very command in several processes that train together, as torchrun would; their exit status.

    When one of them fails, or this process is asked to end, the others are ended too.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    command = [sys.executable, "-m", "flowlib", *sys.argv[1:]]
    workers = [
        subprocess.Popen(command, env={**os.environ, **common, **threads, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(processes)
    ]
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        while any(worker.poll() is None for worker in workers):
            if any(worker.poll() for worker in workers):  # ended, and not well
                break
            time.sleep(0.1)
    except KeyboardInterrupt:  # which the workers were sent too
        for worker in workers:
            worker.wait()
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
        codes = [worker.wait() for worker in workers]
    return next((code for code in codes if code > 0), max(map(abs, codes)))
