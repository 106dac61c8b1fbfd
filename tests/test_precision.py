"""Devices without float64, such as Apple's: stood in for by fake tensors, which have a device and no values."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowlib import precision
from flowlib.chains import Chain, LossSecondMoment, forward, posterior
from flowlib.ddim import multistep_weights
from flowlib.precision import double, finest
from flowlib.schedules import Cosine

FAR = torch.device("meta")


class NoDouble(TorchDispatchMode):
    """Refuses float64 on that device, as the device would."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and value.device.type == FAR.type and value.dtype == torch.float64:
                raise TypeError(f"{func} made a float64 on {FAR}")
        return found


CHAIN = Chain.of(Cosine(), 50)
USES: dict[str, Callable[[Tensor], Any]] = {
    "alpha": CHAIN.alpha,
    "beta": CHAIN.beta,
    "dalpha": CHAIN.dalpha,
    "dbeta": CHAIN.dbeta,
    "forward": lambda x: forward(CHAIN, x[:, None], 3),
    "posterior": lambda x: posterior(CHAIN, x[:, None], x[:, None], 30, 20),
    "multistep": lambda x: [pair for step in multistep_weights(CHAIN, x, 3) for pair in step],
}


@pytest.fixture
def _far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WITHOUT_DOUBLE", {FAR.type})


@pytest.mark.usefixtures("_far")
@pytest.mark.parametrize("use", USES)
def test_nothing_is_float64_on_a_device_without_it_and_all_comes_back(use: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), NoDouble():
        found = USES[use](torch.empty(5, device=FAR))
        kinds = {(value.device.type, value.dtype) for value in tree_leaves(found)}
    assert kinds == {(FAR.type, torch.float32)}


def test_the_check_sees_a_float64() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True), NoDouble(), pytest.raises(TypeError, match="made a float64"):
        CHAIN.alpha(torch.empty(5, device=FAR))


def test_where_there_is_float64_it_is_used_there() -> None:
    assert double(torch.ones(2)).dtype == torch.float64
    assert (finest(torch.device("cpu")), finest(torch.device("mps"))) == (torch.float64, torch.float32)


def test_the_losses_of_steps_stay_where_python_reads_them() -> None:
    resampler = LossSecondMoment(5)
    assert resampler.to("meta").losses.device.type == "cpu"
    assert resampler.half().losses.dtype == torch.float64
    assert set(resampler.state_dict()) == {"losses", "counts"}
