"""A run's network as an ONNX graph, which runs without Python: in a browser, or in a program of another language."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from flowlib.fields import Model
from flowlib.runs.run import Run

OPSET = 18
CLOSE = 1e-4  # the largest difference from torch that a file may have


class _Called(nn.Module):
    """The network as it is called by a field: with labels, or without any."""

    def __init__(self, net: nn.Module, guided: bool) -> None:
        super().__init__()
        self.net, self.guided = net, guided

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(x, t, y if self.guided else None)


def export_onnx(run: Run, path: Path) -> float:
    """Write the network of a flow to `path` as an ONNX graph, and hold the file to torch.

    The graph makes of x (B, *shape) float32, t (B,) float32 in [0, 1] and, for a flow with labels, y (B,) int64, whose
    null is the number of labels, the "prediction" (B, *shape). B is free. Its metadata say what that is: "predicts"
    (the kind, such as "velocity"), "schedule", "null", "shape" and "recipe".

    Args:
        run: a flow of images or points, with labels or without.
        path: the file to write.

    Returns:
        the largest difference between the file, run by onnxruntime, and torch, for batches of 1, 3 and 10.

    Raises:
        ValueError: for a run that is no such flow; if the packages of the extra "onnx" are not installed; or if the
            difference is more than 1e-4.
        OSError: if the file cannot be written.
    """
    model = run.module
    if not isinstance(model, Model) or not (model.null is None or isinstance(model.null, int)):
        raise ValueError(
            f"a run of {run.recipe.name!r} cannot be exported: only the network of a flow with labels, or without a "
            "guide, can"
        )
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install -c constraints.txt 'flowlib[onnx]'") from None

    guided, device = model.null is not None, run.device
    net = _Called(model.net, guided).to("cpu").eval()
    free = torch.export.Dim("batch", min=1, max=4096)
    shapes = {name: {0: free} for name in ("x", "t", *(["y"] if guided else []))}
    with _silence():
        torch.onnx.export(
            net, _inputs(run, 2, guided), str(path), input_names=list(shapes), output_names=["prediction"],
            opset_version=OPSET, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False,
        )  # fmt: skip
    graph = onnx.load(str(path))
    said = {
        "predicts": model.predicts,
        "schedule": repr(model.path.schedule),
        "null": json.dumps(model.null),
        "shape": json.dumps(list(run.shape)),
        "recipe": run.recipe.name,
    }
    onnx.helper.set_model_props(graph, said)
    onnx.save(graph, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (1, 3, 10):
        given = _inputs(run, batch, guided)
        with torch.no_grad():
            expected = net(*given)
        (found,) = session.run(None, {name: value.numpy() for name, value in zip(shapes, given, strict=True)})
        worst = max(worst, float((torch.from_numpy(found) - expected).abs().max()))
    model.to(device)
    if not worst <= CLOSE:
        raise ValueError(f"the graph in {path} differs from torch by {worst:.1e}, more than {CLOSE:g}")
    return worst


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the exporter says of each of its passes."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _inputs(run: Run, batch: int, guided: bool) -> tuple[Tensor, ...]:
    """Inputs of a batch, the same each time: noise, times over all of [0, 1], every label and the null one in turn."""
    generator = torch.Generator().manual_seed(batch)
    x, t = torch.randn(batch, *run.shape, generator=generator), torch.linspace(0, 1, batch)
    return (x, t, torch.arange(batch) % (run.module.null + 1)) if guided else (x, t)
