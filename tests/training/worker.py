"""What a process that torchrun starts does for test_distributed.py: train one of the small tasks in a folder."""

import sys
from pathlib import Path

import small
import torch

from flowlib.training import Task, Trainer
from flowlib.training.distributed import World, join_world

TASKS = {"linear": small.make_task, "game": small.make_game, "pairs": small.make_pairs}
SETTINGS = small.settings(steps=30, batch_size=10, clip=None)


def train(name: str, folder: Path, world: World | None = None) -> Task:
    task = TASKS[name]()
    Trainer(task, SETTINGS, folder / name, world=world, log_every=1, checkpoint_every=30).run(False)
    return task


if __name__ == "__main__":
    torch.set_num_threads(1)
    with join_world(torch.device("cpu")) as (world, _):
        for name in TASKS:
            task = train(name, Path(sys.argv[1]), world)
            rank = Path(sys.argv[1]) / f"{name}-{world.rank}.pt"
            torch.save(task.module.state_dict(), rank)
