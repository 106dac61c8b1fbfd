"""Random numbers that are a function of a seed and an index: data without an end, of which any part can be had at once.

The one exception to generators. A hash of a counter (SplitMix64: Steele, Lea & Flood 2014, figure 16) has no state, so
that item 10^9 costs what item 0 costs, and a batch is computed as a whole.
"""

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


def uniforms(seed: int, index: np.ndarray, draws: int) -> np.ndarray:
    """Independent uniform numbers for each index: (B,) integers -> (B, draws) float64 in [0, 1).

    Example:
        >>> import numpy as np
        >>> first = uniforms(0, np.array([7, 8]), 3)
        >>> bool((first[1] == uniforms(0, np.array([8]), 3)[0]).all())
        True
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        key = _mix(np.asarray(index).astype(np.uint64) + _mix(np.array([seed], dtype=np.uint64) + _STEP))
        bits = _mix(key[:, None] + _STEP * np.arange(1, draws + 1, dtype=np.uint64))
    return (bits >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
