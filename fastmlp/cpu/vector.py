"""SIMD vectors and the register tile as Numba values: with amx.py the only file with LLVM IR.

A *vector* holds LANES consecutive numbers of an array in one register and takes part in +, -, *, /, comparisons and
the primitives of `fastmlp.formulas`, lane by lane. A *tile* holds a block of sums, TILE_ROWS rows of one vector
("narrow") or of TILE_VECTORS vectors ("wide"), in registers: `acc = outer_product(acc, ...)` in a plain loop over k
is a matrix product at the speed of the chip's multiply-add units. Where the operands are pairs of bfloat16 numbers,
each k of `outer_product` is two; where there are matrix registers for them (AMX), they hold the sums, of a tile several
times as tall, and each k is a step of 16 words. Memory is flat: an "array" here is a pointer to numbers (numbers_at),
and all indices are in elements of it.

Nothing here checks bounds: callers own the shapes, and every buffer is padded to whole tiles (see layout.py).
"""

import ctypes
import math
import operator
import sys

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_jitable,
    register_model,
    type_callable,
)

from fastmlp import formulas
from fastmlp.cpu import amx
from fastmlp.cpu.compiling import INNER, host_features


def tile_shape(features: set[str], machine: str) -> tuple[int, int, int]:
    """(vector bytes, tile rows, tile vectors): as many sums as the registers hold beside the operands.

    rows * vectors sums must at least cover latency * issue width of the multiply-add units (8 to 16 on today's
    chips), and rows a power of two that divides vectors * lanes.
    """
    if "avx512f" in features:  # 32 registers of 64 bytes
        return 64, 8, 2
    if "avx2" in features and "fma" in features:  # 16 registers of 32 bytes
        return 32, 4, 3
    if machine in ("aarch64", "arm64"):  # 32 registers of 16 bytes
        return 16, 4, 4
    return 16, 4, 2  # SSE2 and everything else: 16 registers of 16 bytes


VECTOR_BYTES, TILE_ROWS, TILE_VECTORS = tile_shape(host_features(), llvmlite.binding.get_process_triple().split("-")[0])

# Whether the processor has dot products of pairs of bfloat16 numbers that add to float32.
HAS_BF16 = VECTOR_BYTES == 64 and "avx512bf16" in host_features()

# Two neighbours of a sum in bfloat16, in one word: the first is the low half.
PAIR = np.dtype(np.uint32)

# Whether matrix registers multiply the pairs: then a tile may have TALL_ROWS rows, sums that two rows of registers
# hold, and sums are over whole steps of STEP_WORDS words, what fills them up being zero.
HAS_AMX = HAS_BF16 and {"amx-tile", "amx-bf16"} <= host_features()
TALL_ROWS, STEP_WORDS = (2 * amx.ROWS, amx.STEP) if HAS_AMX else (TILE_ROWS, 1)

# Words that may be read behind operands: rows of a register that a tile does not have, whose sums nobody reads; and
# rows that fill up a step of a sum over W's, where the other factor is zero. These must be finite, and are where W is.
BEHIND = 512 if HAS_AMX else 0


