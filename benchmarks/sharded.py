"""A DiT of 100 million parameters over several processes: each with all of it (DDP), or each with its shard (FSDP).

    python benchmarks/sharded.py step
    python benchmarks/sharded.py plan --gpus 8

`step`: a few steps of flow matching with AdamW, by one process and by --processes of them over Gloo, on the CPU. All
see the same global batch. "loss" is that of the last step, "apart" how far it is from one process's; "MB a process"
what weights, gradients and moments of a process take; "seconds" those of a step, of processes that share this machine.

`plan`: on paper, for DiT-B/2 on latents of 32 x 32 x 4 and GPUs of --teraflops (bf16) whose links carry --gigabytes a
second: GB a GPU of weights, gradients, moments and an average in single precision, and of activations in half; GB that
each GPU sends in a step; seconds that arithmetic takes at a model-FLOPs use of --use, and that sending takes beside it.
"""

import argparse
import json
import math
import os
import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from _common import Help, prepare, publish, seeded
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from flowlib import Model
from flowlib.nets import DiT

WAYS = ("DDP", "FSDP")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("table", choices=["step", "plan"])
    parser.add_argument("--width", type=int, default=768, help="of the DiT")
    parser.add_argument("--depth", type=int, default=10, help="of the DiT of `step`; `plan` has 12 blocks")
    parser.add_argument("--processes", type=int, default=2, help="of `step`")
    parser.add_argument("--batch-size", type=int, default=4, help="of `step`, over all processes")
    parser.add_argument("--steps", type=int, default=3, help="of `step`")
    parser.add_argument("--gpus", type=int, default=8, help="of `plan`")
    parser.add_argument("--each", type=int, default=32, help="of `plan`: images a GPU in a step")
    parser.add_argument("--teraflops", type=float, default=989, help="of `plan`: an H100's, dense, by its data sheet")
    parser.add_argument("--gigabytes", type=float, default=450, help="of `plan`: NVLink's in one direction")
    parser.add_argument("--use", type=float, default=0.4, help="of `plan`: the share of the FLOPs that the model gets")
    parser.add_argument("--write", type=Path, help="also write the table to this file, as Markdown")
    arguments = parser.parse_args()
    prepare(argparse.Namespace(threads=1, seed=0))
    rows = {"step": step, "plan": plan}[arguments.table](arguments)
    publish(rows, "sharded.py", sys.argv[1:], arguments.write)


def network(arguments: argparse.Namespace) -> DiT:
    """The same weights in every process."""
    torch.manual_seed(0)
    net = DiT(4, 16, patch=2, width=arguments.width, depth=arguments.depth, heads=arguments.width // 64, classes=10)
    for p in net.parameters():  # a DiT starts at 0, where all ways agree whatever they do
        if not bool(p.any()):
            nn.init.normal_(p, std=0.02)
    return net


def trained(net: nn.Module, part: slice, arguments: argparse.Namespace) -> dict[str, float]:
    """The steps of one process on its part of the batch: the mean loss of the last, bytes and seconds."""
    model = Model(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    loss, seconds = torch.zeros(()), []
    for index in range(arguments.steps):
        start = time.perf_counter()
        g = seeded(index)
        z, y = torch.randn(arguments.batch_size, 4, 16, 16, generator=g), torch.arange(arguments.batch_size) % 10
        t, noise = torch.rand(len(z), generator=g), torch.randn(z.shape, generator=g)
        optimiser.zero_grad()
        x = model.path.sample(z, t, noise)
        loss = (model.u(x[part], t[part], y[part]) - (z - noise)[part]).square().mean()  # the linear path's velocity
        loss.backward()
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    moments = [value for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor)]
    held = [*net.parameters(), *(p.grad for p in net.parameters() if p.grad is not None), *moments]
    total = sum(local(value).numel() * value.element_size() for value in held)
    return {"loss": float(loss.detach()), "bytes": float(total), "seconds": min(seconds)}


def local(value: Any) -> Tensor:
    """What of a tensor lies in this process."""
    return value.to_local() if hasattr(value, "to_local") else value


def process(rank: int, way: str, port: int, arguments: argparse.Namespace, result: Path) -> None:
    """One of several processes; the first writes what was found."""
    prepare(argparse.Namespace(threads=1, seed=0))
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=arguments.processes)
    net: Any = network(arguments)
    if way == "FSDP":
        mesh = init_device_mesh("cpu", (arguments.processes,))
        for block in net.blocks:  # gathered when it is needed, one at a time
            fully_shard(block, mesh=mesh)
        fully_shard(net, mesh=mesh)
    else:
        net = Wrapped(net)
    size = arguments.batch_size // arguments.processes
    row = trained(net, slice(rank * size, (rank + 1) * size), arguments)
    loss = torch.tensor(row["loss"])
    dist.all_reduce(loss)
    if rank == 0:
        result.write_text(json.dumps(row | {"loss": float(loss) / arguments.processes}))
    dist.destroy_process_group()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Wrapped(DistributedDataParallel):
    """DDP around a network, with the null guide of what it wraps."""

    @property
    def null(self) -> Any:
        return self.module.null


