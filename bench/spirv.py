"""What one invocation of a compiled shader executes: a small SPIR-V interpreter that counts as it goes.

It knows the instructions that glslang and spirv-opt make of a decoder, and raises NotImplementedError for any other.
What the program computes comes out beside the counts, so that a test can tell that what was counted is the decoder.

Source of all numbers: Khronos, "SPIR-V Specification" 1.6 and "SPIR-V Extended Instructions for GLSL" 1.0.
"""

from __future__ import annotations

import math
import operator
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAGIC = 0x07230203
MOST_STEPS = 20_000_000  # of an invocation: a loop that never ends must
# Counts are of numbers, not of instructions: adding two vectors of four is four operations.
#   float: adds, multiplies, floor, min, max, ...; half: those of 16 bits, of which many GPUs do two at a time; dot:
#   four products of bytes added to a sum, one instruction; special: divisions, roots, powers, logarithms; compare:
#   comparisons, selects and logic; fetch: texels loaded; sample: texels filtered by a sampler; weights: numbers, or
#   words of two halves or four bytes, read from a buffer; local: numbers moved to and from variables, most of which a
#   driver keeps in registers; branch: conditional ones. Products of matrices and cooperative vectors are counted as
#   `matrix`, their multiply-adds.
KINDS = ("fetch", "sample", "weights", "float", "half", "dot", "special", "integer", "compare", "convert", "local",
         "branch")  # fmt: skip


def _half(word: int) -> float:
    return struct.unpack("<e", struct.pack("<H", word))[0]


def _float(word: int) -> float:
    return struct.unpack("<f", struct.pack("<I", word & 0xFFFFFFFF))[0]


def _bytes(word: int) -> tuple[int, ...]:
    return struct.unpack("<4b", struct.pack("<I", word & 0xFFFFFFFF))


def _divide(a: int, b: int) -> int:
    return int(a / b) if b else 0  # towards zero; what division by 0 gives is not defined


def _dot(total: int, one: int, other: int, _: int) -> int:
    parts = ([(word >> shift & 0xFF ^ 0x80) - 0x80 for shift in (0, 8, 16, 24)] for word in (one, other))
    return total + sum(a * b for a, b in zip(*parts))


