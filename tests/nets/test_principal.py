"""Principal components in buckets: closed forms, a round trip, and what is refused."""

import math

import pytest
import torch
from examples import normal

from flowlib.nets.principal import PrincipalCodes


def along_axes(count: int = 4000) -> torch.Tensor:
    """Points of independent components, of standard deviations 1, 4 and 0.5, about (10, -3, 2), float32."""
    return (normal(0, count, 3) * torch.tensor([1.0, 4.0, 0.5]) + torch.tensor([10.0, -3.0, 2.0])).float()


def test_axes_are_those_of_the_largest_variance_in_order_and_have_one_sign() -> None:
    x, codes = along_axes(), PrincipalCodes(3, 2, 64)
    codes.learn(x)
    torch.testing.assert_close(codes.axes, torch.eye(3)[[1, 0]], atol=0.05, rtol=0)
    torch.testing.assert_close(codes.mean, x.mean(0))
    values, vectors = torch.linalg.eigh(torch.cov(x.double().T))  # another way to the same
    for axis, vector in zip(codes.axes, vectors.T.flip(0), strict=False):
        assert abs(float(axis.double() @ vector)) == pytest.approx(1, abs=1e-6)
        assert float(axis[axis.abs().argmax()]) > 0
    lost = float(values[0]) * (len(x) - 1) / float(x.double().square().sum())
    assert float(codes.lost) == pytest.approx(lost, rel=1e-5)


def test_codes_lie_in_equal_buckets_from_the_least_to_the_largest_value() -> None:
    codes = PrincipalCodes(2, 1, 4)
    codes.learn(torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 0.001], [0.0, -0.001]]))
    x = torch.tensor([[-4.0, 0.0], [-2.1, 0.0], [-1.9, 5.0], [0.1, 0.0], [3.9, 0.0], [4.0, 0.0], [9.0, 0.0], [-9.0, 0]])
    assert codes.encode(x)[:, 0].tolist() == [0, 0, 1, 2, 3, 3, 3, 0]
    torch.testing.assert_close(
        codes.decode(torch.arange(4)[:, None]), torch.tensor([[-3.0, 0], [-1, 0], [1, 0], [3, 0]])
    )


def test_there_and_back_is_half_a_bucket_off_at_most_and_back_and_there_is_exact() -> None:
    x, codes = along_axes(), PrincipalCodes(3, 3, 256)
    codes.learn(x)
    found = codes.encode(x)
    assert found.min() == 0
    assert found.max() == 255
    error = (codes.decode(found) - x) @ codes.axes.T
    assert bool((error.abs() <= codes.width / 2 * (1 + 1e-3) + 1e-5).all())
    # An error that is uniform in a bucket has a twelfth of its width squared as its mean square.
    torch.testing.assert_close(error.square().mean(0), codes.width.square() / 12, rtol=0.1, atol=0)
    assert torch.equal(codes.encode(codes.decode(found)), found)


def test_what_is_not_kept_is_what_is_lost() -> None:
    x, codes = along_axes(), PrincipalCodes(3, 2, 4096)
    codes.learn(x)
    error = float((codes.decode(codes.encode(x)) - x).square().sum() / x.square().sum())
    assert error == pytest.approx(float(codes.lost), rel=0.01)
    assert math.isclose(error, 0.25 * len(x) / float(x.square().sum()), rel_tol=0.1)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="components must be at most 3, the size of a vector, got 4"):
        PrincipalCodes(3, 4, 8)
    with pytest.raises(ValueError, match="buckets must be"):
        PrincipalCodes(3, 2, 1)
    codes = PrincipalCodes(3, 2, 8)
    for x in (torch.zeros(2, 3), torch.zeros(5, 2)):
        with pytest.raises(ValueError, match="x must be more than 2 vectors"):
            codes.learn(x)
