"""Random numbers as a function of a seed and a key, computed for many keys at once."""

import numpy as np

STEP = np.uint64(0x9E3779B97F4A7C15)


def uniforms(seed: int, keys: np.ndarray, count: int) -> np.ndarray:
    """Draw ``count`` numbers in [0, 1) per key: float64 (B, count), the same on every machine.

    Each row is SplitMix64's sequence (Steele, Lea and Flood 2014), which starts at a hash of the seed and the row's
    fields. There is no generator to seed or restore, so a batch costs as much as a sample, and the numbers of a
    sample do not depend on what was drawn before it.

    Args:
        keys: int64 (B, k), the fields that tell the samples apart.
    """
    state = np.full(len(keys), seed, dtype=np.int64).view(np.uint64)
    for field in np.ascontiguousarray(keys.T, dtype=np.int64).view(np.uint64):
        state = _mix_bits(state + STEP) ^ field
    bits = _mix_bits(state[:, None] + STEP * np.arange(1, count + 1, dtype=np.uint64))
    return (bits >> np.uint64(11)) * 2.0**-53


def _mix_bits(bits: np.ndarray) -> np.ndarray:
    """Flip about half of the 64 bits for any change of the input: SplitMix64's finaliser."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
