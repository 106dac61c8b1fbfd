"""How good samples are: distances of points and of features, the shipped evaluator, and a judge for each data set.

Example:
    >>> from flowlib.data import load
    >>> from flowlib.metrics import fit_reader
    >>> read, test = fit_reader(load("digits")), load("digits", "test")
    >>> float((read(test.images).argmax(1) == test.labels).double().mean()) > 0.98
    True
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