def lanes_of(dtype) -> int:
    """Numbers of a dtype in one vector."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def panel_of(dtype) -> int:
    """Columns in one panel, the width of a wide tile."""
    return TILE_VECTORS * lanes_of(dtype)


# ---- types ---------------------------------------------------------------------------------------------------------


class Vector(types.Type):
    """`lanes` numbers of one Numba scalar type (a float, or uint32 for dropout's counters)."""

    def __init__(self, element, lanes):
        self.element, self.lanes = element, lanes
        super().__init__(name=f"vector({element} x {lanes})")


class Mask(types.Type):
    """A truth value a lane: what comparing vectors gives."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__(name=f"mask({lanes})")


class Tile(types.Type):
    """rows x vectors vectors of sums."""

    def __init__(self, vector, rows, vectors):
        self.vector, self.rows, self.vectors = vector, rows, vectors
        super().__init__(name=f"tile({rows} x {vectors} {vector})")


class MatrixTile(types.Type):
    """The sums of a tile in matrix registers: nothing beside them, so that there is one such tile at a time."""

    def __init__(self, tile):
        self.tile = tile
        self.bands = -(-tile.rows // amx.ROWS)  # of registers side by side
        super().__init__(name=f"matrix({tile})")


class StackTile(types.Type):
    """A tile on the stack, row by row: its address."""

    def __init__(self, tile):
        self.tile = tile
        super().__init__(name=f"stack({tile})")


class _BFloat16(ir.types.Type):
    """llvmlite has no name for it."""

    def _to_string(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, _BFloat16)

    def __hash__(self):
        return hash(_BFloat16)


def _element_ir(element):
    return {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.uint32: ir.IntType(32)}[element]


def _vector_ir(vector):
    return ir.VectorType(_element_ir(vector.element), vector.lanes)


def _model(typeclass, to_ir):
    @register_model(typeclass)
    class Model(models.PrimitiveModel):
        def __init__(self, manager, fe_type):
            super().__init__(manager, fe_type, to_ir(fe_type))


_model(Vector, _vector_ir)
_model(Mask, lambda mask: ir.VectorType(ir.IntType(1), mask.lanes))
_model(Tile, lambda tile: ir.ArrayType(_vector_ir(tile.vector), tile.rows * tile.vectors))
_model(MatrixTile, lambda matrix: ir.IntType(8))
_model(StackTile, lambda stack: _vector_ir(stack.tile.vector).as_pointer())


def _vector_type(array):
    return Vector(array.dtype, VECTOR_BYTES // (array.dtype.bitwidth // 8))


# ---- code generation helpers ---------------------------------------------------------------------------------------


def _constant(value_type, number):
    return ir.Constant(value_type, [number] * value_type.count)


def _splat(builder, scalar, lanes):
    one = ir.VectorType(scalar.type, lanes)
    vector = builder.insert_element(ir.Constant(one, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _as_vector(context, builder, value, from_type, vector):
    """A scalar takes the vector's precision and fills its lanes."""
    if isinstance(from_type, Vector):
        return value
    return _splat(builder, context.cast(builder, value, types.unliteral(from_type), vector.element), vector.lanes)


def _address(context, builder, array_type, array, index, vector_ir=None):
    pointer = builder.gep(array, [index])
    return pointer if vector_ir is None else builder.bitcast(pointer, vector_ir.as_pointer())


def _load(context, builder, array_type, array, index, vector_ir):
    loaded = builder.load(_address(context, builder, array_type, array, index, vector_ir))
    loaded.align = array_type.dtype.bitwidth // 8
    return loaded


def _store(context, builder, array_type, array, index, value):
    stored = builder.store(value, _address(context, builder, array_type, array, index, value.type))
    stored.align = array_type.dtype.bitwidth // 8


def _offset(builder, index, stride, times):
    """index + stride * times, where times is known now."""
    if times == 0:
        return index
    return builder.add(index, builder.mul(stride, ir.Constant(stride.type, times)))


def _llvm(builder, name, value_type, *args):
    """Call an LLVM intrinsic that is overloaded on one vector type."""
    element = {"float": "f32", "double": "f64"}[str(value_type.element)]
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(value_type, [value_type] * len(args)),
        f"llvm.{name}.v{value_type.count}{element}",
    )
    return builder.call(function, args)


# ---- arithmetic of vectors -----------------------------------------------------------------------------------------


def _result(*operands):
    """The vector type among the operands (scalars follow it), None when there is none or they differ."""
    vectors = {operand for operand in operands if isinstance(operand, Vector)}
    others = [operand for operand in operands if not isinstance(operand, (Vector, types.Number))]
    return vectors.pop() if len(vectors) == 1 and not others else None


def _elementwise(function, arity, emit, result=lambda vector: vector):
    """Give `function` a meaning for vectors: emit(builder, *operands) makes the instruction."""

    if arity == 1:

        @type_callable(function)
        def typer_1(context):
            return lambda x: result(x) if isinstance(x, Vector) else None
    elif arity == 2:

        @type_callable(function)
        def typer_2(context):
            return lambda x, y: result(_result(x, y)) if _result(x, y) else None
    else:

        @type_callable(function)
        def typer_3(context):
            return lambda x, y, z: result(_result(x, y, z)) if _result(x, y, z) else None

    def lower(context, builder, signature, args):
        vector = _result(*signature.args)
        pairs = zip(args, signature.args, strict=True)
        return emit(builder, vector, *(_as_vector(context, builder, x, t, vector) for x, t in pairs))

    patterns = {1: [(Vector,)], 2: [(Vector, Vector), (Vector, types.Number), (types.Number, Vector)]}.get(arity) or [
        (a, b, c) for a in (Vector, types.Number) for b in (Vector, types.Number) for c in (Vector, types.Number)
    ][:-1]
    for pattern in patterns:
        lower_builtin(function, *pattern)(lower)


def _binary(function, of_float, of_integer=None):
    def emit(builder, vector, x, y):
        return getattr(builder, of_integer if vector.element is types.uint32 else of_float)(x, y)

    _elementwise(function, 2, emit)


def _compare(function, symbol):
    def emit(builder, vector, x, y):
        compare = builder.icmp_unsigned if vector.element is types.uint32 else builder.fcmp_ordered
        return compare(symbol, x, y)

    _elementwise(function, 2, emit, lambda vector: Mask(vector.lanes))


