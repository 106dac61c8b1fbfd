"""Data: real handwriting, two-dimensional sets and your own images, by name or by the path of a folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
