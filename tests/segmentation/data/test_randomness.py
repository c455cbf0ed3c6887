import numpy as np
import pytest

from seg_pipeline.segmentation.data.randomness import uniforms


def keys(*sides):
    """All keys of these numbers of values: int64 (B, k)."""
    return np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij"), axis=-1).reshape(-1, len(sides))


def test_a_row_is_splitmix64s_sequence():
    """Published outputs of SplitMix64 for the seed 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    drawn = uniforms(1234567, np.empty((1, 0), dtype=np.int64), 4)
    assert (drawn * 2**53).astype(np.uint64).tolist() == [[number >> 11 for number in published]]


def test_the_numbers_of_a_key_never_change():
    drawn = uniforms(7, np.array([[3, 41, 0, -1], [3, 41, 1, -1]]), 2)
    assert drawn.tolist() == [[0.9379757903385108, 0.6177726094267831], [0.622088224205898, 0.18092406946016182]]


def test_a_row_depends_on_its_own_key_alone():
    many = keys(2, 5, 2)
    together = uniforms(-4, many, 6)
    assert (together[:, :3] == uniforms(-4, many, 3)).all()
    for at in (0, 7, 19):
        assert (uniforms(-4, many[at : at + 1], 6) == together[at]).all()
    assert (uniforms(-4, many[::-1], 6) == together[::-1]).all()


def test_seeds_keys_and_their_lengths_give_different_numbers():
    drawn = [uniforms(seed, keys(*sides), 3) for seed in (0, 1, -1) for sides in [(4, 4, 4), (4, 4, 4, 4)]]
    numbers = np.concatenate([part.ravel() for part in drawn])
    assert len(np.unique(numbers)) == len(numbers)
    assert 0 <= numbers.min() < numbers.max() < 1


def test_numbers_are_uniform():
    drawn = uniforms(5, keys(4, 2500, 2), 10)
    counts = np.stack([np.bincount((column * 100).astype(int), minlength=100) for column in drawn.T])
    squares = ((counts - 200) ** 2 / 200).sum(axis=1)  # chi-square of 99 degrees of freedom: 99 +- 14
    assert squares.min() > 50
    assert squares.max() < 160


@pytest.mark.parametrize("step", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 0), (2, 0, 0)])
def test_neighbouring_keys_and_counters_are_independent(step):
    near = keys(20, 50, 10)
    one, other = uniforms(9, near, 4) - 0.5, uniforms(9, near + step, 4) - 0.5
    together = np.corrcoef(one, other, rowvar=False)  # of 4 and 4 counters
    np.fill_diagonal(together, 0)
    assert np.abs(together).max() < 0.045  # 4.5 standard deviations of 10,000 pairs


def test_a_change_of_one_bit_flips_half_of_the_bits():
    some = keys(1, 64, 1)
    before = (uniforms(0, some, 2) * 2**53).astype(np.uint64)
    for bit in (0, 1, 7, 31, 62):
        for field in range(3):
            after = (uniforms(0, some ^ (np.int64(1) << bit) * (np.arange(3) == field), 2) * 2**53).astype(np.uint64)
            flipped = np.unpackbits((before ^ after).view(np.uint8)).sum() / before.size
            assert 25 < flipped < 28  # of 53