_binary(operator.add, "fadd", "add")
_binary(operator.sub, "fsub", "sub")
_binary(operator.mul, "fmul", "mul")
_binary(operator.truediv, "fdiv")
_binary(operator.xor, None, "xor")
_binary(operator.rshift, None, "lshr")
_compare(operator.lt, "<")
_compare(operator.gt, ">")
_elementwise(operator.neg, 1, lambda builder, vector, x: builder.fneg(x))
_elementwise(abs, 1, lambda builder, vector, x: _llvm(builder, "fabs", x.type, x))
_elementwise(formulas.square_root, 1, lambda builder, vector, x: _llvm(builder, "sqrt", x.type, x))
_elementwise(formulas.low_bits, 1, lambda builder, vector, x: x)  # lanes of whole numbers have 32 bits
# fmuladd, not fma: without the instruction llvm.fma would become a call of the C library
_elementwise(formulas.multiply_add, 3, lambda builder, vector, x, y, z: _llvm(builder, "fmuladd", x.type, x, y, z))
_elementwise(
    formulas.is_double,
    1,
    lambda builder, vector, x: ir.Constant(ir.IntType(1), vector.element is types.float64),
    lambda vector: types.boolean,
)


def _emit_rounded_product(builder, vector, x, y):
    # adding 1.5 * 2^(digits - 1) leaves no fraction digits; LLVM may not undo it
    magic = _constant(x.type, 1.5 * 2.0 ** (23 if vector.element is types.float32 else 52))
    return builder.fsub(_llvm(builder, "fmuladd", x.type, x, y, magic), magic)


def _emit_reciprocal_estimate(builder, vector, x):
    if VECTOR_BYTES == 64 and vector.element is types.float32:
        flag = ir.IntType(vector.lanes)
        signature = ir.FunctionType(x.type, [x.type, x.type, flag])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.x86.avx512.rcp14.ps.512")
        return builder.call(function, [x, x, ir.Constant(flag, -1)])
    return builder.fdiv(_constant(x.type, 1.0), x)


def _emit_times_power_of_two(builder, vector, x, n):
    single = vector.element is types.float32
    if VECTOR_BYTES == 64:
        flag = ir.IntType(vector.lanes)
        signature = ir.FunctionType(x.type, [x.type] * 3 + [flag, ir.IntType(32)])
        name = f"llvm.x86.avx512.mask.scalef.p{'s' if single else 'd'}.512"
        function = cgutils.get_or_insert_function(builder.module, signature, name)
        all_lanes, current_rounding = ir.Constant(flag, -1), ir.Constant(ir.IntType(32), 4)
        return builder.call(function, [x, n, x, all_lanes, current_rounding])
    # 2^(n + spare) is normal wherever x 2^n is not zero; the last product rounds
    digits, bits, spare = (23, 32, 64) if single else (52, 64, 512)
    integers = ir.VectorType(ir.IntType(bits), vector.lanes)
    n = builder.fadd(n, _constant(n.type, float(spare)))
    if single:
        exponent = builder.fptosi(n, integers)
    else:  # few machines convert double to 64-bit integers: read them from the low digits of n + 1.5 * 2^52
        magic = 1.5 * 2.0**52
        shifted = builder.bitcast(builder.fadd(n, _constant(n.type, magic)), integers)
        exponent = builder.sub(shifted, _constant(integers, int(np.float64(magic).view(np.int64))))
    bias = _constant(integers, 2 ** (bits - digits - 2) - 1)
    power = builder.bitcast(builder.shl(builder.add(exponent, bias), _constant(integers, digits)), n.type)
    return builder.fmul(builder.fmul(x, power), _constant(n.type, 2.0**-spare))


_elementwise(formulas.rounded_product, 2, _emit_rounded_product)
_elementwise(formulas.reciprocal_estimate, 1, _emit_reciprocal_estimate)
_elementwise(formulas.times_power_of_two, 2, _emit_times_power_of_two)


@type_callable(formulas.where)
def _type_where(context):
    def typer(mask, x, y):
        return _result(x, y) if isinstance(mask, Mask) else None

    return typer


def _lower_where(context, builder, signature, args):
    mask, x, y = args
    vector = signature.return_type
    x, y = (_as_vector(context, builder, v, t, vector) for v, t in ((x, signature.args[1]), (y, signature.args[2])))
    return builder.select(mask, x, y)


for _pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
    lower_builtin(formulas.where, Mask, *_pair)(_lower_where)

for _formula in formulas.VECTORIZED:
    register_jitable(**INNER)(_formula)


# ---- vectors in memory ---------------------------------------------------------------------------------------------


@intrinsic
def panel_width(context, A):
    """Columns of a panel of A's dtype, a constant to the compiler."""
    width = _vector_type(A).lanes * TILE_VECTORS
    return types.intp(A), lambda context, builder, signature, args: context.get_constant(types.intp, width)


