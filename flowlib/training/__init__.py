"""Training: recipes, the trainer, checkpoints that survive a crash, and several processes at once."""

from flowlib.training.checkpoint import CheckpointError
from flowlib.training.journal import read_metrics
from flowlib.training.override import override
from flowlib.training.recipe import FirstStage, Recipe, Training, from_dict, to_dict
from flowlib.training.recipes import RECIPES, find_recipe
from flowlib.training.task import Task
from flowlib.training.trainer import DivergedError, Trainer

__all__ = [
    "RECIPES",
    "CheckpointError",
    "DivergedError",
    "FirstStage",
    "Recipe",
    "Task",
    "Trainer",
    "Training",
    "find_recipe",
    "from_dict",
    "override",
    "read_metrics",
    "to_dict",
]
