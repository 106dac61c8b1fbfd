"""Speed of flowlib's U-Net beside diffusers' UNet2DModel of equal parameter count, on 28 x 28 images, in one run:

    make peers
    python benchmarks/unet_speed.py

Both are the plain convolutional network: two levels, two residual blocks each, scale and shift from time and label.
Ours is the `mnist` recipe's. The peer's widths are searched for the parameter count of ours. It works at full size, as
its users run it; and once more behind our 2 x 2 patch stem, which tells what of the difference the stem makes and what
the rest. Training is forward, backward and a fused AdamW step; sampling counts 50 evaluations an image.
"""

import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from _common import interleave, parser_of, prepare, ratio
from _quality import flops, parameters
from diffusers import UNet2DModel
from torch import Tensor, nn

from flowlib.nets import UNet
from flowlib.recipes import find_recipe

OURS, SIZE, CLASSES, EVALUATIONS = "flowlib UNet", 28, 10, 50


class Peer(nn.Module):
    """UNet2DModel with the signature net(x, t, y), working on `patch` x `patch` pixels at a time."""

    def __init__(self, widths: tuple[int, int], patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.net = UNet2DModel(
            sample_size=SIZE // patch,
            in_channels=patch**2,
            out_channels=patch**2,
            block_out_channels=widths,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            norm_num_groups=8,
            resnet_time_scale_shift="scale_shift",
            add_attention=False,
            num_class_embeds=CLASSES + 1,
        )

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h = F.pixel_unshuffle(x, self.patch) if self.patch > 1 else x
        h = self.net(h, 1000 * t, class_labels=y).sample
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h


def matching_peer(count: int, patch: int) -> Peer:
    """The peer with `count` parameters, give or take 5 %, whose second level is most nearly twice as wide as its first.

    Raises:
        RuntimeError: if there is none.
    """
    fitting = []
    for widths in ((c, 2 * c + more) for c in range(16, 97, 8) for more in range(-24, 25, 8)):
        with torch.device("meta"):
            share = parameters(Peer(widths, patch)) / count
        if 0.95 <= share <= 1.05:
            fitting.append((abs(widths[1] / widths[0] - 2), abs(share - 1), widths))
    if not fitting:
        raise RuntimeError(f"no UNet2DModel has {count} parameters, give or take 5 %")
    return Peer(min(fitting)[2], patch)


def trainer(net: nn.Module, batch: tuple[Tensor, ...], bf16: bool) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        x, t, y, target = batch
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = F.mse_loss(net(x, t, y), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def evaluate(net: nn.Module, batch: tuple[Tensor, ...], bf16: bool) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        net(*batch[:3])


def main() -> None:
    args = parser_of(__doc__, repetitions=15, batch_size=64, threads=None, seed=0).parse_args()
    prepare(args)

    net_args = find_recipe("mnist").system.net_args
    ours = UNet(in_channels=1, classes=CLASSES, **net_args)
    nets: dict[str, nn.Module] = {OURS: ours}
    for name, patch in (("diffusers UNet2DModel", 1), ("the same, patch stem", ours.patch)):
        nets[name] = matching_peer(parameters(ours), patch)
    shape = (args.batch_size, 1, SIZE, SIZE)
    labels = torch.randint(CLASSES, (args.batch_size,))
    one = (torch.zeros(1, 1, SIZE, SIZE), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    batch = (torch.randn(shape), torch.rand(args.batch_size), labels, torch.randn(shape))

    print(f"{'':24} {'widths':>10} {'parameters':>11} {'MFLOPs':>8}")
    for name, net in nets.items():
        widths = net.net.config["block_out_channels"] if isinstance(net, Peer) else net_args["channels"]
        print(f"{name:24} {'-'.join(map(str, widths)):>10} {parameters(net):11,} {flops(net, *one) / 1e6:8.1f}")
    print(f"\nimages/s on {torch.get_num_threads()} thread(s), batch {args.batch_size}; in brackets flowlib's multiple")
    print(f"{'':24} {'training fp32':>20} {'training bf16':>20} {'sampling fp32':>20} {'sampling bf16':>20}")
    columns = []
    for bf16 in (False, True):
        columns.append(interleave({n: trainer(net.train(), batch, bf16) for n, net in nets.items()}, args.repetitions))
    for bf16 in (False, True):
        runs = {name: partial(evaluate, net.eval(), batch, bf16) for name, net in nets.items()}
        columns.append(interleave(runs, args.repetitions))
    for name in nets:
        cells = []
        for evaluations, seconds in zip((1, 1, EVALUATIONS, EVALUATIONS), columns, strict=True):
            rate = args.batch_size / statistics.median(seconds[name]) / evaluations
            cells.append(f"{rate:11.1f} ({ratio(seconds, name, OURS):5.2f} x)")
        print(f"{name:24} " + " ".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