@intrinsic
def lanes(context, A):
    """Numbers of A's dtype in a vector, a constant to the compiler."""
    count = _vector_type(A).lanes
    return types.intp(A), lambda context, builder, signature, args: context.get_constant(types.intp, count)


@intrinsic
def row_bytes(context, A):
    """Bytes of a panel's row, a constant to the compiler."""
    return types.intp(A), lambda context, builder, signature, args: context.get_constant(
        types.intp, VECTOR_BYTES * TILE_VECTORS
    )


@intrinsic
def load(context, A, index):
    """The vector A[index : index + LANES]."""

    def generate(context, builder, signature, args):
        return _load(context, builder, signature.args[0], *args, _vector_ir(signature.return_type))

    return _vector_type(A)(A, types.intp), generate


@intrinsic
def store(context, A, index, vector):
    """A[index : index + LANES] = vector."""

    def generate(context, builder, signature, args):
        array, index, value = args
        value = _as_vector(context, builder, value, signature.args[2], _vector_type(signature.args[0]))
        _store(context, builder, signature.args[0], array, index, value)
        return context.get_dummy_value()

    return types.void(A, types.intp, vector), generate


@intrinsic
def broadcast(context, A, number):
    """The number, in A's dtype, in every lane."""

    def generate(context, builder, signature, args):
        return _as_vector(context, builder, args[1], signature.args[1], signature.return_type)

    return _vector_type(A)(A, number), generate


@intrinsic
def positions(context, A, start):
    """The 32-bit counters start, start + 1, ...: one for each lane of a vector of A's dtype."""
    counters = Vector(types.uint32, _vector_type(A).lanes)

    def generate(context, builder, signature, args):
        first = _splat(builder, builder.trunc(args[1], ir.IntType(32)), counters.lanes)
        return builder.add(first, ir.Constant(first.type, list(range(counters.lanes))))

    return counters(A, types.intp), generate


