"""Device functions that all kernels share: random numbers, rounding, activations, matrix products.

The formulas are those of quantize.py and model.py, on float32 and uint32. The kernels are compiled without fused
multiply-adds (enable_fp_fusion=False), so that positions, noise and rounding have the reference's bits.
"""

import triton
import triton.language as tl

STREAM_LOD = tl.constexpr(0)  # engine/sampling.py
STREAM_TEXEL = tl.constexpr(1)
STREAM_NOISE = tl.constexpr(2)
STREAM_FRACTION = tl.constexpr(64)
DRIFT_SIZE = tl.constexpr(1024)  # NT_DRIFT_SIZE of engine/cpu/src/nt.h
LIMIT = tl.constexpr(0.5)  # quantize.FEATURE_LIMIT
MOST_HALF = tl.constexpr(65504.0)  # quantize.MOST_HALF
LEAST_PEAK = tl.constexpr(1e-30)  # quantize.LEAST_PEAK
TO_WHOLE = tl.constexpr(12582912.0)  # 1.5 * 2**23: between 2**23 and 2**24 a float32 is a whole number


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
def numbered_key(seed, iteration, stream):
    """stream_key of a uint32 tensor of streams."""
    key = mix(seed ^ (iteration * 0x9E3779B9 + 0x7F4A7C15))
    return mix(key ^ (stream * 0x9E3779B9 + 0x7F4A7C15))


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
def round_row(weights, BITS: tl.constexpr):
    """quantize.round_weights of one row of a matrix, for 16 or 8 bits."""
    if BITS == 16:
        return tl.minimum(tl.maximum(weights, -MOST_HALF), MOST_HALF).to(tl.float16).to(tl.float32)
    peak = tl.max(tl.abs(weights), axis=0)
    scale = tl.div_rn(peak, 127.0).to(tl.int32, bitcast=True) & -256  # 16 significant bits
    scale = tl.where(peak > LEAST_PEAK, scale.to(tl.float32, bitcast=True), 0.0)
    steps = tl.div_rn(weights, tl.where(scale > 0, scale, 1.0) + tl.zeros_like(weights))
    codes = (steps + TO_WHOLE) - TO_WHOLE  # ties to even
    return tl.where(scale > 0, tl.minimum(tl.maximum(codes, -127.0), 127.0), 0.0) * scale


@triton.jit
def clamp_feature(value, QUANTIZED: tl.constexpr):
    """The nearest value in the range of the codes; features that are not quantised have no range."""
    if QUANTIZED:
        value = tl.minimum(tl.maximum(value, -LIMIT), LIMIT)
    return value


# --- network ---------------------------------------------------------------------------------------------------------


@triton.jit
def operand(a, PRECISION: tl.constexpr):
    """`a` in the precision of the tensor cores.

    They truncate float32 to tf32, always towards zero, which changes decoded values by 8e-4 and makes all channels too
    dark; rounding here changes them by 2e-4 (data/test, 2.5 bpp).
    """
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
    """sum + a @ b, summed in float32. PRECISION: of a and b; ieee: float32, without tensor cores.

    a and b come from `operand`, or are weights, which are rounded when they are packed: rounding here costs registers.
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
    """Gradient by the argument of `activate`. seen: that argument; for leaky ReLU its result serves as well."""
    if HARD_SWISH:
        inside = tl.where(seen <= 3, upstream * (seen * (1.0 / 3) + 0.5), upstream)
        return tl.where(seen < -3, 0.0, inside)
    else:
        return tl.where(seen > 0, upstream, upstream * SLOPE)


@triton.jit
def rounded_activation(x, activations, LAYER: tl.constexpr):
    """What the byte of an activation stands for, before layer LAYER, and whether it is in the range, as 1.0 or 0.0.

    activations: see KernelPlan.activations. quantized.network has the same in whole numbers; where those round a
    product to the other side of an edge, both are a step apart.
    """
    low, step = tl.load(activations + 2 * LAYER), tl.load(activations + 2 * LAYER + 1)
    step += tl.zeros_like(x)
    if LAYER == 0:  # exactly as quantized.network.input_codes
        level = tl.floor(tl.floor(x * 16384.0 + 0.5) * (255.0 / 32768)) + 128.0
    else:
        level = tl.floor((x - low) / tl.where(step > 0, step, 1.0) + 0.5)
    kept = tl.minimum(tl.maximum(level, 0.0), 255.0)
    inside = tl.where(level == kept, 1.0, 0.0)
    return tl.where(step > 0, kept * step + low, x), tl.where(step > 0, inside, 1.0)


# --- gradients of grids ----------------------------------------------------------------------------------------------


@triton.jit
def add_gradient(pointers, value, mask, FIXED_POINT: tl.constexpr):
    """Add to a gradient atomically: as float32, or as int64 multiples of 1 / FIXED_POINT, whose sum is the same in any
    order."""
    if FIXED_POINT > 0.0:
        most: tl.constexpr = 9007199254740992.0  # 2**53: int64 holds sums of a thousand of these
        limited = tl.minimum(tl.maximum(value * FIXED_POINT, -most), most)
        tl.atomic_add(pointers, limited.to(tl.int64), mask=mask, sem="relaxed")
    else:
        tl.atomic_add(pointers, value, mask=mask, sem="relaxed")


@triton.jit
def gradient_value(stored, FIXED_POINT: tl.constexpr):
    """The sum of add_gradient as float32."""
    if FIXED_POINT > 0.0:
        return (stored.to(tl.float64) * (1.0 / FIXED_POINT)).to(tl.float32)
    else:
        return stored
