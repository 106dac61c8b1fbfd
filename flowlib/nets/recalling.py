"""A network that is also shown which training data x may have come from: their mean, in closed form.

While noise is large, a network of little training knows a data set less well than the data set itself: the posterior
mean over all training data predicts *new* data with a smaller error. The network here is given that mean beside x and
learns what to make of it, in the spirit of diffusion models that retrieve neighbours (Blattmann et al. 2022,
arXiv:2204.11824).

In training x is made of one of the data, whose share in the mean would give it away: each sample's own datum is left
out. So the mean is as good in training as it will be for new data, and the network learns how far to trust it.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from flowlib.checks import check_labels, check_number, check_tensor

DIRECTIONS = 128  # principal ones, in which data are compared
SHARPEST = 0.25  # the posterior is at no time sharper than at this one, so that it never names a single datum
FULL = 3.0  # the logit of ink at first: most of D^
LAST = 0.02  # noise in x from which on v is what D asks for; less would make the weight of D without bound
OF_ALL = 6000  # data at most that stand for all, where there is no label


class Memory(nn.Module):
    """The mean of the data of a label that x = t z + (1 - t) eps may have come from: (B, ...), (B,), (B,) -> like x.

    Data are compared in their principal directions, and their posterior at t > `SHARPEST` is that of t = `SHARPEST`
    times the signal there is then: a mean over neighbours, and no neighbour. Before `fit` it is 0. Weights of a run
    hold the data, as `codes`, so that a run samples without its data set.

    Args:
        shape: of a sample.
        until: the time in (SHARPEST, 1] at which the mean has faded to 0, from `SHARPEST` on.

    Raises:
        ValueError: for a time that does not fit.

    Example:
        >>> import torch
        >>> from flowlib.nets import Memory
        >>> memory = Memory((2,), until=0.5)
        >>> memory.fit(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
        >>> memory(torch.zeros(2, 2), torch.full((2,), 0.2), torch.tensor([1, 2]))  # label 1, and no label
        tensor([[1., 0.],
                [0., 0.]])
    """

    training_only = True  # an average of weights takes its buffers as they are: they never change
    centre: Tensor
    basis: Tensor
    codes: Tensor
    ends: Tensor

    def __init__(self, shape: tuple[int, ...], until: float) -> None:
        super().__init__()
        self.shape, self.until = tuple(shape), check_number("until", until, SHARPEST, 1, low_open=True)
        size = math.prod(shape)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(size, 0))
        self.register_buffer("codes", torch.zeros(0, 0))  # the data, sorted by label, in those directions
        self.register_buffer("ends", torch.zeros(0, dtype=torch.long))  # of each label's codes
        self.place: Tensor | None = None  # of each datum among the codes, where those of training are known
        self.left_out: Tensor | None = None

    @torch.no_grad()
    def fit(self, z: Tensor, y: Tensor | None = None) -> None:
        """Remember data z (N, ...) of labels y (N,), or of none."""
        check_tensor("z", z)
        labels = torch.zeros(len(z), dtype=torch.long, device=z.device) if y is None else y
        labels = check_labels("y", labels, len(z), torch.iinfo(torch.int32).max, z.device).long()
        order = labels.argsort(stable=True)
        flat = z.float().flatten(1)
        self.centre = flat.mean(0)
        covariance = (flat - self.centre).T @ (flat - self.centre)
        # In double precision on the processor, so that two processes find the same directions.
        directions = torch.linalg.eigh(covariance.double().cpu())[1][:, -DIRECTIONS:].flip(1)
        self.basis = directions.to(flat).contiguous()
        self.codes = (flat[order] - self.centre) @ self.basis
        self.ends = labels.bincount().cumsum(0)
        self.place = torch.empty_like(order).index_copy(0, order, torch.arange(len(z), device=z.device))

    @contextmanager
    def without(self, index: Tensor) -> Iterator[None]:
        """Inside, the i-th sample of a call finds all data that were fitted but for number index[i], its own."""
        if self.place is None:
            raise ValueError("data must be fitted before one of them can be left out")
        self.left_out = self.place[index.to(self.place.device)]
        try:
            yield
        finally:
            self.left_out = None

    @torch.no_grad()
    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        out = torch.zeros_like(x)
        early = (t < self.until).nonzero().flatten()
        if not len(self.codes) or not len(early):
            return out
        with torch.autocast(x.device.type, enabled=False):  # the posterior is sharper than bfloat16
            alpha, beta = t[early, None].float(), 1 - t[early, None].float()
            at = (x[early].float().flatten(1) - alpha * self.centre) @ self.basis
            noise = torch.maximum(beta, alpha * (1 - SHARPEST) / SHARPEST)
            several = y is not None and len(self.ends) > 1
            labels = y[early].long() if several else torch.full_like(early, -1)  # type: ignore[index]
            labels = torch.where(labels < len(self.ends), labels, -1)  # the null label
            code = torch.empty_like(at)
            for label in labels.unique().tolist():
                rows = (labels == label).nonzero().flatten()
                begin, end, step = self.range(label)
                block = self.codes[begin:end:step]
                log_p = alpha[rows] * (at[rows] @ block.T) - 0.5 * alpha[rows] ** 2 * block.square().sum(1)
                log_p = log_p / noise[rows] ** 2
                if self.left_out is not None:
                    own = self.left_out[early[rows]] - begin
                    there = own % step == 0
                    log_p[there.nonzero().flatten(), own[there] // step] = -torch.inf
                # Where a label has no datum but the one left out, nothing is recalled but the mean of all.
                code[rows] = torch.softmax(log_p, dim=1).nan_to_num(0.0) @ block
            fade = ((self.until - t[early, None]) / (self.until - SHARPEST)).clamp(0, 1)
            out[early] = ((code @ self.basis.T + self.centre) * fade).view(-1, *self.shape).to(x.dtype)
        return out

    def range(self, label: int) -> tuple[int, int, int]:
        """First, last and step of a label's codes; of all data, where it is -1, every so many."""
        ends = [0, *self.ends.tolist()]
        if label < 0:
            return 0, ends[-1], max(1, -(-ends[-1] // OF_ALL))
        return ends[label], ends[label + 1], 1

    def make_room(self, weights: Mapping[str, Tensor]) -> None:
        """Take the shapes of weights that are about to be loaded: of as many data and labels as there were."""
        for name in {"basis", "codes", "ends"} & weights.keys():
            setattr(self, name, torch.empty_like(weights[name], device=self.centre.device))


class Recalling(nn.Module):
    """The network net(x, t, y) of v of images on the linear path that also sees what its memory recalls.

    It is made of a network for twice the channels. That is given x and the recalled mean, and says v and, for each
    pixel, how likely there is ink. Paper, where there is none, is -1 exactly. So the posterior of a pixel is a mixture
    of the two, and so is its mean: D = -1 + g (D^ + 1), with D^ of the v that the network says, and g in (0, 1).

    Args:
        net: (x, t, y) -> like x, of images of 2 C channels, such as `UNet(2 * C, gates=True)`.
        memory: a `Memory` for images of C channels.

    Example:
        >>> import torch
        >>> from flowlib.nets import Memory, Recalling, UNet
        >>> net = Recalling(UNet(2, (8,), classes=3), Memory((1, 4, 4), until=0.4))
        >>> net.memory.fit(torch.rand(9, 1, 4, 4), torch.arange(9) % 3)
        >>> net(torch.randn(2, 1, 4, 4), torch.tensor([0.1, 0.9]), torch.tensor([0, 2])).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, net: nn.Module, memory: Memory) -> None:
        super().__init__()
        self.net, self.memory = net, memory

    @property
    def null(self) -> int | Tensor | None:
        """The null guide of the network."""
        return self.net.null  # type: ignore[return-value]

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        v, ink = self.net(torch.cat([x, self.memory(x, t, y)], dim=1), t, y).chunk(2, dim=1)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 holds no probability near 1
            return with_paper(x.float(), t.float(), v.float(), ink.float() + FULL).to(x.dtype)


def with_paper(x: Tensor, t: Tensor, v: Tensor, ink: Tensor) -> Tensor:
    """The v of D = -1 + g (D^ + 1), D^ that of a given v, g = sigmoid(ink), on the linear path.

    After t = 1 - `LAST`, where D^ is x but for what v may say in a factor of 1 - t, it is the v of a D between the two.

    Example:
        >>> import torch
        >>> from flowlib.nets.recalling import with_paper
        >>> x, t = torch.zeros(1, 1, 1, 1), torch.tensor([0.5])
        >>> with_paper(x, t, torch.zeros_like(x), torch.tensor(-99.0))  # surely paper: D = -1, so eps^ = 1 and v = 1
        tensor([[[[1.]]]])
    """
    alpha = t.reshape(-1, 1, 1, 1)
    beta = 1 - alpha
    data = (alpha * x - beta * v) / (alpha**2 + beta**2)
    return v + (alpha**2 + beta**2) / beta.clamp_min(LAST) * torch.sigmoid(-ink) * (data + 1)
