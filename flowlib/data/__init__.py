"""Data: real handwriting, two-dimensional sets and your own images, by name or by the path of a folder.

Example:
    >>> import torch
    >>> from flowlib.data import DataError, Scenes, open_data
    >>> scenes = Scenes(size=16, split="test")  # as load("scenes", "test")
    >>> scenes.batch(torch.tensor([1_000_000]))["caption"]  # a function of the index: there is no end of them
    ['a small pink four at the right, on grey']
    >>> first = scenes.first(3)  # as a `Dataset`, which lies in memory
    >>> first.shape, first.spec.columns[:3]
    ((3, 16, 16), ('x', 'caption', 'noisy'))
    >>> try:
    ...     open_data("no/such/folder")
    ... except DataError as error:
    ...     print(str(error).split(":")[0])
    there is no data set and no folder 'no/such/folder'
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
