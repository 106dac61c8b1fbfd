"""Pictures, animations and tables.

Example:
    >>> import torch
    >>> from flowlib.data import load
    >>> from flowlib.plotting import draw_samples, loss_curve, picture_grid, point_cloud, save_figure, tile
    >>> digits, moons = load("digits").batch(torch.arange(20)), load("moons").batch(torch.arange(200))
    >>> tile(digits["x"], columns=10).shape  # two rows of ten 8 x 8 images, with a pixel between
    torch.Size([17, 89, 1])
    >>> figure = picture_grid(digits["x"], rows=["one", "another"], title="Handwriting")
    >>> figure.axes[0].get_title(loc="left"), [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ('Handwriting', ['one', 'another'])
    >>> order = digits["label"].sort()  # a row of one label is named after it
    >>> draw_samples(digits["x"][order.indices], order.values, columns=1).axes[0].get_yticklabels()[0].get_text()
    '0'
    >>> [float(end) for end in point_cloud(moons["x"], limit=2.0).axes[0].get_xlim()]
    [-2.0, 2.0]
    >>> curve = loss_curve([{"step": 1, "loss": 2.0, "lr": 0.1}, {"step": 2, "loss": 1.0, "lr": 0.0}])
    >>> curve.axes[0].lines[0].get_ydata().tolist()
    [2.0, 1.0]
    >>> save_figure(curve, "figures/loss.png")  # in a notebook a figure shows itself
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
