import numpy as np
import pytest
from scipy.ndimage import zoom

from factories import smooth_volume
from scanlore.corpus import fingerprint as module
from scanlore.corpus.fingerprint import MOST_PAIRS, NEAR, NUM_BITS, distance, fingerprint, near_pairs, truncated

RNG = np.random.default_rng(0)
SCAN = (smooth_volume((48, 44, 40), seed=1) * 1000).astype(np.int16)
IMAGE = (smooth_volume((90, 80), seed=1) * 255).astype(np.uint8)


def test_length_is_fixed():
    for voxels in (SCAN, IMAGE, SCAN.astype(np.float64), np.zeros((1, 1, 1)), np.ones((3, 2)), RNG.random((1, 9, 1))):
        assert len(bytes.fromhex(fingerprint(voxels))) * 8 == NUM_BITS


@pytest.mark.parametrize("voxels", [SCAN, IMAGE], ids=["volume", "image"])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x * 0.37 + 12,
        lambda x: np.clip(x.astype(float) / x.max() * 260 - 3, 0, 255).astype(np.uint8),
        lambda x: np.asfortranarray(x.astype(np.float32)),
        lambda x: np.pad(x, [(5, 9)] * x.ndim),
        lambda x: np.pad(x, [(5, 9)] * x.ndim, constant_values=-100),
        lambda x: x[(slice(1, -1),) * x.ndim],
        lambda x: x + np.random.default_rng(1).normal(0, 0.01 * x.max(), x.shape),
        lambda x: zoom(x.astype(float), 0.6, order=1, grid_mode=True, mode="nearest"),
        lambda x: zoom(x.astype(float), (0.5, *(1.3,) * (x.ndim - 1)), order=1, grid_mode=True, mode="nearest"),
    ],
    ids=["slope", "8 bit", "float", "zeros around", "padded", "cropped", "noise", "coarser", "anisotropic"],
)
def test_a_converted_copy_is_near(voxels, change):
    assert distance(fingerprint(change(voxels)), fingerprint(voxels)) <= NEAR


@pytest.mark.parametrize("shape", [(48, 44, 40), (90, 80)])
def test_other_scans_of_the_same_form_are_far(shape):
    prints = [fingerprint(smooth_volume(shape, seed)) for seed in range(5)]
    assert near_pairs(prints) == []


def test_order_in_memory_and_repetition_change_nothing():
    assert fingerprint(np.asfortranarray(SCAN)) == fingerprint(SCAN) == fingerprint(SCAN[:, ::-1][:, ::-1])


def test_a_mirrored_scan_is_another():
    assert distance(fingerprint(SCAN[::-1]), fingerprint(SCAN)) > NEAR


def test_large_volumes_are_read_in_steps(monkeypatch):
    monkeypatch.setitem(module.MOST_READ, 3, 24)
    assert module._strided(SCAN).shape == (24, 22, 20)


def test_distance_counts_bits():
    assert distance("00" * 64, "ff" * 64) == NUM_BITS
    assert distance("0f" * 64, "0e" * 64) == 64


def test_truncated_is_every_fourth_bit():
    assert truncated("88" * 64) == "ff" * 16
    assert truncated("77" * 64) == "00" * 16
    copy = fingerprint(SCAN[1:-1, 1:-1, 1:-1])
    assert distance(truncated(copy), truncated(fingerprint(SCAN))) <= NEAR // 4


def flipped(text, count):
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    bits[RNG.choice(NUM_BITS, count, replace=False)] ^= 1
    return np.packbits(bits).tobytes().hex()


def test_pairs_are_those_of_every_comparison():
    seeds = [RNG.bytes(64).hex() for _ in range(8)]
    prints = [flipped(seeds[number % 8], int(count)) for number, count in enumerate(RNG.integers(0, 60, 60))]
    for limit in (0, 20, NEAR):
        wanted = [(i, j) for j in range(60) for i in range(j) if distance(prints[i], prints[j]) <= limit]
        assert near_pairs(prints, limit) == sorted(wanted)


def test_pairs_of_many_equal_ones_are_bounded():
    pairs = near_pairs(["00" * 64] * 100)
    assert len(pairs) < 100 * MOST_PAIRS
    assert {later for _, later in pairs} == set(range(1, 100))
    assert all(earlier < later for earlier, later in pairs)


def test_no_pairs_of_none_or_one():
    assert near_pairs([]) == near_pairs(["00" * 64]) == []
