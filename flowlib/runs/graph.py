"""A run's network as an ONNX graph, which runs without Python: in a browser, or in a program of another language."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from flowlib.files import write_whole
from flowlib.known import trusting
from flowlib.runs.run import Run
from flowlib.systems.graphs import Graph, flow_graphs

OPSET = 18
CLOSE = 1e-4  # the largest difference from torch that a file may have


def export_onnx(run: Run, path: Path) -> dict[Path, float]:
    """Write the network of a flow, or a SAM, to `path` as an ONNX graph, and hold the file to torch.

    A flow's graph makes of x (B, *shape) float32, t (B,) float32 in [0, 1] and, for a flow with a guide, y the
    "prediction" (B, *shape). y are labels (B,), whose null is the number of labels, or the tokens of captions (B, N),
    whose null are those of the empty caption; int64. Its metadata say what that is: "predicts" (the kind, such as
    "velocity"), "schedule", "null", "shape", "recipe", and for captions "tokenizer".

    A SAM is two files. FILE-image.onnx makes of images x (B, C, S, S) embeddings (B, dim, h, w); FILE-masks.onnx of
    one embedding, points (B, P, 2) float32, in pixels, and labels (B, P) int64, 1 inside, 0 outside, -1 none, the
    "logits" of masks (B, 1 + K, S, S), the single one first and then the K proposals, and their predicted "iou"
    (B, 1 + K). B and P are free.

    Args:
        run: a flow of images or points, with labels, with captions or without; or a run of sam.
        path: the file to write.

    Returns:
        for each file the largest difference between it, run by onnxruntime, and torch, for batches of 1, 3 and 10.

    Raises:
        ValueError: for another run; if the packages of the extra "onnx" are not installed; or if a difference is more
            than 1e-4.
        OSError: if a file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from flowlib.runs import export_onnx, load_pretrained
        >>> differences = export_onnx(load_pretrained("digits"), Path("digits.onnx"))  # doctest: +SKIP
        >>> export_onnx(load_pretrained("judge"), Path("judge.onnx"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: a run of 'judge' cannot be exported: ...
    """
    try:
        graphs = getattr(run.recipe.system, "graphs", flow_graphs)(run.module, run.spec)
    except ValueError as error:
        raise ValueError(f"a run of {run.recipe.name!r} cannot be exported: {error}") from None
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed: pip install -c constraints.txt 'flowlib[onnx]'") from None

    device, found = run.device, {}
    run.module.to("cpu").eval()
    try:
        for graph in graphs:
            file = path.with_stem(f"{path.stem}-{graph.name}") if graph.name else path
            with TemporaryDirectory() as folder:
                made = Path(folder) / "graph.onnx"
                _write(graph, made, run.recipe.name)
                found[file] = worst = _difference(graph, made)
                if not worst <= CLOSE:
                    raise ValueError(f"the graph for {file} differs from torch by {worst:.1e}, more than {CLOSE:g}")
                write_whole(file, made.read_bytes())
    finally:
        run.module.to(device)
    return found


def _write(graph: Graph, path: Path, recipe: str) -> None:
    """The file of a graph, with its metadata."""
    import onnx

    sizes = {name for axes in graph.free.values() for name in axes.values()}
    free = {name: torch.export.Dim(name, min=1, max=4096) for name in sizes}
    shapes = tuple({axis: free[size] for axis, size in axes.items()} for axes in graph.free.values())
    with _silence(), trusting():
        torch.onnx.export(
            graph.net.eval(), tuple(graph.inputs(2).values()), str(path), input_names=list(graph.free),
            output_names=list(graph.outputs), opset_version=OPSET, dynamo=True, dynamic_shapes=shapes,
            external_data=False, verbose=False,
        )  # fmt: skip
    made = onnx.load(str(path))
    onnx.helper.set_model_props(made, {**graph.said, "recipe": recipe})
    onnx.save(made, str(path))


def _difference(graph: Graph, path: Path) -> float:
    """The largest difference between a file and torch."""
    import onnxruntime

    session, worst = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), 0.0
    for batch in (1, 3, 10):
        given = graph.inputs(batch)
        with torch.no_grad():
            expected = graph.net(*given.values())
        found = session.run(list(graph.outputs), {name: value.numpy() for name, value in given.items()})
        for mine, theirs in zip(found, [expected] if torch.is_tensor(expected) else expected, strict=True):
            worst = max(worst, float((torch.from_numpy(mine) - theirs).abs().max()))
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