def _fold(builder, vector_value, lanes_, combine):
    """Combine the halves until one lane is left: one fixed order."""
    while lanes_ > 1:
        lanes_ //= 2
        index = ir.VectorType(ir.IntType(32), lanes_)
        low = builder.shuffle_vector(vector_value, vector_value, ir.Constant(index, list(range(lanes_))))
        high = builder.shuffle_vector(vector_value, vector_value, ir.Constant(index, list(range(lanes_, 2 * lanes_))))
        vector_value = combine(low, high)
    return builder.extract_element(vector_value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def lane_sum(context, vector):
    """The sum of the lanes in double precision."""

    def generate(context, builder, signature, args):
        (value,) = args
        if vector.element is types.float32:
            value = builder.fpext(value, ir.VectorType(ir.DoubleType(), vector.lanes))
        return _fold(builder, value, vector.lanes, builder.fadd)

    return types.float64(vector), generate


@intrinsic
def lane_max(context, vector):
    """The largest lane."""

    def generate(context, builder, signature, args):
        return _fold(builder, args[0], vector.lanes, lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return vector.element(vector), generate


def _to_float(context, builder, value, number, element):
    """A number, or a vector of numbers, of a Numba scalar type in a floating-point type."""
    target = _element_ir(element)
    if isinstance(value.type, ir.VectorType):
        target = ir.VectorType(target, value.type.count)
    if isinstance(number, types.Float):
        if number.bitwidth == element.bitwidth:
            return value
        return (builder.fpext if number.bitwidth < element.bitwidth else builder.fptrunc)(value, target)
    return (builder.sitofp if number.signed else builder.uitofp)(value, target)


@intrinsic
def read_number(context, address, dtype):
    """The number of a dtype at a byte address, wherever it lies."""

    def generate(context, builder, signature, args):
        loaded = builder.load(builder.inttoptr(args[0], context.get_value_type(dtype.dtype).as_pointer()))
        loaded.align = 1
        return loaded

    return dtype.dtype(types.intp, dtype), generate


@intrinsic
def load_numbers(context, A, address, dtype):
    """The LANES consecutive numbers of a dtype at a byte address, as a vector of A's dtype."""
    vector = _vector_type(A)

    def generate(context, builder, signature, args):
        numbers = ir.VectorType(context.get_value_type(dtype.dtype), vector.lanes)
        loaded = builder.load(builder.inttoptr(args[1], numbers.as_pointer()))
        loaded.align = 1
        return _to_float(context, builder, loaded, dtype.dtype, vector.element)

    return vector(A, types.intp, dtype), generate


@intrinsic
def numbers_at(context, address, dtype):
    """The numbers of a dtype at an address, to be indexed like an array."""
    pointer = types.CPointer(dtype.dtype)

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(types.intp, dtype), generate


@intrinsic
def record_at(context, address, n, dtype):
    """The n-th record of a structured dtype at an address: a reference, its fields can be read and set."""
    record = dtype.dtype

    def generate(context, builder, signature, args):
        place = builder.add(args[0], builder.mul(args[1], context.get_constant(types.intp, record.size)))
        return builder.inttoptr(place, context.get_value_type(record))

    return record(types.intp, types.intp, dtype), generate


def _call_at(words):
    """What calls the function at an address, the first of the arguments, with so many integers, the others."""

    def generate(context, builder, signature, args):
        word = context.get_value_type(types.intp)
        pointer = ir.FunctionType(ir.VoidType(), [word] * words).as_pointer()
        builder.call(builder.inttoptr(args[0], pointer), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.intp] * (1 + words)), generate


@intrinsic
def call_gather(context, function, source, order, first, count, buffer, stride):
    """Call the gather kernel at an address (see gather.py); every argument is an integer."""
    return _call_at(words=6)


@intrinsic
def numbers_like(context, address, A):
    """The numbers of A's dtype at an address, to be indexed like an array."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return A(types.intp, A), generate


@intrinsic
def call_pass(context, function, step, activations, share, shares):
    """Call the kernel at an address (see epoch.py); every argument is an integer."""
    return _call_at(words=4)


@intrinsic
def call_map(context, function, x, y, out, vectors, rows):
    """Call the function at an address for every number of some rows (see supplied.py); every argument is an integer."""
    return _call_at(words=5)


@intrinsic
def address(context, A, index):
    """The address of A[index]."""

    def generate(context, builder, signature, args):
        place = _address(context, builder, signature.args[0], *args)
        return builder.ptrtoint(place, context.get_value_type(types.intp))

    return types.intp(A, types.intp), generate


@intrinsic
def load_some_numbers(context, A, address, dtype, count):
    """The `count` < LANES numbers of a dtype at a byte address, then zeros: nothing behind them is read."""
    vector = _vector_type(A)

    def generate(context, builder, signature, args):
        numbers = ir.VectorType(context.get_value_type(dtype.dtype), vector.lanes)
        counters = ir.VectorType(ir.IntType(32), vector.lanes)
        lane = ir.Constant(counters, list(range(vector.lanes)))
        wanted = builder.icmp_unsigned("<", lane, _splat(builder, builder.trunc(args[3], ir.IntType(32)), vector.lanes))
        pointer = builder.inttoptr(args[1], numbers.as_pointer())
        kind = {ir.FloatType(): "f32", ir.DoubleType(): "f64"}.get(numbers.element) or str(numbers.element)
        signature_ir = ir.FunctionType(numbers, [pointer.type, ir.IntType(32), wanted.type, numbers])
        function = cgutils.get_or_insert_function(
            builder.module, signature_ir, f"llvm.masked.load.v{vector.lanes}{kind}.p0"
        )
        arguments = [pointer, ir.Constant(ir.IntType(32), 1), wanted, ir.Constant(numbers, None)]
        return _to_float(context, builder, builder.call(function, arguments), dtype.dtype, vector.element)

    return vector(A, types.intp, dtype, types.intp), generate


def _word(context, builder, address):
    return builder.inttoptr(address, context.get_value_type(types.intp).as_pointer())


@intrinsic
def atomic_add(context, address, number):
    """Add to the integer at an address, for all threads to see; returns what it was."""

    def generate(context, builder, signature, args):
        return builder.atomic_rmw("add", _word(context, builder, args[0]), args[1], "acq_rel")

    return types.intp(types.intp, types.intp), generate


@intrinsic
def atomic_load(context, address):
    """The integer at an address, and all that was written before it was."""

    def generate(context, builder, signature, args):
        return builder.load_atomic(_word(context, builder, args[0]), "acquire", 8)

    return types.intp(types.intp), generate


@intrinsic
def atomic_store(context, address, number):
    """Set the integer at an address, after all that was written before."""

    def generate(context, builder, signature, args):
        builder.store_atomic(args[1], _word(context, builder, args[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), generate


def _yield_address() -> int | None:
    """The address of the operating system's call that lets another thread run."""
    windows = sys.platform == "win32"
    library = ctypes.CDLL("kernel32" if windows else None)
    return ctypes.cast(library["SwitchToThread" if windows else "sched_yield"], ctypes.c_void_p).value


llvmlite.binding.add_symbol("fastmlp_yield", _yield_address())


@intrinsic
def yield_processor(context):
    """Let another thread of the machine run, if one waits for this processor."""

    def generate(context, builder, signature, args):
        signature_ir = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, signature_ir, "fastmlp_yield"), [])
        return context.get_dummy_value()

    return types.void(), generate


