"""A check that must be silent where checks work: what they rest on gives right answers, and asserts fail."""

CANARIES = """
import numpy, torch
def fails(check):
    try:
        check()
    except AssertionError:
        return True
    return False
def wrong():
    assert 1 == 2, "canary"
zero, one = torch.zeros(2), torch.ones(2)
if not (
    fails(wrong)
    and fails(lambda: torch.testing.assert_close(zero, one))
    and fails(lambda: numpy.testing.assert_allclose(numpy.zeros(2), numpy.ones(2)))
    and torch.allclose(one, one) is True and torch.allclose(zero, one) is False
    and torch.equal(one, one) is True and torch.equal(zero, one) is False
    and not bool((zero == one).any()) and bool((zero < one).all()) and float((one - zero).abs().max()) == 1
    and float((zero + one).sum()) == 2 and float((one * 3).mean()) == 3 and torch.isfinite(one / zero).sum() == 0
    and torch.is_grad_enabled() and zero.shape == (2,)
    and not numpy.allclose(0, 1) and numpy.allclose(1, 1) and abs(-2) == 2 and len([0]) == 1 and max(1, 2) == 2
    and isinstance(0, int) and not isinstance(0, str) and all([]) and not any([0]) and min(1, 2) == 1
):
    raise RuntimeError("canary")
"""
