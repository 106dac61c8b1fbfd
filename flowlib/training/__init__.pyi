from .checkpoint import CheckpointError as CheckpointError
from .journal import read_metrics as read_metrics
from .settings import Training as Training
from .task import Player as Player
from .task import Task as Task
from .task import Turn as Turn
from .trainer import DivergedError as DivergedError
from .trainer import Trainer as Trainer
