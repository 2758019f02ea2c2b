"""What CUDA Python has no word for, as intrinsics: the only file with assembly and LLVM IR.

Vectors are 16 bytes: 4 float32 or 2 float64, at places that are multiples of that. In the CUDA simulator
(NUMBA_ENABLE_CUDASIM=1) each intrinsic is the plain Python that it stands for; the threads of a warp meet for what they
do together (see warp.py). Those intrinsics are *convergent*: the compiler moves none to where not all threads come.
"""

import operator

import numpy as np
from numba import cuda
from numba.cuda.core import config

from fastmlp.cuda import warp

SIMULATED = bool(config.ENABLE_CUDASIM)
VECTOR_BYTES = 16

if SIMULATED:

    def load_vector(local, l, array, i):
        for lane in range(VECTOR_BYTES // local.itemsize):
            local[l + lane] = array[i + lane]

    def copy_async(shared, s, array, i, wanted):
        for lane in range(VECTOR_BYTES // shared.itemsize):
            shared[s + lane] = array[i + lane] if wanted else 0

    copy_vector = copy_async

    def copy_async_at(shared, address, array, source, wanted):
        assert int(address) % VECTOR_BYTES == 0 and int(source) % VECTOR_BYTES == 0
        copy_async(shared, int(address) // 4, array, int(source) // 4, wanted)

    def commit_copies():
        pass

    def wait_copies(groups):
        return commit_copies

    @cuda.jit(device=True)
    def arrive(counters, place):
        cuda.atomic.add(counters, place, 1)

    def arrived(counters, place):
        return counters[place]

    def quotient(x, y):
        return x // y

    def flat(array):
        return array.view(np.recarray) if array.dtype.names else array

    @cuda.jit(device=True)
    def thread():
        return cuda.threadIdx.x

    def power_of_two(n):
        return type(n)(2.0) ** n

    def reciprocal_estimate(x):
        return type(x)(1.0) / x

    def fused_multiply_add(x, y, z):
        return x * y + z

    def square_root(x):
        return x**0.5

    def rounded_product(x, y):
        return type(x)(round(x * y))

    def _memory(array):
        return array._item._ary if hasattr(array, "_item") else array

    def shared_address(shared, i):
        return 4 * int(i)

    global_address = shared_address

    def load_word(shared, address, words):
        return _memory(shared).view(np.uint32)[address // 4 + words]

    def store_bf16(array, i, x):
        _memory(array).view(np.uint16)[i] = warp.bfloat16(x)

    def pack_bf16(low, high):
        low, high = warp.bfloat16([low, high]).astype(np.uint32)
        return low | high << np.uint32(16)

    def tf32(word):
        return warp.tf32(np.asarray(word, np.uint32).view(np.float32))[()]

    def word_of(x):
        return np.float32(x).view(np.uint32)

    def number_of(word):
        return np.uint32(word).view(np.float32)

    def exchange(x, mask):
        here, lane = warp.Warp.of_this_thread()
        return here.meet("exchange", lane, np.float32(x), lambda given: np.array(given)[np.arange(warp.LANES) ^ mask])

    def _of_warp(product):
        def mma(a, b, c):
            here, lane = warp.Warp.of_this_thread()

            def together(given):
                kinds = np.uint32, np.uint32, np.float32
                return product(*(np.array([g[n] for g in given], kind) for n, kind in enumerate(kinds)))

            return here.meet(product.__name__, lane, (a, b, c), together)

        return mma

    def _rows_of_warp(transposed):
        def load(shared, address):
            here, lane = warp.Warp.of_this_thread()
            row = _memory(shared).view(np.uint32)[address // 4 : address // 4 + 4].copy()
            assert address % VECTOR_BYTES == 0
            name = "load_matrices_transposed" if transposed else "load_matrices"
            return here.meet(name, lane, row, lambda rows: warp.load_matrices(np.array(rows), transposed))

        return load

    mma_bf16, mma_tf32 = _of_warp(warp.mma_bf16), _of_warp(warp.mma_tf32)
    load_matrices, load_matrices_transposed = _rows_of_warp(False), _rows_of_warp(True)

else:
    if not hasattr(np, "row_stack"):  # NumPy from 2.5 on; numba-cuda up to 0.30 asks for it when it compiles
        np.row_stack = np.vstack

    from llvmlite import ir
    from numba.cuda import cgutils, types
    from numba.cuda.core import targetconfig
    from numba.cuda.extending import intrinsic, lower_builtin, models, register_model
    from numba.cuda.typing import signature
    from numba.cuda.typing.templates import AbstractTemplate, infer_global

    I16, I32, I64, F32, F64 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()

    class Flat(types.Type):
        """What `flat` makes of an array of some dtype."""

        def __init__(self, dtype):
            self.dtype = dtype
            super().__init__(f"flat({dtype})")

    @register_model(Flat)
    class FlatModel(models.PrimitiveModel):
        """A pointer to the first number."""

        def __init__(self, manager, flat_type):
            number = manager.lookup(flat_type.dtype).get_data_type()
            super().__init__(manager, flat_type, number.as_pointer())

    @intrinsic
    def flat(typing_context, array):
        """A contiguous array of one dimension, of numbers or of records, whose indices are not negative.

        Of all others CUDA Python asks each time whether an index counts from the end: four instructions of 64 bits,
        and a length in registers.
        """

        assert array.ndim == 1 and array.layout == "C"

        def generate(context, builder, signature, arguments):
            return context.make_array(array)(context, builder, arguments[0]).data

        return Flat(array.dtype)(array), generate

    @infer_global(operator.getitem)
    class _TypeOfNumber(AbstractTemplate):
        def generic(self, arguments, names):
            array, index = arguments
            if isinstance(array, Flat) and isinstance(index, types.Integer):
                return signature(array.dtype, array, types.intp)

    @infer_global(operator.setitem)
    class _TypeOfAssignment(AbstractTemplate):
        def generic(self, arguments, names):
            array, index, _ = arguments
            if isinstance(array, Flat) and isinstance(index, types.Integer):
                return signature(types.none, array, types.intp, array.dtype)

    @lower_builtin(operator.getitem, Flat, types.Integer)
    def _get(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]], inbounds=True)
        return context.unpack_value(builder, signature.return_type, place)

    @lower_builtin(operator.setitem, Flat, types.Integer, types.Any)
    def _set(context, builder, signature, arguments):
        array, index, number = arguments
        builder.store(number, builder.gep(array, [index], inbounds=True))
        return context.get_dummy_value()

    def _place(context, builder, array_type, array, index_type, index):
        """The address of array[index]; the index is not negative."""
        index = context.cast(builder, index, index_type, types.intp)
        if isinstance(array_type, Flat):
            return builder.gep(array, [index], inbounds=True)
        made = context.make_array(array_type)(context, builder, array)
        return cgutils.get_item_pointer(context, builder, array_type, made, [index], wraparound=False)

    def _load(builder, place, lanes):
        vector = ir.VectorType(place.type.pointee, lanes)
        loaded = builder.load(builder.bitcast(place, vector.as_pointer(place.type.addrspace)))
        loaded.align = VECTOR_BYTES
        return loaded

    def _assembly(builder, result, text, constraints, arguments=(), side_effect=True, attributes=()):
        function = ir.FunctionType(result, [argument.type for argument in arguments])
        assembly = ir.InlineAsm(function, text, constraints, side_effect=side_effect)
        return builder.call(assembly, list(arguments), attrs=attributes)

    def _has_async_copies():
        return targetconfig.ConfigStack().top().compute_capability >= (8, 0)

    def _statement(text):
        """An instruction without operands; nothing where the chip has no asynchronous copies."""

        @intrinsic
        def statement(typing_context):
            def generate(context, builder, signature, arguments):
                if _has_async_copies():
                    _assembly(builder, ir.VoidType(), text, "~{memory}")
                return context.get_dummy_value()

            return types.void(), generate

        return statement

    def _copy_async(builder, target, source, wanted):
        size = builder.select(wanted, I32(VECTOR_BYTES), I32(0))
        text = f"cp.async.cg.shared.global [$0], [$1], {VECTOR_BYTES}, $2;"
        _assembly(builder, ir.VoidType(), text, "r,l,r,~{memory}", (target, source, size))

    def _copy(asynchronous):
        @intrinsic
        def copy(typing_context, shared, s, array, i, wanted):
            lanes = VECTOR_BYTES * 8 // array.dtype.bitwidth

            def generate(context, builder, signature, arguments):
                kinds = signature.args
                target = _place(context, builder, kinds[0], arguments[0], kinds[1], arguments[1])
                source = _place(context, builder, kinds[2], arguments[2], kinds[3], arguments[3])
                real = target.type.pointee
                if asynchronous and _has_async_copies():
                    narrowed = builder.addrspacecast(target, real.as_pointer(3))
                    _copy_async(builder, builder.ptrtoint(narrowed, I32), builder.ptrtoint(source, I64), arguments[4])
                else:
                    vector = ir.VectorType(real, lanes)
                    zero = ir.Constant(vector, [real(0.0)] * lanes)
                    first = _place(context, builder, kinds[2], arguments[2], types.intp, I64(0))
                    source = builder.select(arguments[4], source, first)  # what is not wanted may not exist
                    loaded = builder.select(arguments[4], _load(builder, source, lanes), zero)
                    stored = builder.store(loaded, builder.bitcast(target, vector.as_pointer(target.type.addrspace)))
                    stored.align = VECTOR_BYTES
                return context.get_dummy_value()

            return types.void(shared, s, array, i, wanted), generate

        return copy

    @intrinsic
    def load_vector(typing_context, local, l, array, i):
        """local[l : l + lanes] = array[i : i + lanes] in one load."""
        lanes = VECTOR_BYTES * 8 // array.dtype.bitwidth

        def generate(context, builder, signature, arguments):
            kinds = signature.args
            loaded = _load(builder, _place(context, builder, kinds[2], arguments[2], kinds[3], arguments[3]), lanes)
            target = _place(context, builder, kinds[0], arguments[0], kinds[1], arguments[1])
            for lane in range(lanes):
                builder.store(builder.extract_element(loaded, I32(lane)), builder.gep(target, [I32(lane)]))
            return context.get_dummy_value()

        return types.void(local, l, array, i), generate

    # copy_async(shared, s, array, i, wanted): a vector of array[i], in global memory, to shared[s], zeros unless it is
    # wanted; it is there after wait_copies. copy_vector is the same at once, from any memory.
    copy_async, copy_vector = _copy(True), _copy(False)

    @intrinsic
    def copy_async_at(typing_context, shared, address, array, source, wanted):
        """copy_async from one address to another, of `array` and of `shared`, on chips that have it.

        Arithmetic with addresses takes fewer instructions; the arrays are for the simulator.
        """

        def generate(context, builder, signature, arguments):
            assert _has_async_copies()
            _copy_async(builder, arguments[1], arguments[3], arguments[4])
            return context.get_dummy_value()

        return types.void(shared, types.uint32, array, types.int64, types.boolean), generate

    commit_copies = _statement("cp.async.commit_group;")

    def wait_copies(groups):
        """The intrinsic that waits until all but the last so many groups of copies have arrived."""
        return _statement(f"cp.async.wait_group {groups};")

    @intrinsic
    def arrive(typing_context, counters, place):
        """Add one to a counter (uint32) in global memory, behind all that this thread has seen written (release).

        A kernel that waits for others to call it is launched cooperatively: all blocks of its grid run together.
        """

        def generate(context, builder, signature, arguments):
            kinds = signature.args
            counter = _place(context, builder, kinds[0], arguments[0], kinds[1], arguments[1])
            text = "red.release.gpu.global.add.u32 [$0], 1;"
            _assembly(builder, ir.VoidType(), text, "l,~{memory}", [builder.ptrtoint(counter, I64)])
            return context.get_dummy_value()

        return types.void(counters, place), generate

    @intrinsic
    def arrived(typing_context, counters, place):
        """A counter (uint32) in global memory; what was written before it was added to is seen after (acquire).

        It empties the multiprocessor's cache, and costs less than a second look behind one that does not.
        """

        def generate(context, builder, signature, arguments):
            kinds = signature.args
            counter = _place(context, builder, kinds[0], arguments[0], kinds[1], arguments[1])
            text = "ld.acquire.gpu.global.u32 $0, [$1];"
            return _assembly(builder, I32, text, "=r,l,~{memory}", [builder.ptrtoint(counter, I64)])

        return types.uint32(counters, place), generate

    @intrinsic
    def quotient(typing_context, x, y):
        """x // y for numbers from 0 to 2^32 - 1: of 64 bits, as CUDA Python divides, it takes ten times as long."""

        def generate(context, builder, signature, arguments):
            x, y = (builder.trunc(argument, I32) for argument in arguments)
            return builder.zext(builder.udiv(x, y), I64)

        return types.int64(types.int64, types.int64), generate

    @intrinsic
    def thread(typing_context):
        """The thread's number in its block, read anew each time.

        What follows from cuda.threadIdx.x is worked out before a kernel's loops, for all that is in them, and
        fills the registers.
        """

        def generate(context, builder, signature, arguments):
            return builder.zext(_assembly(builder, I32, "mov.u32 $0, %tid.x;", "=r"), I64)

        return types.int64(), generate

    # What leaves no fraction to a number that it is added to: conversions would do, but a chip does few at a time.
    NO_FRACTION = {types.float32: 1.5 * 2.0**23, types.float64: 1.5 * 2.0**52}

    @intrinsic
    def power_of_two(typing_context, n):
        """2^n for a whole real n in the range of normal numbers, made of the bits of its exponent."""
        bits, bias, fraction = (I32, 127, 23) if n == types.float32 else (I64, 1023, 52)

        def generate(context, builder, signature, arguments):
            real = arguments[0].type
            whole = builder.bitcast(builder.fadd(arguments[0], real(NO_FRACTION[n])), bits)  # n in its low bits
            exponent = builder.add(builder.shl(whole, bits(fraction)), bits(bias << fraction))
            return builder.bitcast(exponent, real)

        return n(n), generate

    @intrinsic
    def rounded_product(typing_context, x, y):
        """The integer nearest to x y, or almost so, as a number of x's type."""

        def generate(context, builder, signature, arguments):
            no_fraction = arguments[0].type(NO_FRACTION[x])
            return builder.fsub(builder.fma(*arguments, no_fraction), no_fraction)

        return x(x, x), generate

    @intrinsic
    def reciprocal_estimate(typing_context, x):
        """1 / x to 1 ulp in float32; exactly rounded in float64."""

        def generate(context, builder, signature, arguments):
            if x == types.float64:
                return builder.fdiv(F64(1.0), arguments[0])
            return _assembly(builder, F32, "rcp.approx.f32 $0, $1;", "=f,f", arguments, side_effect=False)

        return x(x), generate

    @intrinsic
    def square_root(typing_context, x):
        """The square root, rounded correctly."""
        letter, name = ("f", "f32") if x == types.float32 else ("d", "f64")

        def generate(context, builder, signature, arguments):
            text, constraints = f"sqrt.rn.{name} $0, $1;", f"={letter},{letter}"
            return _assembly(builder, arguments[0].type, text, constraints, arguments, side_effect=False)

        return x(x), generate

    @intrinsic
    def fused_multiply_add(typing_context, x, y, z):
        """x y + z, rounded once; operands are of x's type."""

        def generate(context, builder, signature, arguments):
            return builder.fma(*arguments)

        return x(x, x, x), generate

    @intrinsic
    def shared_address(typing_context, shared, i):
        """Where shared[i] is in shared memory, in bytes; a 32-bit number to which bytes may be added."""

        def generate(context, builder, signature, arguments):
            place = _place(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
            return builder.ptrtoint(builder.addrspacecast(place, place.type.pointee.as_pointer(3)), I32)

        return types.uint32(shared, i), generate

    @intrinsic
    def global_address(typing_context, array, i):
        """Where array[i], of 4 bytes, is in global memory, in bytes."""

        def generate(context, builder, signature, arguments):
            place = _place(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
            return builder.ptrtoint(place, I64)

        return types.int64(array, i), generate

    @intrinsic
    def load_word(typing_context, shared, address, words):
        """The 32 bits so many words behind an address in `shared`, whatever they stand for.

        A constant number of words becomes a part of the instruction; added to the address, it would be one more.
        """

        def generate(context, builder, signature, arguments):
            address = context.cast(builder, arguments[1], signature.args[1], types.uint32)
            distance = context.cast(builder, arguments[2], signature.args[2], types.int64)
            first = builder.inttoptr(address, I32.as_pointer(3))
            return builder.load(builder.gep(first, [distance], inbounds=True))

        return types.uint32(shared, address, words), generate

    @intrinsic
    def store_bf16(typing_context, array, i, x):
        """The nearest bfloat16 of a float32 (ties to even), to the i-th 16 bits of an array."""

        def generate(context, builder, signature, arguments):
            bits = _assembly(builder, I16, "cvt.rn.bf16.f32 $0, $1;", "=h,f", [arguments[2]], side_effect=False)
            first = _place(context, builder, signature.args[0], arguments[0], types.intp, I64(0))
            halves = builder.bitcast(first, I16.as_pointer(first.type.addrspace))
            index = context.cast(builder, arguments[1], signature.args[1], types.intp)
            builder.store(bits, builder.gep(halves, [index])).align = 2
            return context.get_dummy_value()

        return types.void(array, i, types.float32), generate

    @intrinsic
    def pack_bf16(typing_context, low, high):
        """Two float32 as the nearest bfloat16 (ties to even) in a word."""

        def generate(context, builder, signature, arguments):
            operands = arguments[1], arguments[0]
            return _assembly(builder, I32, "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f", operands, side_effect=False)

        return types.uint32(types.float32, types.float32), generate

    @intrinsic
    def tf32(typing_context, word):
        """The bits of a float32, rounded to 10 bits of mantissa, ties away from zero."""

        def generate(context, builder, signature, arguments):
            x = [builder.bitcast(arguments[0], F32)]
            return _assembly(builder, I32, "cvt.rna.tf32.f32 $0, $1;", "=r,f", x, side_effect=False)

        return types.uint32(types.uint32), generate

    @intrinsic
    def word_of(typing_context, x):
        """The bits of a float32."""

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], I32)

        return types.uint32(types.float32), generate

    @intrinsic
    def number_of(typing_context, word):
        """The float32 of some bits."""

        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], F32)

        return types.float32(types.uint32), generate

    @intrinsic
    def exchange(typing_context, x, mask):
        """The float32 x of the lane whose number differs from this one's in the bits of the mask; convergent."""

        def generate(context, builder, signature, arguments):
            mask = context.cast(builder, arguments[1], signature.args[1], types.uint32)
            text = "shfl.sync.bfly.b32 $0, $1, $2, 31, -1;"
            return _assembly(builder, F32, text, "=f,f,r", [arguments[0], mask], True, ("convergent",))

        return types.float32(types.float32, mask), generate

    def _registers(first, count):
        return "{" + ", ".join(f"${n}" for n in range(first, first + count)) + "}"

    def _tensor_product(shape, kind):
        @intrinsic
        def mma(typing_context, a, b, c):
            def generate(context, builder, signature, arguments):
                operands = [cgutils.unpack_tuple(builder, argument) for argument in arguments]
                parts = _registers(0, 4), _registers(4, 4), _registers(8, 2), _registers(10, 4)
                text = f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 {', '.join(parts)};"
                constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
                four = ir.LiteralStructType([F32] * 4)
                found = _assembly(builder, four, text, constraints, sum(operands, []), False, ("convergent",))
                found = [builder.extract_value(found, n) for n in range(4)]
                return context.make_tuple(builder, signature.return_type, found)

            four = types.UniTuple(types.float32, 4)
            return four(types.UniTuple(types.uint32, 4), types.UniTuple(types.uint32, 2), four), generate

        return mma

    # mma(a, b, c): a thread's 4 numbers of A B + C, C (16, 8) being of float32; the warp has A, 4 words a thread, and
    # B, 2 words a thread: (16, 16) and (16, 8) of bfloat16, or (16, 8) and (8, 8) of TF32. Which entries a thread has
    # is written down in warp.py.
    mma_bf16, mma_tf32 = _tensor_product("m16n8k16", "bf16"), _tensor_product("m16n8k8", "tf32")

    def _load_matrices(transposed):
        @intrinsic
        def load(typing_context, shared, address):
            def generate(context, builder, signature, arguments):
                place = context.cast(builder, arguments[1], signature.args[1], types.uint32)
                text = f"ldmatrix.sync.aligned.m8n8.x4{transposed}.shared.b16 {_registers(0, 4)}, [$4];"
                four, constraints = ir.LiteralStructType([I32] * 4), "=r,=r,=r,=r,r,~{memory}"
                found = _assembly(builder, four, text, constraints, [place], True, ("convergent",))
                found = [builder.extract_value(found, n) for n in range(4)]
                return context.make_tuple(builder, signature.return_type, found)

            return types.UniTuple(types.uint32, 4)(shared, address), generate

        return load

    # load_matrices(shared, address): one word of each of four matrices of 8 x 8 halves in shared memory, whose rows are
    # 16 bytes; the address is that of row lane % 8 of matrix lane // 8. A thread gets the halves 2 (lane % 4) and the
    # next of row lane // 4, or, transposed, of that column.
    load_matrices, load_matrices_transposed = _load_matrices(""), _load_matrices(".trans")