def step(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for one process, and for each way to share."""
    net = network(arguments)
    millions, whole = sum(p.numel() for p in net.parameters()) / 1e6, slice(0, arguments.batch_size)
    rows = {"one process": trained(net, whole, arguments)}
    del net
    with TemporaryDirectory() as folder:
        for way in WAYS:
            result = Path(folder) / way
            mp.spawn(process, (way, free_port(), arguments, result), arguments.processes)  # type: ignore[no-untyped-call]
            rows[way] = json.loads(result.read_text())
    one = rows["one process"]["loss"]
    return [
        {
            "way": name,
            "parameters": f"{millions:.1f} M",
            "loss": f"{row['loss']:.6f}",
            "apart": f"{abs(row['loss'] - one):.1e}",
            "MB a process": f"{row['bytes'] / 1e6:.1f}",
            "seconds": f"{row['seconds']:.1f}",
        }
        for name, row in rows.items()
    ]


def plan(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What a step of DiT-B/2 needs of each GPU, a column for each way."""
    width, depth, tokens, n = arguments.width, 12, (32 // 2) ** 2, arguments.gpus
    net = DiT(4, 32, patch=2, width=width, depth=depth, heads=width // 64, classes=1000)
    count = sum(p.numel() for p in net.parameters())
    # A weight that acts on tokens costs 2 FLOPs a token forwards and 4 backwards; those of the modulation act once an
    # image. Scores and weighted sums of attention cost 4 N^2 width forwards and twice that backwards.
    blocks: Any = net.blocks
    once = sum(p.numel() for block in blocks for p in block.modulation.parameters())
    flops = 6 * ((count - once) * tokens + once) + 3 * depth * 4 * tokens**2 * width
    # Kept for the backward pass, in half precision: about 16 vectors of `width` a token and block (its input, two
    # norms, queries, keys, values, what attention reads, the hidden layer of 4 twice); fused attention keeps no table.
    activations = 2 * 16 * width * tokens * depth * arguments.each
    columns: dict[str, dict[str, str]] = {}
    for way in WAYS:
        share = n if way == "FSDP" else 1
        state = 20 * count / share  # weight, gradient, two moments, average: 4 bytes each
        largest = 2 * (count - once) / depth if way == "FSDP" else 2 * count  # a copy in half precision
        # A ring sends (n - 1) / n of a tensor to gather or to scatter it; an all-reduce does both.
        sent = (n - 1) / n * count * (2 + 2 + 4 if way == "FSDP" else 4 + 4)
        work = flops * arguments.each / (arguments.use * 1e12 * arguments.teraflops)
        sending = sent / (1e9 * arguments.gigabytes)
        columns[way] = {
            "GB of state": f"{state / 1e9:.2f}",
            "GB of copies in half precision": f"{largest / 1e9:.2f}",
            "GB of activations": f"{activations / 1e9:.2f}",
            "TFLOP a step": f"{flops * arguments.each / 1e12:.1f}",
            "ms of arithmetic": f"{1e3 * work:.1f}",
            "GB sent": f"{sent / 1e9:.2f}",
            "ms of sending": f"{1e3 * sending:.1f}",
            "images a second, all GPUs": f"{math.floor(n * arguments.each / max(work, sending))}",
        }
    return [{"a GPU": name, **{way: column[name] for way, column in columns.items()}} for name in columns[WAYS[0]]]


if __name__ == "__main__":
    main()
