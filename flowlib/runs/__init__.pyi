from .export import choose_labels as choose_labels
from .export import export_samples as export_samples
from .report import evaluate_run as evaluate_run
from .report import likelihood_of_test_set as likelihood_of_test_set
from .run import Run as Run
from .run import RunError as RunError
from .run import load_run as load_run
from .train import train as train
