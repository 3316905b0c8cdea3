"""Device functions that every kernel shares: random numbers, rounding, activations, matrix products.

They are the formulas of quantize.py and model.py; all run on float32 and uint32 without fused multiply-adds (the
kernels are compiled with enable_fp_fusion=False), so that positions, noise and rounding have the reference's bits.
"""

import triton
import triton.language as tl

STREAM_LOD = tl.constexpr(0)  # engine/sampling.py
STREAM_TEXEL = tl.constexpr(1)
STREAM_NOISE = tl.constexpr(2)
DRIFT_SIZE = tl.constexpr(1024)  # engine/cpu/src/texels.h: a power of two, above the largest age of a texel
LIMIT = tl.constexpr(0.5)  # quantize.FEATURE_LIMIT


# --- random numbers: quantize.py -------------------------------------------------------------------------------------


@triton.jit
def mix(x):
    """quantize._mix on uint32."""
    x = x ^ (x >> 16)
    x = x * 0x7FEB352D
    x = x ^ (x >> 15)
    x = x * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def stream_key(seed, iteration, STREAM: tl.constexpr):
    """quantize.stream_key of uint32 `seed` and `iteration`."""
    key = mix(seed ^ (iteration * 0x9E3779B9 + 0x7F4A7C15))
    return mix(key ^ ((STREAM * 0x9E3779B9 + 0x7F4A7C15) & 0xFFFFFFFF))


@triton.jit
def hash_uniform(index, key):
    """quantize.hash_uniform of uint32 indices: float32 in [0, 1), 24 bits."""
    bits = mix((index * 0x9E3779B1) ^ key) >> 8
    return bits.to(tl.int32).to(tl.float32) * 5.9604644775390625e-08  # 2**-24


# --- features --------------------------------------------------------------------------------------------------------


@triton.jit
def round_feature(value, BITS: tl.constexpr):
    """quantize.round_features."""
    n: tl.constexpr = 1 << BITS
    code = tl.minimum(tl.maximum(tl.floor(value * n + n // 2), 0.0), n - 1.0)
    return (code - (n - 1) * 0.5) * (1.0 / n)


@triton.jit
def clamp_feature(value, QUANTIZED: tl.constexpr):
    """Where codes can reach it; float features go anywhere."""
    if QUANTIZED:
        value = tl.minimum(tl.maximum(value, -LIMIT), LIMIT)
    return value


# --- network ---------------------------------------------------------------------------------------------------------


@triton.jit
def operand(a, PRECISION: tl.constexpr):
    """`a` as the tensor cores see it. A float32 is rounded to tf32 here: they would cut it off, always towards zero,
    which moves what a trained network decodes by 8e-4 instead of 2e-4 (data/test, 2.5 bpp, all channels too dark)."""
    if PRECISION == "bf16":
        return a.to(tl.bfloat16)
    elif PRECISION == "bf16_emulated":  # Triton's interpreter cannot multiply bfloat16, and cuts off to it
        bits = a.to(tl.float32).to(tl.uint32, bitcast=True)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).to(tl.float32, bitcast=True)
    elif PRECISION == "tf32":  # to the nearest of 10 bits, ties away from zero: PTX's cvt.rna.tf32.f32
        return ((a.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    else:
        return a


@triton.jit
def product(a, b, sum, PRECISION: tl.constexpr):
    """sum + a @ b in float32. PRECISION: how the tensor cores see a and b; ieee: as float32, without tensor cores.

    a and b are `operand`s, or weights, which are rounded to tf32 where they are packed: here it would cost registers.
    """
    if PRECISION == "bf16":
        return tl.dot(a, b.to(tl.bfloat16), sum)
    elif PRECISION == "bf16_emulated":  # weights are bfloat16 in memory, or float32 that is still to be rounded
        return tl.dot(a, operand(b, PRECISION), sum, input_precision="ieee")
    else:
        return tl.dot(a, b, sum, input_precision=PRECISION)


@triton.jit
def activate(z, HARD_SWISH: tl.constexpr, SLOPE: tl.constexpr):
    if HARD_SWISH:
        return z * tl.minimum(tl.maximum(z + 3.0, 0.0), 6.0) * (1.0 / 6)
    else:
        return tl.where(z > 0, z, z * SLOPE)


@triton.jit
def activate_back(upstream, seen, HARD_SWISH: tl.constexpr, SLOPE: tl.constexpr):
    """Gradient by the argument of `activate`. seen: the argument (hard swish), or the result or argument (leaky)."""
    if HARD_SWISH:
        inside = tl.where(seen <= 3, upstream * (seen * (1.0 / 3) + 0.5), upstream)
        return tl.where(seen < -3, 0.0, inside)
    else:
        return tl.where(seen > 0, upstream, upstream * SLOPE)


# --- gradients of grids ----------------------------------------------------------------------------------------------


@triton.jit
def add_gradient(pointers, value, mask, FIXED_POINT: tl.constexpr):
    """Scatter: a float32 atomic, or one on int64 multiples of 1 / FIXED_POINT, whose sum has no order."""
    if FIXED_POINT > 0.0:
        most: tl.constexpr = 9007199254740992.0  # 2**53: int64 holds sums of a thousand of these
        limited = tl.minimum(tl.maximum(value * FIXED_POINT, -most), most)
        tl.atomic_add(pointers, limited.to(tl.int64), mask=mask, sem="relaxed")
    else:
        tl.atomic_add(pointers, value, mask=mask, sem="relaxed")


@triton.jit
def gradient_value(stored, FIXED_POINT: tl.constexpr):
    """What add_gradient has summed, as float32."""
    if FIXED_POINT > 0.0:
        return (stored.to(tl.float64) * (1.0 / FIXED_POINT)).to(tl.float32)
    else:
        return stored
