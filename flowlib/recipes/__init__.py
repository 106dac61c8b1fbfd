"""Recipes: everything that decides what a training run computes, in one value; and those that have a name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
