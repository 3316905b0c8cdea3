"""Features and codes: rounding, training noise, and the packing of codes into texel words (design.md, section 5);
the weights of the network as they are stored.

A grid with `bits` bits per feature has N = 2**bits feature values, the centres of N equal cells on [-0.5, 0.5].
Code c stands for the feature c/N - (N-1)/(2N). All of it is exact in float32 up to 16 bits.
"""

from __future__ import annotations

import numpy as np
import torch
from torchtyping import TensorType

from shape import features_per_texel

Codes = TensorType["texels", "features"]
Matrix = TensorType["outputs", "inputs"]
Scales = TensorType["outputs"]

FEATURE_LIMIT = 0.5  # trained features stay within the outer edges of the outermost cells

# --- codes ---------------------------------------------------------------------------------------------------------


def codes_from_features(features: TensorType, bits: int) -> TensorType:
    """Nearest code of each feature: floor(f*N + N/2), saturated to 0..N-1.

    Args:
        features: any shape, float32; outside [-0.5, 0.5] saturates, NaN becomes code 0.
        bits: code width, one of configs.QUANTIZE_BITS.
    Returns: int32 codes of the same shape. A feature on the edge between two cells takes the upper one.
    """
    n = 1 << bits
    return torch.nan_to_num(features * n + n // 2, nan=0.0).floor().clamp_(0, n - 1).to(torch.int32)


def features_from_codes(codes: TensorType, bits: int) -> TensorType:
    """The feature that each code stands for, c/N - (N-1)/(2N), as float32 of the same shape (exact)."""
    n = 1 << bits
    return (codes.to(torch.float32) - (n - 1) / 2) / n


class _RoundStraightThrough(torch.autograd.Function):
    """Round to the nearest feature value; the gradient passes unchanged (Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx, features, bits):
        n = 1 << bits
        codes = (features * n + n // 2).floor_().clamp_(0, n - 1)
        return codes.sub_((n - 1) / 2).div_(n)

    @staticmethod
    def backward(ctx, upstream):
        return upstream, None


def round_features(features: TensorType, bits: int) -> TensorType:
    """features_from_codes(codes_from_features(features)) in one step, with a straight-through gradient."""
    return _RoundStraightThrough.apply(features, bits)


# --- weights -------------------------------------------------------------------------------------------------------

MOST_HALF = 65504.0  # the largest float16
LEAST_PEAK = 1e-30  # a row of 8-bit weights none of which is larger is stored as zeros


def stored_weights(weight: Matrix, bits: int) -> tuple[Matrix, Scales | None]:
    """A weight matrix as network_data.npz holds it.

    Args:
        weight: (outputs, inputs) float32.
        bits: one of configs.WEIGHT_BITS.
    Returns: float32, float16 or int8 numbers, and for 8 bits the float32 scale of each row: a weight is number * scale.
        A scale has 16 significant bits, so that the product is exact, and what has been rounded is stored as it is.
    """
    if bits == 32:
        return weight, None
    if bits == 16:
        return weight.clamp(-MOST_HALF, MOST_HALF).to(torch.float16), None
    peak = weight.abs().amax(dim=1, keepdim=True)
    peak = torch.where(peak > LEAST_PEAK, peak, torch.zeros_like(peak))
    # by a tensor: CUDA divides by a number through its reciprocal, which rounds otherwise
    scale = ((peak / torch.full_like(peak, 127)).view(torch.int32) & -256).view(torch.float32)
    steps = weight / torch.where(scale > 0, scale, torch.ones_like(scale))
    codes = torch.where(scale > 0, steps.round().clamp(-127, 127), torch.zeros_like(steps))
    return codes.to(torch.int8), scale[:, 0]


class _RoundWeights(torch.autograd.Function):
    """`stored_weights` as float32; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx, weight, bits):
        stored, scale = stored_weights(weight, bits)
        return stored.to(torch.float32) if scale is None else stored.to(torch.float32) * scale[:, None]

    @staticmethod
    def backward(ctx, upstream):
        return upstream, None


def round_weights(weight: Matrix, bits: int) -> Matrix:
    """The float32 weights that `stored_weights` stand for, with a straight-through gradient; exact for 32 bits."""
    return weight if bits == 32 else _RoundWeights.apply(weight, bits)


# --- noise ---------------------------------------------------------------------------------------------------------