def _prefetch(write):
    @intrinsic
    def prefetch(context, A, index):
        def generate(context, builder, signature, args):
            byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag]), "llvm.prefetch.p0"
            )
            flags = [ir.Constant(flag, n) for n in (write, 3, 1)]  # to write, keep close, data
            builder.call(function, [builder.bitcast(_address(context, builder, A, *args), byte), *flags])
            return context.get_dummy_value()

        return types.void(A, types.intp), generate

    return prefetch


prefetch_to_read = _prefetch(0)  # ask for the cache line of A[index]; to write, no other core keeps a copy of it
prefetch_to_write = _prefetch(1)


# ---- the register tile ---------------------------------------------------------------------------------------------


def _empty_tile(rows, vectors):
    @intrinsic
    def empty(context, A):
        tile = Tile(_vector_type(A), rows, vectors)
        return tile(A), lambda context, builder, signature, args: ir.Constant(context.get_value_type(tile), None)

    return empty


wide_tile = _empty_tile(TILE_ROWS, TILE_VECTORS)  # zeros, as are the next three
narrow_tile = _empty_tile(TILE_ROWS, 1)
wide_row = _empty_tile(1, TILE_VECTORS)
narrow_row = _empty_tile(1, 1)


@intrinsic
def tall_tile(context, zero, F):
    """As `zero`, of so many rows as are multiplied best where factors are of F's kind."""
    tall = Tile(zero.vector, TALL_ROWS, zero.vectors) if F.dtype is types.uint32 else zero
    return tall(zero, F), lambda context, builder, signature, args: ir.Constant(context.get_value_type(tall), None)


@intrinsic
def tile_rows(context, acc):
    """The rows of a tile, a constant to the compiler."""
    return types.intp(acc), lambda context, builder, signature, args: context.get_constant(types.intp, acc.rows)


@intrinsic
def tile_vectors(context, acc):
    """The vectors in a row of a tile, a constant to the compiler."""
    return types.intp(acc), lambda context, builder, signature, args: context.get_constant(types.intp, acc.vectors)


def _pairs_ir(lanes):
    return ir.VectorType(_BFloat16(), 2 * lanes)


def _add_product(builder, vector, a, b, total):
    """total + a * b, lane by lane; of words that are pairs the sum of both products."""
    if a.type == vector:
        return _llvm(builder, "fmuladd", vector, a, b, total)
    pairs = _pairs_ir(vector.count)
    signature = ir.FunctionType(vector, [vector, pairs, pairs])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(function, [total, builder.bitcast(a, pairs), builder.bitcast(b, pairs)])


def _for_matrices(emit):
    @intrinsic
    def prepare(context):
        def generate(context, builder, signature, args):
            if HAS_AMX:
                emit(builder)
            return context.get_dummy_value()

        return types.void(), generate

    return prepare


# What a pass with pairs as operands begins and ends with; nothing where there are no matrix registers.
configure_matrices, release_matrices = _for_matrices(amx.configure), _for_matrices(amx.release)


@intrinsic
def begin_sums(context, zero, F):
    """The zeros of a tile where products of factors of F's kind are added up; until end_sums there is one such tile."""
    sums = MatrixTile(zero) if F.dtype is types.uint32 and HAS_AMX else zero

    def generate(context, builder, signature, args):
        if isinstance(sums, MatrixTile):
            for register in range(sums.bands * sums.tile.vectors):
                amx.zero(builder, register)
        return ir.Constant(context.get_value_type(sums), None)

    return sums(zero, F), generate


@intrinsic
def end_sums(context, acc):
    """The tile of what `begin_sums` began, for `rows_of`: matrix registers can only be read by way of memory."""
    if isinstance(acc, Tile):
        return acc(acc), lambda context, builder, signature, args: args[0]
    tile = acc.tile

    def generate(context, builder, signature, args):
        rows = cgutils.alloca_once(builder, _vector_ir(tile.vector), acc.bands * amx.ROWS * tile.vectors)
        for n in range(acc.bands * tile.vectors):
            band, v = divmod(n, tile.vectors)
            place = cgutils.gep_inbounds(builder, rows, band * amx.ROWS * tile.vectors + v)
            amx.store(builder, n, place, tile.vectors * VECTOR_BYTES)
        return rows

    return StackTile(tile)(acc), generate


@intrinsic
def rows_of(context, acc, row):
    """As many rows from `row` on of what `end_sums` ended as other tiles have, which have no more: `row` is 0 then."""
    if isinstance(acc, Tile):
        return acc(acc, types.intp), lambda context, builder, signature, args: args[0]
    tile = Tile(acc.tile.vector, min(acc.tile.rows, TILE_ROWS), acc.tile.vectors)

    def generate(context, builder, signature, args):
        rows, row = args
        first = builder.mul(row, context.get_constant(types.intp, tile.vectors))
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for place in range(tile.rows * tile.vectors):
            vector = builder.load(builder.gep(rows, [builder.add(first, context.get_constant(types.intp, place))]))
            result = builder.insert_value(result, vector, place)
        return result

    return tile(acc, types.intp), generate


