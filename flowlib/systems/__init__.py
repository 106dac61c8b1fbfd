"""Published systems, one file each.

Example:
    What a trained system can do is in the run: here CLIP says which text fits a picture.

    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.runs import load_pretrained
    >>> from flowlib.systems import FlowSystem
    >>> from flowlib.systems.clip import CLIPSystem
    >>> clip, x = load_pretrained("clip-vit"), load("scenes", "test").batch(torch.arange(3))
    >>> isinstance(clip.recipe.system, CLIPSystem), clip.module.similarity(x["x"], x["caption"]).argmax(1)
    (True, tensor([0, 1, 2]))

    The settings of a system are checked, and build networks for data of any kind that they fit: a flow, and a masked
    autoencoder, which fills in 16 patches of which it sees four.

    >>> from flowlib.nets.mae import visible_patches
    >>> from flowlib.systems.mae import MAESystem
    >>> spec = load("digits").spec
    >>> system = FlowSystem(schedule="cosine", predicts="v", net_args={"channels": [8, 16]})
    >>> flow = system.build(spec, {}, torch.Generator())
    >>> flow.data(torch.zeros(2, 1, 8, 8), 0.5).shape
    torch.Size([2, 1, 8, 8])
    >>> mae = MAESystem(patch=2, width=16, depth=1).build(spec, {}, torch.Generator())
    >>> mae(torch.zeros(2, 1, 8, 8), visible_patches(2, 16, hidden=0.75)).shape
    torch.Size([2, 16, 4])

    A system of your own says what it builds, how that is trained, and what its runs can do. This one learns a mean.

    >>> from dataclasses import dataclass
    >>> from torch import nn
    >>> from flowlib.recipes import Recipe
    >>> from flowlib.runs import evaluate_run, train
    >>> from flowlib.systems import SYSTEMS, Command, ReportRequest, SampleRequest, Splits, Stage, System, register
    >>> from flowlib.training import Task, Training
    >>> @dataclass(frozen=True)
    ... class Options:
    ...     unit: str = "coordinates"
    >>> def centre(run, request):  # flowlib centre RUN --unit metres
    ...     return [f"a mean of {run.module.weight.numel()} {request.unit}"]
    >>> @register("centred", commands=[Command("centre", Options, centre, help="Print the mean.")])
    ... @dataclass(frozen=True)
    ... class CentredSystem:
    ...     std: float = 0.1
    ...     def build(self, spec, parts, generator):
    ...         return nn.Embedding(1, *spec.shape)
    ...     def stages(self, module, data, parts):
    ...         def loss(turn):
    ...             return (data.batch(turn.mine)["x"] - module.weight[0]).square().mean()
    ...         return [Stage("mean", Task(module, loss, data.count))]
    ...     def sample(self, module, parts, request: SampleRequest):
    ...         return module.weight[0] + self.std * torch.randn(request.count, *request.spec.shape)
    ...     def report(self, module, data: Splits, parts, request: ReportRequest):
    ...         off = data.test.images[: request.samples].mean(0) - module.weight[0]
    ...         return [{"samples": request.samples, "distance": float(off.norm())}]
    >>> system: System = CentredSystem()
    >>> recipe = Recipe(name="mean", data="moons", system=system, training=Training(steps=100, lr=0.1))
    >>> run = train(recipe, "runs/mean", pictures=False, checkpoint_every=100)
    >>> run.sample(count=5).shape, evaluate_run(run)[0]["distance"] < 0.2
    (torch.Size([5, 2]), True)
    >>> centre(run, Options())
    ['a mean of 2 coordinates']
    >>> SYSTEMS.pop("centred") is CentredSystem  # and it is forgotten again
    True
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
