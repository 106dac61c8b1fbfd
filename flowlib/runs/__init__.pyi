from .export import export_samples as export_samples
from .graph import export_onnx as export_onnx
from .places import RunError as RunError
from .report import evaluate_run as evaluate_run
from .run import Run as Run
from .run import load_pretrained as load_pretrained
from .run import load_run as load_run
from .train import train as train
