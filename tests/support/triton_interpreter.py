"""Triton's interpreter (3.8), made quicker for tests: nearly all of its time goes into what surrounds a sum, not into
the sum. What kernels compute is the same. Importing it needs Triton."""

from __future__ import annotations

import functools
import inspect
from dataclasses import replace
from types import SimpleNamespace

import triton.language as tl
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter

# --- functions of triton.language, of which the interpreter puts its own in the place ---------------------------------

# For each call of a device function it puts them there again, which has them since the kernel's call.
put, has_them = interpreter._patch_lang, set()


def put_once(fn):
    """interpreter._patch_lang, for modules that do not have the interpreter's functions yet."""
    missing = {name for name, value in (("tl", tl), ("core", tl.core)) if value in modules_of(fn)} - has_them
    if not missing:
        return SimpleNamespace(restore=lambda: None)
    scope = put(fn)
    restore = scope.restore

    def take_back():
        restore()
        has_them.difference_update(missing)

    has_them.update(missing)
    scope.restore = take_back
    return scope


@functools.cache
def modules_of(fn):
    """The modules that a function sees under some name."""
    return [value for value in fn.__globals__.values() if inspect.ismodule(value)]


def put_function(obj, name, member, builder, scope):
    """interpreter._patch_attr, whose functions copy their arguments at each call."""

    def function(*args, **kwargs):
        kwargs["_semantic"] = interpreter.interpreter_semantic
        return member(*args, **kwargs)

    scope.set_attr(obj, name, function)


interpreter._patch_lang = put_once
interpreter._patch_attr = put_function

# Without `debug` the interpreter computes whether sums and products overflow, and looks at none.
builder = interpreter.interpreter_builder
builder.options = replace(builder.options, sanitize_overflow=False)

# --- types, of which every operation makes several, always the same ones ----------------------------------------------

make_type, blocks = tl.block_type.__init__, {}


def block_type(cls, element_ty, shape):
    """tl.block_type(...): the one that was made before; nothing changes a type."""
    sides = tuple(side.value if isinstance(side, tl.constexpr) else side for side in shape)
    key = element_ty.name, sides
    if key not in blocks:
        made = object.__new__(cls)
        make_type(made, element_ty, shape)
        blocks[key] = made
    return blocks[key]


tl.block_type.__new__ = staticmethod(block_type)
tl.block_type.__init__ = lambda self, element_ty, shape: None

make_tensor, fields = tl.tensor.__init__, {}


def fill_tensor(self, handle, type):
    """tl.tensor(...): what follows from the type (shape, number of elements) is not computed again."""
    known = fields.get(type.name)
    if known is None:
        make_tensor(self, handle, type)
        fields[type.name] = {name: value for name, value in vars(self).items() if name != "handle"}
    else:
        self.__dict__.update(known, handle=handle, type=type)


tl.tensor.__init__ = fill_tensor

numpy_type, numpy_types = interpreter._get_np_dtype, {}


def known_numpy_type(type):
    """interpreter._get_np_dtype, which makes a table of all types for each look at one."""
    if type.name not in numpy_types:
        numpy_types[type.name] = numpy_type(type)
    return numpy_types[type.name]


interpreter._get_np_dtype = known_numpy_type

broadcast = TritonSemantic.broadcast_impl_value


def broadcast_where_needed(self, one, other):
    """Two values as they are, where their shapes agree."""
    if one.type.is_block() and other.type.is_block() and one.type.shape.values == other.type.shape.values:
        return one, other
    return broadcast(self, one, other)


TritonSemantic.broadcast_impl_value = broadcast_where_needed

# --- a fault ----------------------------------------------------------------------------------------------------------

split = interpreter.InterpreterBuilder.create_split


def contiguous_split(builder, value):
    """The halves of tl.split, copied: the interpreter's atomics read numbers as if they lay one after the other, which
    the halves themselves do not."""
    return tuple(interpreter.TensorHandle(half.data.copy(), half.dtype) for half in split(builder, value))


interpreter.InterpreterBuilder.create_split = contiguous_split
