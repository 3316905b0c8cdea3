"""quantize.py: codes, the straight-through rounding, the counted random numbers, and words bit by bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from configs import QUANTIZE_BITS, SAVE_BITS
from quantize import (
    FEATURE_LIMIT,
    codes_from_features,
    features_from_codes,
    features_per_texel,
    hash_uniform,
    pack_codes,
    round_features,
    stream_key,
    unpack_codes,
)
from tests.support import reference

PAIRS = [(q, s) for q in QUANTIZE_BITS for s in SAVE_BITS if q <= s]
bits_all = pytest.mark.parametrize("bits", QUANTIZE_BITS)


def awkward_features(bits: int) -> torch.Tensor:
    """Ties, their float neighbours, both ends, far outside, and random ones, as (odd, odd, 3)."""
    n = 1 << bits
    edges = torch.arange(0, min(n, 256) + 1, dtype=torch.float32) / n - 0.5
    neighbours = [torch.nextafter(edges, torch.full_like(edges, end)) for end in (-9.0, 9.0)]
    far = torch.tensor([-1e30, -7.0, -0.5000001, -0.0, 0.0, 1e-9, 0.4999999, 0.5, 0.5000001, 7.0, 1e30])
    values = torch.cat([edges, *neighbours, far, torch.rand(500) * 1.4 - 0.7])
    return values[: len(values) // 15 * 15].view(-1, 5, 3)


# --- codes -----------------------------------------------------------------------------------------------------------


@bits_all
def test_every_code_survives_the_round_trip(bits):
    codes = torch.arange(1 << bits, dtype=torch.int32)
    features = features_from_codes(codes, bits)
    assert features.dtype == torch.float32
    assert torch.equal(codes_from_features(features, bits), codes)
    assert torch.equal(round_features(features, bits), features)


@bits_all
def test_features_follow_the_formula_exactly(bits):
    codes = torch.arange(1 << bits)
    want = [reference.feature_of(code, bits) for code in range(1 << bits)]
    assert features_from_codes(codes, bits).double().tolist() == want


@bits_all
def test_a_unorm_read_gives_the_same_feature(bits):
    n = 1 << bits
    t = np.arange(n) / (n - 1)
    want = features_from_codes(torch.arange(n), bits).double().numpy()
    np.testing.assert_allclose((t - 0.5) * (n - 1) / n, want, rtol=0, atol=1e-15)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_codes_are_the_nearest_ones(bits):
    features = torch.rand(300) * 1.3 - 0.65
    want = [reference.code_of(float(feature), bits) for feature in features]
    codes = codes_from_features(features, bits)
    assert codes.dtype == torch.int32
    assert codes.tolist() == want


@bits_all
def test_ties_take_the_upper_code_and_their_lower_neighbours_do_not(bits):
    n = 1 << bits
    upper = torch.arange(1, n)
    edges = upper / n - 0.5  # half way between two features, exact in float32
    assert codes_from_features(edges, bits).tolist() == upper.tolist()
    below = edges - 2.0**-24  # far enough to be a number of its own after the scaling, too
    assert codes_from_features(below, bits).tolist() == (upper - 1).tolist()


@bits_all
def test_codes_saturate(bits):
    top = (1 << bits) - 1
    features = torch.tensor([-math.inf, -1e38, -3.0, -FEATURE_LIMIT, FEATURE_LIMIT, 3.0, 1e38, math.inf])
    assert codes_from_features(features, bits).tolist() == [0] * 4 + [top] * 4


@bits_all
def test_nan_becomes_code_0(bits):
    assert codes_from_features(torch.tensor([math.nan, 0.5]), bits).tolist() == [0, (1 << bits) - 1]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (1,), (5, 7, 3)], ids=str)
def test_shapes_are_kept(shape):
    features = torch.rand(shape) - 0.5
    assert codes_from_features(features, 4).shape == features.shape
    assert features_from_codes(codes_from_features(features, 4), 4).shape == features.shape
    assert round_features(features, 4).shape == features.shape


# --- straight-through rounding ---------------------------------------------------------------------------------------


@bits_all
def test_rounding_equals_the_way_over_codes_bit_for_bit(bits):
    features = awkward_features(bits)
    kept = features.clone()
    want = features_from_codes(codes_from_features(features, bits), bits)
    got = round_features(features, bits)
    assert torch.equal(got.view(torch.int32), want.view(torch.int32))
    assert torch.equal(features, kept), "the input was written to"


def test_rounding_of_nan_equals_the_way_over_codes_or_stays_nan():
    """What must not happen is a third value: NaN in, an ordinary feature other than that of code 0 out."""
    got = round_features(torch.tensor([math.nan]), 4)
    assert got.isnan().all() or torch.equal(got, features_from_codes(torch.tensor([0]), 4))


@bits_all
def test_gradient_is_the_upstream_gradient(bits):
    features = awkward_features(bits).requires_grad_()
    upstream = torch.randn_like(features)
    (gradient,) = torch.autograd.grad(round_features(features, bits), features, upstream)
    assert torch.equal(gradient, upstream)
    assert gradient.abs().sum() > 0


# --- random numbers --------------------------------------------------------------------------------------------------


def test_hash_equals_the_python_one():
    index = torch.cat([torch.arange(400), torch.randint(0, 2**31 - 1, (400,))]).int()
    for key in (0, 1, -1, 2**31 - 1, -(2**31), 123456789):
        want = [reference.hash_uniform(int(i), key) for i in index]
        assert hash_uniform(index, key).double().tolist() == want


def test_hash_uses_the_low_32_bits_of_the_index():
    index = torch.tensor([5, 5 + 2**32, 5 - 2**32, 2**31, -(2**31), 2**32 - 1, -1])
    got = hash_uniform(index, 7).double().tolist()
    assert got == [reference.hash_uniform(int(i) % 2**32, 7) for i in index]
    assert got[0] == got[1] == got[2] and got[3] == got[4] and got[5] == got[6]


def test_hash_leaves_its_index_alone_and_keeps_the_shape():
    for dtype in (torch.int32, torch.int64):
        index = torch.arange(30, dtype=dtype).view(5, 2, 3)
        kept = index.clone()
        values = hash_uniform(index, 3)
        assert values.shape == index.shape and values.dtype == torch.float32
        assert torch.equal(index, kept)
        assert torch.equal(values, hash_uniform(index.int(), 3))


def test_hash_is_uniform():
    """Mean, variance, and 64 bins of 2**17 numbers, each within 5 standard deviations of what they should be."""
    n = 1 << 17
    for key in (0, 1, stream_key(3, 17, 2)):
        values = hash_uniform(torch.arange(n, dtype=torch.int32), key).double()
        assert values.min() >= 0 and values.max() < 1
        assert abs(values.mean() - 1 / 2) < 5 * math.sqrt(1 / 12 / n)
        assert abs(values.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / n)
        chi2 = ((torch.histc(values, 64, 0, 1) - n / 64) ** 2 / (n / 64)).sum()
        assert abs(chi2 - 63) < 5 * math.sqrt(2 * 63)
        lag = torch.corrcoef(torch.stack([values[:-1], values[1:]]))[0, 1]
        assert abs(lag) < 5 / math.sqrt(n)


def test_hash_does_not_depend_on_the_order():
    order = torch.randperm(1000)
    index = torch.arange(1000)
    assert torch.equal(hash_uniform(index, 9)[order], hash_uniform(index[order], 9))
    assert torch.equal(hash_uniform(index, 9)[123:124], hash_uniform(index[123:124], 9))


def test_other_keys_give_unrelated_numbers():
    n = 1 << 14
    index = torch.arange(n)
    values = torch.stack([hash_uniform(index, key) for key in (0, 1, 2, -1, 2**30)]).double()
    correlation = torch.corrcoef(values) - torch.eye(len(values))
    assert correlation.abs().max() < 5 / math.sqrt(n)


def test_stream_key_equals_the_python_one():
    for seed in (0, 1, 2**31 - 1):
        for iteration in (0, 1, 99_999, 10_000_000):
            for stream in (0, 1, 2, 17):
                key = stream_key(seed, iteration, stream)
                assert type(key) is int and -(2**31) <= key < 2**31
                assert key == reference.stream_key(seed, iteration, stream)


def test_stream_keys_differ():
    keys = {stream_key(seed, i, stream) for seed in range(5) for i in range(200) for stream in range(4)}
    assert len(keys) == 5 * 200 * 4


@pytest.mark.gpu
def test_gpu_hash_and_rounding_equal_those_of_the_cpu():
    index = torch.cat([torch.arange(4096), torch.randint(0, 2**31 - 1, (4096,))])
    assert torch.equal(hash_uniform(index.cuda(), -77).cpu(), hash_uniform(index, -77))
    for bits in QUANTIZE_BITS:
        features = awkward_features(bits)
        assert torch.equal(round_features(features.cuda(), bits).cpu(), round_features(features, bits))
        assert torch.equal(codes_from_features(features.cuda(), bits).cpu(), codes_from_features(features, bits))


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("quantize_bits", "save_bits"), PAIRS)
def test_words_equal_the_bit_strings(quantize_bits, save_bits):
    features = features_per_texel(quantize_bits, save_bits)
    assert features == save_bits // quantize_bits
    random = np.random.default_rng(save_bits + quantize_bits)
    codes = random.integers(0, 2**quantize_bits, (37, features))
    codes[0], codes[1] = 0, 2**quantize_bits - 1
    words = pack_codes(codes, quantize_bits, save_bits)
    assert words.shape == (37, save_bits // 8) and words.dtype == np.uint8
    assert [word.tobytes() for word in words] == [reference.pack_word(row, quantize_bits, save_bits) for row in codes]
    back = unpack_codes(words, quantize_bits, save_bits)
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, codes)
    np.testing.assert_array_equal(back, [reference.unpack_word(word.tobytes(), quantize_bits) for word in words])


@pytest.mark.parametrize(("quantize_bits", "save_bits"), PAIRS)
def test_random_words_survive_unpacking_and_packing(quantize_bits, save_bits):
    words = np.random.default_rng(1).integers(0, 256, (19, save_bits // 8), dtype=np.uint8)
    np.testing.assert_array_equal(pack_codes(unpack_codes(words, quantize_bits, save_bits), quantize_bits, save_bits),
                                  words)  # fmt: skip


def test_8_bit_features_are_r_g_b_a():
    np.testing.assert_array_equal(pack_codes(np.array([[1, 2, 3, 4]]), 8, 32), [[1, 2, 3, 4]])


def test_4_bit_features_are_two_a_byte_the_first_in_the_high_nibble():
    codes = np.array([[0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8]])
    np.testing.assert_array_equal(pack_codes(codes, 4, 32), [[0x12, 0x34, 0x56, 0x78]])


def test_1_and_16_bit_features_start_at_the_top():
    np.testing.assert_array_equal(pack_codes(np.array([[1, 0, 0, 0, 0, 0, 1, 0]]), 1, 8), [[0x82]])
    np.testing.assert_array_equal(pack_codes(np.array([[0x1234, 0xABCD]]), 16, 32), [[0x12, 0x34, 0xAB, 0xCD]])


def test_tensors_and_views_can_be_packed():
    codes = torch.arange(16, dtype=torch.int32).view(2, 8)
    np.testing.assert_array_equal(pack_codes(codes, 4, 32), [[0x01, 0x23, 0x45, 0x67], [0x89, 0xAB, 0xCD, 0xEF]])
    turned = np.asfortranarray(codes.numpy())
    np.testing.assert_array_equal(pack_codes(turned, 4, 32), pack_codes(codes, 4, 32))
    words = np.arange(16, dtype=np.uint8).reshape(2, 8)[:, ::2]  # not contiguous
    np.testing.assert_array_equal(unpack_codes(words, 16, 32), [[0x0002, 0x0406], [0x080A, 0x0C0E]])


@pytest.mark.parametrize(("quantize_bits", "save_bits"), PAIRS)
def test_no_texels_are_fine(quantize_bits, save_bits):
    features = features_per_texel(quantize_bits, save_bits)
    words = pack_codes(np.empty((0, features), np.int32), quantize_bits, save_bits)
    assert words.shape == (0, save_bits // 8)
    assert unpack_codes(words, quantize_bits, save_bits).shape == (0, features)


@pytest.mark.parametrize(
    ("quantize_bits", "save_bits"), [(16, 8), (0, 32), (3, 32), (5, 64), (32, 32), (4, 4), (4, 24), (4, 128), (-1, 8)]
)
def test_impossible_pairs_are_refused(quantize_bits, save_bits):
    with pytest.raises(ValueError, match="bits"):
        features_per_texel(quantize_bits, save_bits)
    with pytest.raises(ValueError, match="bits"):
        pack_codes(np.zeros((2, 8), int), quantize_bits, save_bits)
    with pytest.raises(ValueError, match="bits"):
        unpack_codes(np.zeros((2, 4), np.uint8), quantize_bits, save_bits)


@pytest.mark.parametrize("bad", [-1, 16, 256, 65536])
def test_codes_that_do_not_fit_are_refused(bad):
    codes = np.zeros((3, 8), np.int64)
    codes[2, 7] = bad
    with pytest.raises(ValueError, match=r"0\.\.15"):
        pack_codes(codes, 4, 32)


@pytest.mark.parametrize("shape", [(3, 7), (3, 9), (8,), (2, 3, 8)], ids=str)
def test_code_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="8"):
        pack_codes(np.zeros(shape, int), 4, 32)


@pytest.mark.parametrize("words", [np.zeros((3, 3), np.uint8), np.zeros((3, 4), np.int32), np.zeros(4, np.uint8)])
def test_word_arrays_of_another_shape_are_refused(words):
    with pytest.raises(ValueError, match="words"):
        unpack_codes(words, 4, 32)
