"""How good samples are: distances of points and of features, the shipped evaluator, and a judge for each data set."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