def _select(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


def _clamped(value: Any, low: Any, high: Any) -> Any:
    return min(max(value, low), high)


# opcode -> (kind, function of the numbers); vectors go number by number
SCALAR_OPS: dict[int, tuple[str, Callable]] = {
    126: ("integer", operator.neg), 127: ("float", operator.neg), 128: ("integer", operator.add),
    129: ("float", operator.add), 130: ("integer", operator.sub), 131: ("float", operator.sub),
    132: ("integer", operator.mul), 133: ("float", operator.mul), 134: ("integer", _divide), 135: ("integer", _divide),
    136: ("special", lambda a, b: a / b if b else math.nan), 137: ("integer", lambda a, b: a % b if b else 0),
    138: ("integer", lambda a, b: int(math.fmod(a, b)) if b else 0), 139: ("integer", lambda a, b: a % b if b else 0),
    164: ("compare", operator.eq), 165: ("compare", operator.ne), 166: ("compare", lambda a, b: a or b),
    167: ("compare", lambda a, b: a and b), 168: ("compare", operator.not_), 169: ("compare", _select),
    170: ("compare", operator.eq), 171: ("compare", operator.ne), 172: ("compare", operator.gt),
    173: ("compare", operator.gt), 174: ("compare", operator.ge), 175: ("compare", operator.ge),
    176: ("compare", operator.lt), 177: ("compare", operator.lt), 178: ("compare", operator.le),
    179: ("compare", operator.le), 180: ("compare", operator.eq), 182: ("compare", operator.ne),
    183: ("compare", operator.ne), 184: ("compare", operator.lt), 185: ("compare", operator.lt),
    186: ("compare", operator.gt), 187: ("compare", operator.gt), 188: ("compare", operator.le),
    189: ("compare", operator.le), 190: ("compare", operator.ge), 191: ("compare", operator.ge),
    194: ("integer", lambda a, b: (a & 0xFFFFFFFF) >> b), 195: ("integer", operator.rshift),
    196: ("integer", operator.lshift), 197: ("integer", operator.or_), 198: ("integer", operator.xor),
    199: ("integer", operator.and_), 200: ("integer", operator.invert),
    109: ("convert", math.trunc), 110: ("convert", math.trunc), 111: ("convert", float), 112: ("convert", float),
    115: ("convert", float),
    124: ("convert", lambda a: a), 142: ("float", operator.mul),
    201: ("dot", _dot),  # OpBitFieldInsert, which no decoder has: it stands for dot4add, see decode_shader.DOTS
}  # fmt: skip
# of GLSL.std.450: number -> (kind, function of the numbers)
EXTENDED_OPS: dict[int, tuple[str, Callable]] = {
    1: ("float", round), 3: ("float", lambda a: float(math.trunc(a))), 4: ("float", abs), 5: ("integer", abs),
    8: ("float", lambda a: float(math.floor(a))), 9: ("float", lambda a: float(math.ceil(a))),
    10: ("float", lambda a: a - math.floor(a)), 26: ("special", lambda a, b: a**b), 27: ("special", math.exp),
    28: ("special", math.log), 29: ("special", lambda a: 2.0**a), 30: ("special", math.log2),
    31: ("special", math.sqrt), 32: ("special", lambda a: 1 / math.sqrt(a)), 37: ("float", min), 38: ("integer", min),
    39: ("integer", min), 40: ("float", max), 41: ("integer", max), 42: ("integer", max),
    43: ("float", _clamped), 44: ("integer", _clamped), 45: ("integer", _clamped),
    46: ("float", lambda a, b, t: a * (1 - t) + b * t), 50: ("float", lambda a, b, c: a * b + c),
}  # fmt: skip
_NO_RESULT = {3, 4, 5, 6, 7, 8, 10, 11, 14, 15, 16, 17, 62, 71, 72, 246, 247, 249, 250, 251, 252, 253, 254, 255}
_ONLY_RESULT = {2, 11, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33, 248, 5288}


@dataclass
class _Function:
    name: str
    parameters: list[int] = field(default_factory=list)
    blocks: dict[int, list[tuple[int, int, int, tuple[int, ...]]]] = field(default_factory=dict)
    first: int = 0


@dataclass
class _Pointer:
    """A place: a one-element list that holds a variable's value, and the way into it."""

    holder: list
    path: tuple[int, ...]
    kind: str  # what reading it counts as, "" for nothing

    def read(self) -> Any:
        value = self.holder[0]
        for index in self.path:
            value = value[index]
        return _copied(value)

    def write(self, value: Any) -> None:
        if not self.path:
            self.holder[0] = _copied(value)
            return
        target = self.holder[0]
        for index in self.path[:-1]:
            target = target[index]
        target[self.path[-1]] = _copied(value)


def _copied(value: Any) -> Any:
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _numbers(value: Any) -> int:
    """How many numbers a value holds."""
    return sum(map(_numbers, value)) if isinstance(value, list) else 1


class Module:
    """A parsed SPIR-V module with one entry point.

    Args:
        binary: the bytes of a .spv file, little endian.
    Raises: ValueError when it is something else.
    """

    def __init__(self, binary: bytes):
        words = struct.unpack(f"<{len(binary) // 4}I", binary[: len(binary) // 4 * 4])
        if len(words) < 5 or words[0] != MAGIC:
            raise ValueError("not a SPIR-V module")
        self.names: dict[int, str] = {}
        self.types: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.values: dict[int, Any] = {}  # constants
        self.globals: dict[int, tuple[int, int]] = {}  # id -> (type of the pointer, storage class)
        self.places: dict[int, tuple[int, int]] = {}  # id of a resource -> (descriptor set, binding)
        self.functions: dict[int, _Function] = {}
        self.entry = 0
        function = block = None
        at = 5
        while at < len(words):
            length, op = words[at] >> 16, words[at] & 0xFFFF
            operands = words[at + 1 : at + max(length, 1)]
            at += max(length, 1)
            if op == 5:  # OpName
                self.names[operands[0]] = _text(operands[1:])
            elif op == 71 and operands[1] in (33, 34):  # OpDecorate with Binding or DescriptorSet
                space, binding = self.places.get(operands[0], (0, 0))
                place = (space, operands[2]) if operands[1] == 33 else (operands[2], binding)
                self.places[operands[0]] = place
            elif op == 15:  # OpEntryPoint
                self.entry = operands[1]
            elif op == 54:
                function = self.functions[operands[1]] = _Function(self.names.get(operands[1], "").partition("(")[0])
            elif op == 55:
                function.parameters.append(operands[1])
            elif op == 56:
                function = None
            elif op == 248:
                block = function.blocks[operands[0]] = []
                function.first = function.first or operands[0]
            elif function is not None:
                if op in _NO_RESULT:
                    block.append((op, 0, 0, operands))
                else:
                    block.append((op, operands[0], operands[1], operands[2:]))
            elif op == 59:  # OpVariable
                self.globals[operands[1]] = (operands[0], operands[2])
            elif op in _ONLY_RESULT:
                self.types[operands[0]] = (op, operands[1:])
            elif op in (1, 41, 42, 43, 44, 46, 4461):
                self.values[operands[1]] = self._constant(op, operands[0], operands[2:])

    def _constant(self, op: int, kind: int, operands: Sequence[int]) -> Any:
        if op in (41, 42):
            return op == 41
        if op == 44:
            return [self.values[operand] for operand in operands]
        if op in (1, 46):
            return self.zero(kind)
        if op == 4461:  # OpConstantCompositeReplicateEXT
            return [self.values[operands[0]]] * len(self.zero(kind))
        type_op, parameters = self.types[kind]
        if type_op == 22 and parameters[0] == 16:
            return _half(operands[0] & 0xFFFF)
        if type_op == 22:
            return _float(operands[0])
        return _wrapped(operands[0], bool(parameters[1]))

    def zero(self, kind: int) -> Any:
        """A value of a type: zeros."""
        op, parameters = self.types[kind]
        if op == 20:
            return False
        if op == 26:  # OpTypeSampler; there is one kind
            return []
        if op == 21:
            return 0
        if op == 22:
            return 0.0
        if op == 23:
            return [self.zero(parameters[0]) for _ in range(parameters[1])]
        if op in (28, 5288):  # OpTypeArray, OpTypeCooperativeVectorNV
            return [self.zero(parameters[0]) for _ in range(self.values[parameters[1]])]
        if op == 30:
            return [self.zero(part) for part in parameters]
        raise NotImplementedError(f"a variable of SPIR-V type {op}")


def _text(words: Sequence[int]) -> str:
    return struct.pack(f"<{len(words)}I", *words).split(b"\0")[0].decode("utf-8", "replace")


def _wrapped(value: int, signed: bool) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if signed and value >> 31 else value


class Invocation:
    """One run of a module's entry point.

    Args:
        resources: name of a global variable, or of the block of a buffer -> a texture as a tuple of levels (H, W, 4)
            float, the largest first, or the value of the buffer: a list per struct, array and vector.
        counted: names of the buffers whose reads count as `weights`.
    """

    def __init__(self, module: Module, resources: Mapping[str, Any], counted: Sequence[str] = ()):
        self.module, self.counts, self.steps = module, Counter(), 0
        self.by_function: dict[str, Counter] = {}
        self._globals: dict[int, Any] = {}
        self._signed = {
            kind: bool(parameters[1]) for kind, (op, parameters) in module.types.items() if op == 21
        }  # of integers, and of vectors of them
        for kind, (op, parameters) in module.types.items():
            if op == 23 and parameters[0] in self._signed:
                self._signed[kind] = self._signed[parameters[0]]
        types = module.types.items()
        self._halves = {kind for kind, (op, parameters) in types if op == 22 and parameters[0] == 16}
        self._floats = {kind for kind, (op, _) in types if op == 22}
        for kinds in (self._halves, self._floats):
            kinds |= {kind for kind, (op, parameters) in types if op in (23, 5288) and parameters[0] in kinds}
        self._buffers: dict[str, list] = {}
        for variable, (pointer, _) in module.globals.items():
            pointee = module.types[pointer][1][1]
            name = module.names.get(variable) or module.names.get(pointee, "")
            holder = self._buffers[name] = [resources[name] if name in resources else module.zero(pointee)]
            self._globals[variable] = _Pointer(holder, (), "weights" if name in counted else "")

    def run(self) -> Counter:
        """Execute it, once. Returns: kind -> count, of KINDS; `by_function` has the same per function."""
        self._call(self.module.entry, [])
        for counter in self.by_function.values():
            self.counts.update(counter)
        return self.counts

    def buffer(self, name: str) -> Any:
        """What a global variable holds now."""
        return self._buffers[name][0]

    def _call(self, identity: int, arguments: Sequence[Any]) -> Any:
        function = self.module.functions[identity]
        count = self.by_function.setdefault(function.name, Counter())
        frame = {**self.module.values, **self._globals, **dict(zip(function.parameters, arguments))}
        label, before = function.first, 0
        while True:
            for op, kind, result, operands in function.blocks[label]:
                self.steps += 1
                if op in (253, 255):
                    return None
                if op == 254:
                    return frame[operands[0]]
                if op == 249:
                    label, before = operands[0], label
                    break
                if op == 250:
                    count["branch"] += 1
                    label, before = operands[1 if frame[operands[0]] else 2], label
                    break
                if op == 251:
                    count["branch"] += 1
                    cases = dict(zip(operands[2::2], operands[3::2]))
                    label, before = cases.get(frame[operands[0]] & 0xFFFFFFFF, operands[1]), label
                    break
                if op == 245:  # OpPhi; none of those that these compilers write reads another one of its block
                    frame[result] = frame[operands[list(operands[1::2]).index(before) * 2]]
                else:
                    self._execute(op, kind, result, operands, frame, count)
            if self.steps > MOST_STEPS:
                raise RuntimeError(f"over {MOST_STEPS} instructions: the shader does not end")

    def _execute(self, op, kind, result, operands, frame, count) -> None:
        if op == 124 and kind in self._halves:
            words = frame[operands[0]] if isinstance(frame[operands[0]], list) else [frame[operands[0]]]
            frame[result] = [_half(word >> shift & 0xFFFF) for word in words for shift in (0, 16)]
        elif op in SCALAR_OPS:
            what, function = SCALAR_OPS[op]
            values = [frame[operand] for operand in operands]
            if op == 124:  # OpBitcast: no instruction of a GPU
                frame[result] = self._each(_float if kind in self._floats else function, values, kind)
                return
            frame[result] = self._each(function, values, kind)
            count["half" if what == "float" and kind in self._halves else what] += _numbers(frame[result])
        elif op == 61:  # OpLoad
            pointer = frame[operands[0]]
            value = frame[result] = pointer.read()
            if not isinstance(value, tuple):  # a texture
                count[pointer.kind or "local"] += _numbers(value)
        elif op == 62:  # OpStore
            frame[operands[0]].write(frame[operands[1]])
            count["local"] += _numbers(frame[operands[1]])
        elif op in (65, 66):
            pointer = frame[operands[0]]
            path = pointer.path + tuple(frame[index] for index in operands[1:])
            frame[result] = _Pointer(pointer.holder, path, pointer.kind)
        elif op == 59:
            value = frame[operands[1]] if len(operands) > 1 else self.module.zero(self.module.types[kind][1][1])
            frame[result] = _Pointer([_copied(value)], (), "")
        elif op == 57:
            frame[result] = self._call(operands[0], [frame[operand] for operand in operands[1:]])
        elif op == 12:
            self._extended(kind, result, operands, frame, count)
        elif op == 80:
            parts: list = []
            for part in (frame[operand] for operand in operands):
                # a vector may be made of shorter ones; an array or a struct takes each as it is
                vector = self.module.types[kind][0] == 23 and isinstance(part, list)
                parts.extend(part) if vector else parts.append(part)
            frame[result] = _copied(parts)
        elif op == 81:
            value = frame[operands[0]]
            for index in operands[1:]:
                value = value[index]
            frame[result] = value
        elif op == 82:
            pointer = _Pointer([_copied(frame[operands[1]])], tuple(operands[2:]), "")
            pointer.write(frame[operands[0]])
            frame[result] = pointer.holder[0]
        elif op == 79:
            both = [*frame[operands[0]], *frame[operands[1]]]
            frame[result] = [both[index] if index < len(both) else 0 for index in operands[2:]]
        elif op == 77:
            frame[result] = frame[operands[0]][frame[operands[1]]]
        elif op in (83, 86, 100):  # OpCopyObject, OpSampledImage, OpImage
            frame[result] = frame[operands[0]]
        elif op == 1:
            frame[result] = self.module.zero(kind)
        elif op == 148:  # OpDot
            frame[result] = sum(a * b for a, b in zip(frame[operands[0]], frame[operands[1]]))
            count["float"] += 2 * len(frame[operands[0]]) - 1
        elif op == 95:  # OpImageFetch; its only operand beside the place is the mip
            levels, (x, y) = frame[operands[0]], frame[operands[1]]
            frame[result] = levels[frame[operands[3]]][y, x].tolist()
            count["fetch"] += 1
        elif op == 88:  # OpImageSampleExplicitLod
            frame[result] = _filtered(frame[operands[0]], frame[operands[1]], frame[operands[3]])
            count["sample"] += 1
        elif op not in (246, 247):
            self._execute_slang(op, kind, result, operands, frame, count)

    def _execute_slang(self, op, kind, result, operands, frame, count) -> None:
        """What Slang writes beside what glslang does."""
        if op == 4450:  # OpSDot, of four signed bytes in each of two words
            frame[result] = sum(a * b for a, b in zip(*map(_bytes, (frame[word] for word in operands[:2]))))
            count["dot"] += 1
        elif op == 68:  # OpArrayLength
            frame[result] = len(frame[operands[0]].read()[operands[1]])
        elif op == 4463:  # OpCompositeConstructReplicateEXT
            frame[result] = [frame[operands[0]]] * len(self.module.zero(kind))
        elif op == 5289:
            self._multiply(kind, result, operands, frame, count)
        else:
            raise NotImplementedError(f"SPIR-V instruction {op}")

    def _multiply(self, kind, result, operands, frame, count) -> None:
        """OpCooperativeVectorMatrixMulNV, of float16 in rows: exact sums, rounded as the result is. Source: Khronos,
        SPV_NV_cooperative_vector."""
        vector, as_vector, matrix, offset, as_matrix, rows, columns, layout, transpose, stride = (
            frame[operand] for operand in operands
        )
        if (as_vector, as_matrix, layout, transpose) != (0, 0, 0, False):  # Float16, RowMajor
            raise NotImplementedError("a product with a matrix of another kind or layout")
        words = np.array(matrix.read(), np.uint32).astype("<u4").tobytes()
        if offset % 64 or stride % 16 or offset + (rows - 1) * stride + 2 * columns > len(words):
            raise RuntimeError(f"a matrix at byte {offset} with {stride} bytes a row, of {len(words)}")
        taken = [np.frombuffer(words, "<f2", columns, offset + row * stride) for row in range(rows)]
        sums = np.array(taken, np.float64) @ np.array(vector, np.float64)
        frame[result] = [self._of_type(float(number), kind) for number in sums]
        count["matrix"] += rows * columns
        count[matrix.kind] += rows * columns // 2

    def _extended(self, kind, result, operands, frame, count) -> None:
        number, values = operands[1], [frame[operand] for operand in operands[2:]]
        if number in EXTENDED_OPS:
            what, function = EXTENDED_OPS[number]
            frame[result] = self._each(function, values, kind)
            count[what] += _numbers(frame[result])
        elif number == 62:  # UnpackHalf2x16
            frame[result] = [_half(values[0] & 0xFFFF), _half(values[0] >> 16)]
            count["convert"] += 2
        elif number == 66:  # Length
            frame[result] = math.hypot(*values[0])
            count["float"] += 2 * len(values[0]) - 1
            count["special"] += 1
        else:
            raise NotImplementedError(f"GLSL.std.450 instruction {number}")

    def _each(self, function: Callable, values: Sequence[Any], kind: int) -> Any:
        """A function of numbers, applied to numbers or vectors; integers wrap around as their type does, and numbers of
        16 bits are rounded to it."""
        length = next((len(value) for value in values if isinstance(value, list)), 0)
        if not length:
            return self._of_type(function(*values), kind)
        columns = [value if isinstance(value, list) else [value] * length for value in values]
        return [self._of_type(function(*row), kind) for row in zip(*columns)]

    def _of_type(self, found: Any, kind: int) -> Any:
        """A number as a type, or a vector's, holds it; those of 32 bits as they are."""
        if kind in self._signed:
            return _wrapped(found, self._signed[kind])
        return float(np.float16(found)) if kind in self._halves else found


def _filtered(levels: Sequence[np.ndarray], uv: Sequence[float], lod: float) -> list[float]:
    """What an exact trilinear sampler with repeat addressing returns."""
    lod = min(max(lod, 0.0), len(levels) - 1.0)
    lower = int(lod)
    found = np.zeros(levels[0].shape[2])
    for level, share in ((lower, 1 - (lod - lower)), (min(lower + 1, len(levels) - 1), lod - lower)):
        height, width = levels[level].shape[:2]
        px, py = uv[0] * width - 0.5, uv[1] * height - 0.5
        x, y = math.floor(px), math.floor(py)
        for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
            weight = abs(1 - dx - (px - x)) * abs(1 - dy - (py - y))
            found += share * weight * levels[level][(y + dy) % height, (x + dx) % width]
    return found.tolist()
