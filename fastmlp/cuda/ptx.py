"""What CUDA Python has no word for, as intrinsics: the only file with assembly and LLVM IR.

Vectors are 16 bytes: 4 float32 or 2 float64, at places that are multiples of that. In the CUDA simulator
(NUMBA_ENABLE_CUDASIM=1) each intrinsic is the plain Python that it stands for.
"""

import numpy as np
from numba import cuda
from numba.cuda.core import config

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

    def commit_copies():
        pass

    def wait_copies(groups):
        return commit_copies

    @cuda.jit(device=True)
    def arrive(counters, place):
        cuda.atomic.add(counters, place, 1)

    def arrived(counters, place):
        return counters[place]

    seen = arrived

    def quotient(x, y):
        return x // y

    def records(array):
        return array.view(np.recarray)

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

    def round_to_integer(x):
        return type(x)(round(x))

else:
    from llvmlite import ir
    from numba.cuda import cgutils, types
    from numba.cuda.core import targetconfig
    from numba.cuda.extending import intrinsic

    I32, I64, F32, F64 = ir.IntType(32), ir.IntType(64), ir.FloatType(), ir.DoubleType()

    def _place(context, builder, array_type, array, index_type, index):
        """The address of array[index]; the index is not negative."""
        made = context.make_array(array_type)(context, builder, array)
        index = context.cast(builder, index, index_type, types.intp)
        return cgutils.get_item_pointer(context, builder, array_type, made, [index], wraparound=False)

    def _load(builder, place, lanes):
        vector = ir.VectorType(place.type.pointee, lanes)
        loaded = builder.load(builder.bitcast(place, vector.as_pointer(place.type.addrspace)))
        loaded.align = VECTOR_BYTES
        return loaded

    def _assembly(builder, result, text, constraints, arguments=(), side_effect=True):
        function = ir.FunctionType(result, [argument.type for argument in arguments])
        return builder.call(ir.InlineAsm(function, text, constraints, side_effect=side_effect), list(arguments))

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
                    size = builder.select(arguments[4], I32(VECTOR_BYTES), I32(0))
                    operands = builder.ptrtoint(narrowed, I32), builder.ptrtoint(source, I64), size
                    text = f"cp.async.cg.shared.global [$0], [$1], {VECTOR_BYTES}, $2;"
                    _assembly(builder, ir.VoidType(), text, "r,l,r,~{memory}", operands)
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
    commit_copies = _statement("cp.async.commit_group;")

    def wait_copies(groups):
        """The intrinsic that waits until all but the last so many groups of copies have arrived."""
        return _statement(f"cp.async.wait_group {groups};")

    @intrinsic
    def arrive(typing_context, counters, place):
        """Add one to a counter (uint32) in global memory, behind all that this thread has seen written (release).

        A kernel that calls it is launched cooperatively: all blocks of its grid run at the same time.
        """

        def generate(context, builder, signature, arguments):
            context.active_code_library.use_cooperative = True
            kinds = signature.args
            counter = _place(context, builder, kinds[0], arguments[0], kinds[1], arguments[1])
            text = "red.release.gpu.global.add.u32 [$0], 1;"
            _assembly(builder, ir.VoidType(), text, "l,~{memory}", [builder.ptrtoint(counter, I64)])
            return context.get_dummy_value()

        return types.void(counters, place), generate

    def _read_counter(instruction):
        @intrinsic
        def read_counter(typing_context, counters, place):
            def generate(context, builder, signature, arguments):
                kinds = signature.args
                counter = _place(context, builder, kinds[0], arguments[0], kinds[1], arguments[1])
                text = f"{instruction}.gpu.global.u32 $0, [$1];"
                return _assembly(builder, I32, text, "=r,l,~{memory}", [builder.ptrtoint(counter, I64)])

            return types.uint32(counters, place), generate

        return read_counter

    # seen(counters, place): a counter as it is; arrived(counters, place): the same, and what was written before it was
    # added to is seen after (acquire), which empties the multiprocessor's cache.
    seen, arrived = _read_counter("ld.relaxed"), _read_counter("ld.acquire")

    @intrinsic
    def quotient(typing_context, x, y):
        """x // y for numbers from 0 to 2^32 - 1: of 64 bits, as CUDA Python divides, it takes ten times as long."""

        def generate(context, builder, signature, arguments):
            x, y = (builder.trunc(argument, I32) for argument in arguments)
            return builder.zext(builder.udiv(x, y), I64)

        return types.int64(types.int64, types.int64), generate

    @cuda.jit(device=True, forceinline=True)
    def records(array):
        """Records whose fields are attributes; the simulator must be told."""
        return array

    @intrinsic
    def thread(typing_context):
        """The thread's number in its block, read anew each time.

        What follows from cuda.threadIdx.x is worked out before a kernel's loops, for all that is in them, and
        fills the registers.
        """

        def generate(context, builder, signature, arguments):
            return builder.zext(_assembly(builder, I32, "mov.u32 $0, %tid.x;", "=r"), I64)

        return types.int64(), generate

    @intrinsic
    def power_of_two(typing_context, n):
        """2^n for a whole real n in the range of normal numbers, made of the bits of its exponent."""
        bits, bias, fraction = (I32, 127, 23) if n == types.float32 else (I64, 1023, 52)

        def generate(context, builder, signature, arguments):
            exponent = builder.add(builder.fptosi(arguments[0], bits), bits(bias))
            return builder.bitcast(builder.shl(exponent, bits(fraction)), arguments[0].type)

        return n(n), generate

    @intrinsic
    def reciprocal_estimate(typing_context, x):
        """1 / x to 1 ulp in float32; exactly rounded in float64."""

        def generate(context, builder, signature, arguments):
            if x == types.float64:
                return builder.fdiv(F64(1.0), arguments[0])
            return _assembly(builder, F32, "rcp.approx.f32 $0, $1;", "=f,f", arguments, side_effect=False)

        return x(x), generate

    def _elementary(instruction):
        """An instruction of one number; `{}` in its name stands for the type."""

        @intrinsic
        def elementary(typing_context, x):
            letter, name = ("f", "f32") if x == types.float32 else ("d", "f64")

            def generate(context, builder, signature, arguments):
                text = f"{instruction.format(name)} $0, $1;"
                return _assembly(builder, arguments[0].type, text, f"={letter},{letter}", arguments, side_effect=False)

            return x(x), generate

        return elementary

    square_root, round_to_integer = _elementary("sqrt.rn.{0}"), _elementary("cvt.rni.{0}.{0}")

    @intrinsic
    def fused_multiply_add(typing_context, x, y, z):
        """x y + z, rounded once; operands are of x's type."""

        def generate(context, builder, signature, arguments):
            return builder.fma(*arguments)

        return x(x, x, x), generate
