"""Train the evaluator on MNIST and write its weights, three to four minutes on one core:

    python benchmarks/train_evaluator.py --out flowlib/weights/evaluator.safetensors.z

It prints the accuracy on the test set, which is looked at once, at the end, and the hash that
flowlib/weights/evaluator.json has to hold. With the same machine, version of torch and seed the bits are the same;
another processor rounds differently, so its weights have another hash.

It has a loop of its own, because every reported figure was measured with the weights that this loop makes. A system
could not make them: batch norms are folded away at the end, and the learning rate has another schedule.
"""

import hashlib
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from _common import parser_of, seeded
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from flowlib.data import mnist
from flowlib.metrics import Evaluator, evaluate
from flowlib.weights import compress


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn by up to 12°, scale by up to 12 % and shift by up to 2.5 pixels, each image on its own."""
    batch = len(images)
    angle, log_scale, dx, dy = (2 * torch.rand(4, batch, generator=generator) - 1).unbind()
    angle, scale = angle * torch.pi * 12 / 180, torch.exp(0.12 * log_scale)
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    shift = 2.5 / 14  # the picture is 2 wide in the coordinates of affine_grid
    theta = torch.stack([cos, -sin, shift * dx, sin, cos, shift * dy], dim=1).view(batch, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # grid_sample pads with 0, which is the background only once the images are moved to [0, 2].
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


def train(images: Tensor, labels: Tensor, *, epochs: int, batch_size: int, lr: float, seed: int) -> Evaluator:
    """Train with a batch norm behind each convolution, then fold the norms into the convolutions."""
    generator = seeded(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # initialisation draws from the global generator
        evaluator = Evaluator()
    for i, conv in enumerate(evaluator.convs):
        evaluator.convs[i] = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))
    evaluator = evaluator.to(memory_format=torch.channels_last).train()

    optimiser = torch.optim.AdamW(evaluator.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * (len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.2)
    bar = tqdm(total=steps)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for index in order.split(batch_size)[: len(images) // batch_size]:
            loss = F.cross_entropy(evaluator(augment(images[index], generator)), labels[index])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
    bar.close()

    evaluator.eval()
    for i, pair in enumerate(evaluator.convs):
        evaluator.convs[i] = fuse_conv_bn_eval(pair[0], pair[1])
    return evaluator


def main() -> None:
    parser = parser_of(__doc__, batch_size=128, seed=0)
    parser.add_argument("--out", type=Path, default=Path("evaluator.safetensors.z"), help="the file to write")
    parser.add_argument("--epochs", type=int, default=9, help="passes through the training set")
    parser.add_argument("--lr", type=float, default=3e-3, help="the largest learning rate")
    args = parser.parse_args()

    torch.set_num_threads(1)  # the order of the sums, and so the bits, depends on the number of threads
    digits = mnist.load("train")
    start = time.perf_counter()
    evaluator = train(
        digits.images, digits.labels, epochs=args.epochs, batch_size=args.batch_size, lr=args.lr, seed=args.seed
    )  # fmt: skip
    seconds = time.perf_counter() - start

    test = mnist.load("test")
    _, logits = evaluate(evaluator, test.images)
    right = int((logits.argmax(dim=1) == test.labels).sum())
    content = save({name: value.detach().contiguous() for name, value in evaluator.state_dict().items()})
    args.out.write_bytes(compress(content))
    print(f"parameters      {sum(p.numel() for p in evaluator.parameters()):,}")
    print(f"training        {seconds:.0f} s on one thread")
    print(f"test accuracy   {right} of {len(test)} = {right / len(test):.2%}")
    print(f"weights         {args.out}, {args.out.stat().st_size:,} bytes")
    print(f"sha256          {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