def _to_int32(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value & 0x80000000 else value


def _mix(x: TensorType) -> TensorType:
    """The 32-bit integer mixer "lowbias32" of C. Wellons' hash prospector (public domain), in place on int32.

    torch shifts int32 arithmetically, so each shift is masked back to a logical one.
    """
    x ^= (x >> 16) & 0xFFFF
    x *= _to_int32(0x7FEB352D)
    x ^= (x >> 15) & 0x1FFFF
    x *= _to_int32(0x846CA68B)
    x ^= (x >> 16) & 0xFFFF
    return x


def stream_key(seed: int, iteration: int, stream: int) -> int:
    """A 32-bit key for one independent random stream of one training iteration, as a signed int32.

    The same mixing as `_mix`, on Python integers: keys are needed several times per iteration, and a dozen tensor
    operations on a single number would take much longer.
    """
    key = seed & 0xFFFFFFFF
    for word in (iteration, stream):
        key ^= (word * 0x9E3779B9 + 0x7F4A7C15) & 0xFFFFFFFF
        key ^= key >> 16
        key = key * 0x7FEB352D & 0xFFFFFFFF
        key ^= key >> 15
        key = key * 0x846CA68B & 0xFFFFFFFF
        key ^= key >> 16
    return _to_int32(key)


def hash_uniform(index: TensorType, key: int) -> TensorType:
    """Uniform numbers in [0, 1) that depend on (index, key) alone: the random source of every engine.

    A number does not depend on the order in which numbers are drawn, so a resumed run, another device and a fused
    kernel draw the same ones, and there is no generator state to save.

    Args:
        index: any shape, int32 or int64; the low 32 bits count.
        key: see stream_key.
    Returns: float32 of the same shape: the top 24 bits of the hash times 2**-24, so the value is exact.
    """
    x = index.to(torch.int32, copy=True)
    x *= _to_int32(0x9E3779B1)  # spread consecutive indices before the key goes in
    x ^= key
    x = _mix(x)
    return ((x >> 8) & 0xFFFFFF).to(torch.float32) * 2.0**-24


# --- words ---------------------------------------------------------------------------------------------------------


def pack_codes(codes: Codes | np.ndarray, quantize_bits: int, save_bits: int) -> np.ndarray:
    """Concatenate each texel's codes, most significant first, into the bytes of one word.

    Args:
        codes: (T, F) integers in 0..2**quantize_bits - 1, with F = save_bits / quantize_bits.
    Returns: (T, save_bits / 8) uint8; byte 0 is R of an R8G8B8A8 texel.
    Raises: ValueError when F does not match, or a code does not fit into its bits.
    """
    codes = np.asarray(codes)
    features = features_per_texel(quantize_bits, save_bits)
    if codes.ndim != 2 or codes.shape[1] != features:
        raise ValueError(
            f"codes must be (texels, {features}) for {quantize_bits}-bit codes in {save_bits}-bit words, "
            f"got {codes.shape}"
        )
    if codes.size and (codes.min() < 0 or codes.max() >> quantize_bits):
        raise ValueError(f"codes must be in 0..{(1 << quantize_bits) - 1}, got {codes.min()}..{codes.max()}")
    if quantize_bits == 16:
        return np.ascontiguousarray(codes.astype(">u2")).view(np.uint8)
    per_byte = 8 // quantize_bits
    shifts = np.arange(per_byte - 1, -1, -1, dtype=np.uint8) * quantize_bits
    fields = codes.astype(np.uint8).reshape(len(codes), save_bits // 8, per_byte)
    return np.bitwise_or.reduce(fields << shifts, axis=2).astype(np.uint8)


def unpack_codes(words: np.ndarray, quantize_bits: int, save_bits: int) -> np.ndarray:
    """The inverse of pack_codes: (T, save_bits / 8) uint8 -> (T, save_bits / quantize_bits) uint16 codes."""
    features = features_per_texel(quantize_bits, save_bits)
    words = np.asarray(words)
    if words.dtype != np.uint8 or words.ndim != 2 or words.shape[1] != save_bits // 8:
        raise ValueError(f"words must be (texels, {save_bits // 8}) uint8, got {words.shape} {words.dtype}")
    if quantize_bits == 16:
        return np.ascontiguousarray(words).view(">u2").astype(np.uint16)
    per_byte = 8 // quantize_bits
    shifts = np.arange(per_byte - 1, -1, -1, dtype=np.uint8) * quantize_bits
    fields = (words[:, :, None] >> shifts) & ((1 << quantize_bits) - 1)
    return fields.reshape(len(words), features).astype(np.uint16)