@intrinsic
def step_words(context, zero, F):
    """The words of a sum that a step of `outer_product` takes, for factors of F's kind; a constant to the compiler."""
    count = STEP_WORDS if F.dtype is types.uint32 else 1
    return types.intp(zero, F), lambda context, builder, signature, args: context.get_constant(types.intp, count)


def _matrix_product(context, builder, signature, args):
    """`outer_product` of matrix registers: B's rows are a panel's, A's lie `stride` words apart."""
    acc, A, a, stride, B, b = args
    tile, bands = signature.return_type.tile, signature.return_type.bands
    width = context.get_constant(types.intp, tile.vector.lanes)
    a_bytes = builder.mul(stride, context.get_constant(types.intp, PAIR.itemsize))
    b_bytes = context.get_constant(types.intp, VECTOR_BYTES * TILE_VECTORS)
    for v in range(tile.vectors):
        place = _address(context, builder, None, B, _offset(builder, b, width, v))
        amx.load(builder, amx.RIGHT + v, place, b_bytes)
    for band in range(bands):
        place = _address(context, builder, None, A, _offset(builder, a, stride, band * amx.ROWS))
        amx.load(builder, amx.LEFT + band, place, a_bytes)
        for v in range(tile.vectors):
            amx.add_product(builder, band * tile.vectors + v, amx.LEFT + band, amx.RIGHT + v)
    return acc


@intrinsic
def outer_product(context, acc, A, a, stride, B, b):
    """acc[i, j] + A[a + i * stride] * B[b + j]: a k of a matrix product; two of pairs.

    Matrix registers take a step of k at once, A[a + i * stride + k] * B[b + j + k * P]; they may read the rows of a
    whole register, more than the tile has.
    """

    def generate(context, builder, signature, args):
        acc_value, A_value, a_value, stride_value, B_value, b_value = args
        vector = _vector_ir(acc.vector)
        width = context.get_constant(types.intp, acc.vector.lanes)
        b_places = [_offset(builder, b_value, width, v) for v in range(acc.vectors)]
        words = ir.VectorType(_element_ir(B.dtype), acc.vector.lanes)
        b_vectors = [_load(context, builder, B, B_value, place, words) for place in b_places]
        for i in range(acc.rows):
            number = builder.load(_address(context, builder, A, A_value, _offset(builder, a_value, stride_value, i)))
            a_vector = _splat(builder, number, acc.vector.lanes)
            for v in range(acc.vectors):
                place = i * acc.vectors + v
                so_far = builder.extract_value(acc_value, place)
                total = _add_product(builder, vector, a_vector, b_vectors[v], so_far)
                acc_value = builder.insert_value(acc_value, total, place)
        return acc_value

    if isinstance(acc, MatrixTile):
        generate = _matrix_product
    return acc(acc, A, types.intp, types.intp, B, types.intp), generate


@intrinsic
def word_numbers(context, F):
    """The numbers in a word of operands: 2 where they are pairs, else 1; a constant to the compiler."""
    count = 2 if F.dtype is types.uint32 else 1
    return types.intp(F), lambda context, builder, signature, args: context.get_constant(types.intp, count)


