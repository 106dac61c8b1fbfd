"""Classifier-free guidance whose size is held: what a large scale adds is not brighter, only more like the guide."""

import torch
from torch import Tensor

from flowlib.checks import check_number
from flowlib.field import Field, FieldOf
from flowlib.guidance import ClassifierFreeGuidance


class RescaledGuidance(FieldOf):
    """Guidance after which D has the spread that it has without (Lin et al. 2024, equations 15 and 16).

    A large scale makes D larger than any data are: images come out too bright and too bold. Here the guided D, of each
    sample, is multiplied by std(D(x|y)) / std(guided D), the standard deviations over its components, and mixed with
    itself as it was. The paper does this to whatever its network predicts; here it is done to D, so that it is the same
    for every kind of prediction. (Scaling a raw prediction would not be: converting it is affine in x too.)

    It predicts D, which at t = 1 is the sample. Where there is no guide, nothing is done.

    Args:
        field: a field that takes a guide.
        scale: w, as in `ClassifierFreeGuidance`.
        rescale: phi in [0, 1], the share of what is rescaled; 0 for none, 0.7 in the paper.

    Raises:
        ValueError: for a field that takes no guide, or a number that does not fit.

    Example:
        >>> import torch
        >>> from flowlib import MixtureField
        >>> field = MixtureField(torch.tensor([[-2.0, 1.0], [2.0, -1.0]]), 0.3)
        >>> x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
        >>> held = RescaledGuidance(field, scale=5.0, rescale=1.0).data(x, 0.5, y)
        >>> bool(torch.allclose(held.std(1), field.data(x, 0.5, y).std(1)))
        True
    """

    predicts = "data"

    def __init__(self, field: Field, scale: float, rescale: float = 0.7) -> None:
        super().__init__(field)
        self.guided = ClassifierFreeGuidance(field, scale)
        self.rescale = check_number("rescale", rescale, 0, 1)

    def predict(self, x: Tensor, t: float | Tensor, y: Tensor | None = None) -> Tensor:
        scale = self.guided.scale
        if y is None or not self.rescale or scale == 1:
            return self.guided.data(x, t, y)
        both = (self.path.convert(one, x, t, self.guided.predicts, "data") for one in self.guided.both(x, t, y))
        conditional, unconditional = both
        data = unconditional + scale * (conditional - unconditional)
        wanted, own = (one.flatten(1).std(1) for one in (conditional, data))
        factor = 1 + self.rescale * (torch.where(own > 0, wanted / own, 1.0) - 1)
        return data * factor.view(-1, *[1] * (x.ndim - 1))
