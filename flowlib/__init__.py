"""flowlib: flow matching and diffusion, small enough to read in a lecture and exact enough to test theorems with.

Names are imported when they are first used: the command line answers `--help` and completes words without waiting for
torch. `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
#
#