@intrinsic
def paired_columns(context, F, acc):
    """A tile as operands like F have it: itself, or rounded to pairs of neighbours in the same row."""
    if F.dtype is not types.uint32:
        return acc(F, acc), lambda context, builder, signature, args: args[1]
    tile = Tile(Vector(types.uint32, acc.vector.lanes), acc.rows, acc.vectors // 2)

    def generate(context, builder, signature, args):
        vector, pairs = _vector_ir(acc.vector), _pairs_ir(acc.vector.lanes)
        name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
        narrow = cgutils.get_or_insert_function(builder.module, ir.FunctionType(pairs, [vector, vector]), name)
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for place in range(tile.rows * tile.vectors):
            low, high = (builder.extract_value(args[1], n) for n in (2 * place, 2 * place + 1))
            words = builder.bitcast(builder.call(narrow, [high, low]), _vector_ir(tile.vector))
            result = builder.insert_value(result, words, place)
        return result

    return tile(F, acc), generate


@intrinsic
def paired_rows(context, F, acc):
    """A tile of pairs of neighbours in the same row as pairs of those in the same column; others stay as they are."""
    if F.dtype is not types.uint32:
        return acc(F, acc), lambda context, builder, signature, args: args[1]
    tile = Tile(acc.vector, acc.rows // 2, 2 * acc.vectors)

    def generate(context, builder, signature, args):
        count = 2 * acc.vector.lanes
        halves = ir.VectorType(ir.IntType(16), count)
        in_turn = ir.VectorType(ir.IntType(32), count)
        result = ir.Constant(context.get_value_type(tile), ir.Undefined)
        for place in range(tile.rows * acc.vectors):
            i, v = divmod(place, acc.vectors)
            x, y = (builder.extract_value(args[1], (2 * i + n) * acc.vectors + v) for n in (0, 1))
            x, y = builder.bitcast(x, halves), builder.bitcast(y, halves)
            for half in (0, 1):
                taken = range(half * count // 2, (half + 1) * count // 2)
                both = builder.shuffle_vector(x, y, in_turn([n for j in taken for n in (j, count + j)]))
                words = builder.bitcast(both, _vector_ir(tile.vector))
                result = builder.insert_value(result, words, i * tile.vectors + 2 * v + half)
        return result

    return tile(F, acc), generate


def _tile_places(context, builder, acc, array, index, row_stride):
    """(place in the tile, index in memory) of each vector of a tile whose rows lie row_stride apart."""
    for i in range(acc.rows):
        for v in range(acc.vectors):
            distance = i * row_stride + v * acc.vector.lanes
            yield i * acc.vectors + v, builder.add(index, context.get_constant(types.intp, distance))


def _combine_tile(row_stride_of, combine):
    @intrinsic
    def combined(context, acc, C, c):
        def generate(context, builder, signature, args):
            tile, array, index = args
            for place, where_ in _tile_places(context, builder, acc, array, index, row_stride_of(acc)):
                loaded = _load(context, builder, C, array, where_, _vector_ir(acc.vector))
                tile = builder.insert_value(tile, combine(builder, builder.extract_value(tile, place), loaded), place)
            return tile

        return acc(acc, C, types.intp), generate

    return combined


def _panel(acc):
    return TILE_VECTORS * acc.vector.lanes


load_tile = _combine_tile(_panel, lambda builder, x, loaded: loaded)  # the tile at C[c], rows a panel's width apart
plus_tile = _combine_tile(_panel, lambda builder, x, loaded: builder.fadd(loaded, x))  # acc + that tile
plus_row = _combine_tile(lambda acc: 0, lambda builder, x, loaded: builder.fadd(loaded, x))  # acc + C[c:] in each row


@intrinsic
def store_tile(context, acc, C, c):
    """Write the tile to C[c], its rows a panel's width apart."""

    def generate(context, builder, signature, args):
        tile, array, index = args
        for place, where_ in _tile_places(context, builder, acc, array, index, _panel(acc)):
            _store(context, builder, C, array, where_, builder.extract_value(tile, place))
        return context.get_dummy_value()

    return types.void(acc, C, types.intp), generate


@intrinsic
def store_rows(context, acc, C, c):
    """Write the tile to C[c], its rows right behind one another."""

    def generate(context, builder, signature, args):
        tile, array, index = args
        for place, where_ in _tile_places(context, builder, acc, array, index, acc.vectors * acc.vector.lanes):
            _store(context, builder, C, array, where_, builder.extract_value(tile, place))
        return context.get_dummy_value()

    return types.void(acc, C, types.intp), generate


@intrinsic
def store_transposed(context, acc, C, c, stride):
    """Write the tile's columns as rows: column j to C[c + j * stride], a number a row of the tile each.

    Interleaving row i with row i + rows/2, log2(rows) times, leaves the columns one behind another.
    """

    def generate(context, builder, signature, args):
        tile, array, index, stride = args
        count = acc.vector.lanes
        indices = ir.VectorType(ir.IntType(32), count)
        low = ir.Constant(indices, [n for j in range(count // 2) for n in (j, count + j)])
        high = ir.Constant(indices, [n for j in range(count // 2, count) for n in (j, count + j)])
        for v in range(acc.vectors):
            rows = [builder.extract_value(tile, i * acc.vectors + v) for i in range(acc.rows)]
            half = acc.rows // 2
            for _ in range(int(math.log2(acc.rows))):
                pairs = zip(rows[:half], rows[half:], strict=True)
                rows = [builder.shuffle_vector(x, y, mask) for x, y in pairs for mask in (low, high)]
            flat = [(vector, lane) for vector in rows for lane in range(0, count, min(count, acc.rows))]
            pieces = acc.rows // min(count, acc.rows)  # vectors that hold one column, when it is longer than a vector
            piece = ir.VectorType(ir.IntType(32), min(count, acc.rows))
            for n, (vector, lane) in enumerate(flat):
                column, part = divmod(n, pieces)
                chosen = builder.shuffle_vector(
                    vector, vector, ir.Constant(piece, list(range(lane, lane + piece.count)))
                )
                begin = _offset(builder, index, stride, v * count + column)
                where_ = builder.add(begin, context.get_constant(types.intp, part * piece.count))
                _store(context, builder, C, array, where_, chosen)
        return context.get_dummy_value()

    return types.void(acc, C, types.intp, types.intp), generate
