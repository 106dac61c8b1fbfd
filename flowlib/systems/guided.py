"""What a flow and its kin share once they are built: their guide, and how they are sampled and measured."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flowlib.data import Dataset, Spec
from flowlib.systems.guides import GUIDES, guides_to_sample
from flowlib.systems.networks import Networked
from flowlib.systems.repairs import report_repairs
from flowlib.systems.reporting import FlowReport, report_flow
from flowlib.systems.sampling import FlowRequest, noise_for, sample_flow
from flowlib.systems.system import Parts, Row, Splits


class Guided(Networked):
    """What a flow and its kin share once they are built: their guide, and how they are sampled and measured."""

    Sampling: ClassVar[type] = FlowRequest
    Reporting: ClassVar[type] = FlowReport
    # Whether the ODE's last step lands on D, or the time from which it does.
    lands: ClassVar[bool | float] = False

    def guide_of(self, batch: Mapping[str, Any], spec: Spec, generator: torch.Generator) -> Tensor | None:
        """The guides of a batch of data, before any is dropped; None for a network without a guide."""
        return GUIDES[self.guide].of(batch, spec, generator) if self.guided else None

    def report(self, module: nn.Module, data: Splits, parts: Parts, request: FlowReport) -> Sequence[Row]:
        report = report_repairs if self.guided and GUIDES[self.guide].image else report_flow
        return report(self, module, data, parts, request)

    def sample(self, module: nn.Module, parts: Parts, request: FlowRequest) -> Tensor:
        """Samples (count, *shape), or with `trajectory` all states (states, count, *shape), the noise first."""
        return self.known(sample_flow(module, request, lands=self.lands), request.y)

    def known(self, samples: Tensor, y: Tensor | None) -> Tensor:
        """Samples whose known pixels are what they are known to be, under a guide that says some."""
        if y is None or not self.guided or self.guide != "inpainting":
            return samples
        return torch.where(y[:, -1:] > 0, y[:, :-1], samples)

    def guides(
        self, spec: Spec, labels: Sequence[int], count: int | None, data: Callable[[], Dataset]
    ) -> Tensor | None:
        """The guides to sample, in equal shares of the labels and in order; none for a flow without a guide."""
        return guides_to_sample(self.guide, spec, labels, count, data) if self.guided else None

    noise = staticmethod(noise_for)
