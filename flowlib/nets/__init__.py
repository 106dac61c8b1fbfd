"""Networks, all with one signature: net(x, t, y) -> like x; and autoencoders, classifiers and adversaries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
