"""The discrete view: DDPM's steps k = T ... 0, their Gaussians, samplers and bounds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
