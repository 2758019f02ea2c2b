"""The machine that carries out PTX where there is no GPU: what instructions do, and what it finds fault with."""

import struct

import numpy as np
import pytest
from ptx_machine import SHARED_BEGIN, Counts, Fault, Kernel, Memory, launch

NAN = 0xFFFFFFFF


REGISTERS = "pred %p<8>", "b16 %rs<8>", "b32 %r<32>", "f32 %f<16>", "f64 %fd<8>", "b64 %rd<16>"


def run(body, out=32, data=(), threads=32, grid=1, shared=256, together=False, counts=None):
    """out[:] (uint32) after a kernel whose %rd1 is out + 4 x thread and %rd2 the data's address (uint32)."""
    registers = "\n".join(f".reg .{one};" for one in REGISTERS)
    begin = "\n".join([
        "ld.param.u64 %rd1, [k_param_0];", "ld.param.u64 %rd2, [k_param_1];", "mov.u32 %r1, %tid.x;",
        "mul.wide.u32 %rd3, %r1, 4;", "add.s64 %rd1, %rd1, %rd3;",
    ])  # fmt: skip
    header = ".version 8.0\n.target sm_80\n.extern .shared .align 4 .b8 smem[];\n.visible .entry k("
    text = f"{header}\n.param .u64 k_param_0,\n.param .u64 k_param_1\n)\n{{\n{registers}\n{begin}\n{body}\nret;\n}}"
    memory, data = Memory(1 << 20), np.asarray(data, np.uint32)
    places = memory.allocate(4 * out), memory.allocate(max(4, data.nbytes))
    if data.size:
        memory.piece(places[1], data.nbytes)[:] = data.view(np.uint8)
    parameters = [struct.pack("Q", place) for place in places]
    launch(Kernel(text), grid, threads, shared, parameters, memory, together, counts)
    return memory.piece(places[0], 4 * out).view(np.uint32).copy()


def bits(x):
    return np.asarray(x, np.float32).view(np.uint32)


THREAD = np.arange(32)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("mad.lo.s32 %r2, %r1, -3, 7;", (7 - 3 * THREAD).astype(np.uint32)),
        ("add.s32 %r3, %r1, -9; div.s32 %r2, %r3, 4;", np.trunc((THREAD - 9) / 4).astype(np.int32).view(np.uint32)),
        ("add.s32 %r3, %r1, -9; rem.s32 %r2, %r3, 4;", np.fmod(THREAD - 9, 4).astype(np.int32).view(np.uint32)),
        ("add.s32 %r3, %r1, -9; shr.s32 %r2, %r3, 40;", np.where(THREAD < 9, NAN, 0)),
        ("shl.b32 %r2, 1, %r1;", 1 << THREAD),
        ("setp.lt.u32 %p1, %r1, 5; selp.b32 %r2, 3, 4, %p1;", np.where(THREAD < 5, 3, 4)),
        ("cvt.rn.f32.u32 %f1, %r1; fma.rn.f32 %f2, %f1, %f1, 0f3F800000; mov.b32 %r2, %f2;", bits(THREAD**2 + 1)),
        ("cvt.rn.f32.u32 %f1, %r1; rcp.approx.f32 %f2, %f1; mov.b32 %r2, %f2;", bits(1 / np.maximum(THREAD, 0.1))),
        ("cvt.rn.bf16x2.f32 %r2, 0f3F800000, 0f3F818000;", np.full(32, 0x3F803F82)),
        ("cvt.rna.tf32.f32 %r2, 0f3F801000;", np.full(32, 0x3F802000)),
        ("mov.b64 %rd4, {%r1, 7}; mov.b64 {%r3, %r2}, %rd4;", np.full(32, 7)),
        ("shfl.sync.bfly.b32 %r2, %r1, 3, 31, -1;", THREAD ^ 3),
        ("add.s32 %r3, %r1, -9; abs.s32 %r4, %r3; cvt.u64.u32 %rd5, %r4; cvt.u32.u64 %r2, %rd5;", abs(THREAD - 9)),
        ("mov.f32 %f1, 0f7FC00000; setp.geu.f32 %p1, %f1, 0f00000000; selp.b32 %r2, 1, 0, %p1;", np.ones(32)),
    ],
)  # fmt: skip
def test_instructions(body, expected):
    """One after the other; NaN, signs, wide shifts and roundings as the PTX ISA has them."""
    if "rcp" in body:
        expected = expected.copy()
        expected[0] = bits(np.inf)
    found = run(body.replace("; ", ";\n") + "\nst.global.u32 [%rd1], %r2;")
    assert np.array_equal(found, np.asarray(expected).astype(np.uint32))


def test_branches():
    """Threads that part, in a loop of as many rounds as each needs, and meet again."""
    body = """
    mov.u32 %r2, 0;
    mov.u32 %r3, 0;
$L1:
    setp.ge.u32 %p1, %r3, %r1;
    @%p1 bra $L2;
    add.s32 %r2, %r2, %r3;
    add.s32 %r3, %r3, 1;
    bra.uni $L1;
$L2:
    shfl.sync.bfly.b32 %r2, %r2, 1, 31, -1;
    st.global.u32 [%rd1], %r2;"""
    assert np.array_equal(run(body), [(t ^ 1) * ((t ^ 1) - 1) // 2 for t in range(32)])


SHARED = f"mov.u64 %rd6, smem;\nadd.s64 %rd6, %rd6, %rd3;\ncvt.u32.u64 %r6, %rd6;\nsub.s32 %r7, %r6, {SHARED_BEGIN};\n"


def test_barrier_and_races():
    """What another warp has written is read behind a barrier, and not before."""
    # thread t reads what thread t ^ 32 has written
    body = (
        SHARED + "st.shared.u32 [%rd6], %r1;\n{barrier}\nxor.b32 %r8, %r7, 128;\nadd.s32 %r8, %r8, " + str(SHARED_BEGIN)
    )
    body += ";\nld.shared.u32 %r2, [%r8];\nst.global.u32 [%rd1], %r2;"
    found = run(body.format(barrier="bar.sync 0;"), out=64, threads=64)
    assert np.array_equal(found, np.arange(64) ^ 32)
    with pytest.raises(Fault, match="warp 0 reads what warp 1 has used, in shared"):
        run(body.format(barrier=""), out=64, threads=64)
    with pytest.raises(Fault, match="warp 0 writes what several warps"):
        run(SHARED + "ld.shared.u32 %r2, [smem];\nst.shared.u32 [%rd6], %r1;", out=64, threads=64)
    with pytest.raises(Fault, match="two threads write"):
        run("st.shared.u32 [smem], %r1;", out=64, threads=64)


COPY = "mul.wide.u32 %rd4, %r1, 16;\nmov.u64 %rd5, smem;\nadd.s64 %rd5, %rd5, %rd4;\nadd.s64 %rd4, %rd2, %rd4;\n"
COPY += "cvt.u32.u64 %r5, %rd5;\ncp.async.cg.shared.global [%r5], [%rd4], 16, {size};\ncp.async.commit_group;\n"
LOAD = "ld.shared.v4.u32 {%r2, %r3, %r4, %r8}, [%rd5];\nst.global.u32 [%rd1], %r3;"


@pytest.mark.parametrize("after", ("bar.sync 0;\nret;", "ret;"))
def test_barriers_of_some(after):
    """A barrier to which one warp comes and the other does not."""
    part = "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra $L1;\nbar.sync 0;\nret;\n$L1:\n"
    with pytest.raises(Fault, match="others do not come"):
        run(part + after, out=64, threads=64)


def test_copies():
    """Asynchronous copies are there when they have been waited for, as zeros where nothing is wanted."""
    data = np.arange(128) + 7
    wait = "cp.async.wait_group 0;\n"
    assert np.array_equal(run(COPY.format(size=16) + wait + LOAD, data=data, shared=512), data[1::4])
    assert not run(COPY.format(size=0) + wait + LOAD, data=data, shared=512).any()
    assert (run(COPY.format(size=16) + LOAD, data=data, shared=512) == NAN).all()  # not waited for
    late = run(COPY.format(size=16) + "cp.async.wait_group 1;\n" + LOAD, data=data, shared=512)
    assert (late == NAN).all()
    with pytest.raises(Fault, match="changed"):
        run(COPY.format(size=16) + "st.global.u32 [%rd4], 1;\n" + wait, data=data, shared=512)
    with pytest.raises(Fault, match="nobody's"):
        run(COPY.format(size=16) + wait + LOAD, data=data[:-1], shared=512)
    with pytest.raises(Fault, match="shared memory"):
        run(COPY.format(size=16) + wait + LOAD, data=data, shared=496)


def test_products():
    """mma and ldmatrix against NumPy: A (16, 16) by ldmatrix, B (16, 8) from its columns, C of ones."""
    r = np.random.default_rng(0)
    A, B = r.integers(-8, 8, (16, 16)), r.integers(-8, 8, (16, 8))
    halves = np.concatenate([A.ravel(), B.T.ravel()]).astype(np.float32).view(np.uint32) >> 16
    words = halves.astype(np.uint16).view(np.uint32)
    body = SHARED + "mul.wide.u32 %rd7, %r1, 4;\nadd.s64 %rd7, %rd7, %rd2;\n"
    for n in range(6):  # 192 words to shared memory
        body += f"ld.global.u32 %r9, [%rd7+{128 * n}];\nst.shared.u32 [%rd6+{128 * n}], %r9;\n"
    # the lane's row: lane % 16 of A, in its first or second half
    body += "and.b32 %r10, %r1, 15;\nshl.b32 %r10, %r10, 5;\nshr.u32 %r11, %r1, 4;\nshl.b32 %r11, %r11, 4;\n"
    body += f"add.s32 %r10, %r10, %r11;\nadd.s32 %r10, %r10, {SHARED_BEGIN};\nbar.sync 0;\n"
    body += "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r12, %r13, %r14, %r15}, [%r10];\n"
    # B's column lane / 4, terms 2 (lane % 4) and 8 further on
    body += "shr.u32 %r16, %r1, 2;\nshl.b32 %r16, %r16, 5;\nand.b32 %r17, %r1, 3;\nshl.b32 %r17, %r17, 2;\n"
    body += f"add.s32 %r16, %r16, %r17;\nadd.s32 %r16, %r16, {SHARED_BEGIN};\n"
    body += "ld.shared.u32 %r18, [%r16+512];\nld.shared.u32 %r19, [%r16+528];\nmov.f32 %f1, 0f3F800000;\n"
    body += "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f2, %f3, %f4, %f5}, {%r12, %r13, %r14, %r15}, "
    body += "{%r18, %r19}, {%f1, %f1, %f1, %f1};\n"
    for n in range(4):
        body += f"st.global.f32 [%rd1+{128 * n}], %f{2 + n};\n"
    found = run(body, out=128, data=words, shared=768).view(np.float32).reshape(4, 32)
    expected = A @ B + 1
    for lane in range(32):
        row, column = lane // 4, 2 * (lane % 4)
        assert found[:, lane].tolist() == [*expected[row, column : column + 2], *expected[row + 8, column : column + 2]]


def test_faults():
    """A warp that is not together, addresses of nobody, bad ones, what is not carried out, waits without end."""
    part = "setp.lt.u32 %p1, %r1, 5;\n@%p1 bra $L1;\nshfl.sync.bfly.b32 %r2, %r1, 1, 31, -1;\n$L1:\n"
    for body, message in (
        (part, "not together"),
        ("st.global.u32 [%rd1+4], %r1;", "nobody's"),
        ("st.global.u32 [%rd1+2], %r1;", "no multiple of 4"),
        ("st.shared.u32 [smem+256], %r1;", "shared memory"),
        ("setp.lt.u32 %p1, %r1, 5;\n@%p1 bra $L1;\nbar.sync 0;\n$L1:\n", "others do not come"),
        ("vote.sync.any.pred %p1, %p2, -1;", "not carried out: vote"),
        ("cvt.rz.f32.f64 %f1, %fd1;", "not carried out: cvt"),
        ("min.NaN.f32 %f1, %f2, %f3;", "not carried out: min"),
        ("$L1:\nld.relaxed.gpu.global.u32 %r2, [%rd2];\nbra.uni $L1;", "wait for ever"),
    ):  # fmt: skip
        with pytest.raises(Fault, match=message):
            run(body, together="relaxed" in body, grid=2)


def test_blocks_wait_for_one_another():
    """Blocks of a cooperative launch see what others have released."""
    body = """
    mov.u32 %r3, %ctaid.x;
    setp.ne.s32 %p1, %r3, 1;
    @%p1 bra $L1;
    red.release.gpu.global.add.u32 [%rd2], 5;
    ret;
$L1:
    ld.acquire.gpu.global.u32 %r2, [%rd2];
    setp.lt.u32 %p2, %r2, 160;
    @%p2 bra $L1;
    st.global.u32 [%rd1], %r2;"""
    assert (run(body, data=[0], grid=2, together=True) == 160).all()


BLOCK = "mov.u32 %r3, %ctaid.x;\nsetp.ne.s32 %p1, %r3, 0;\n"
WAIT = """
    @%p1 bra $L1;
    st.global.u32 [%rd1], 7;
    {before}
    setp.ne.s32 %p2, %r1, 0;
    @%p2 bra $L2;
    red.release.gpu.global.add.u32 [%rd2], 1;
$L2:
    ret;
$L1:
    ld.{how}.gpu.global.u32 %r2, [%rd2];
    setp.eq.u32 %p3, %r2, 0;
    @%p3 bra $L1;
    bar.sync 0;
    xor.b32 %r4, %r1, 32;
    mul.wide.u32 %rd4, %r4, 4;
    sub.s64 %rd1, %rd1, %rd3;
    add.s64 %rd1, %rd1, %rd4;
    ld.global.u32 %r2, [%rd1];
    add.s32 %r2, %r2, 1;
    st.global.u32 [%rd1], %r2;"""


def test_races_in_global_memory():
    """Between warps, without a barrier; between blocks, unless what one has released the other acquires."""
    one = "st.global.u32 [%rd1], %r1;\n{}\nld.global.u32 %r2, [%rd2+-{}];"
    with pytest.raises(Fault, match="warp 1 reads what warp 0 has used, in global"):
        run(one.format("", 1024), out=64, threads=64, data=[0])
    run(one.format("bar.sync 0;", 1024), out=64, threads=64, data=[0])
    run(one.format("", 0), out=64, threads=64, data=[0])
    two = {"out": 64, "threads": 64, "data": [0], "grid": 2, "together": True}
    assert (run(BLOCK + WAIT.format(before="bar.sync 0;", how="acquire"), **two) == 8).all()
    late = "setp.lt.u32 %p4, %r3, 8;\n@%p4 bra $L5;\nld.global.u32 %r2, [%rd1];\nret;\n$L5:\n@%p1 ret;\n"
    late += "st.global.u32 [%rd1], 7;\nbar.sync 0;\nred.release.gpu.global.add.u32 [%rd2], 1;"
    with pytest.raises(Fault, match="block 8 reads what"):  # though it begins when block 0 has ended
        run(BLOCK + late, data=[0], grid=9)
    own = "setp.gt.u32 %p4, %r1, 31;\n@%p4 bra $L6;\nst.global.u32 [%rd1], 7;\n"
    own += "red.release.gpu.global.add.u32 [%rd2], 1;\n$L6:\n@!%p4 ret;\nld.global.u32 %r2, [%rd1+-128];"
    with pytest.raises(Fault, match="warp 1 reads what warp 0"):  # which has released it, but there is no barrier
        run(own, out=64, threads=64, data=[0])
    for before, how, message in (
        ("bar.sync 0;", "relaxed", "block 1 reads what warp 1 of block 0"),
        ("", "acquire", "have used memory since the last barrier"),
    ):
        with pytest.raises(Fault, match=message):
            run(BLOCK + WAIT.format(before=before, how=how), **two)


READERS = """
    setp.gt.u32 %p4, %r3, {last};
    @%p4 ret;
    ld.global.u32 %r2, [%rd1];
    @%p1 bra $L8;
$L7:
    ld.acquire.gpu.global.u32 %r4, [%rd2];
    setp.lt.u32 %p2, %r4, 32;
    @%p2 bra $L7;
    bar.sync 0;
    st.global.u32 [%rd1], 9;
    ret;
$L8:
    setp.ne.s32 %p3, %r3, 1;
    @%p3 ret;
    red.release.gpu.global.add.u32 [%rd2], 1;"""


def test_blocks_that_have_read():
    """Who writes has to have waited for all blocks that have read, and for no others, 64 blocks away or not."""
    for last, grid in ((1, 2), (1, 3), (1, 70)):
        assert (run(BLOCK + READERS.format(last=last), data=[0], grid=grid, together=True) == 9).all()
    with pytest.raises(Fault, match="block 0 writes what several blocks"):
        run(BLOCK + READERS.format(last=2), data=[0], grid=3, together=True)


def test_blocks_that_write_the_same():
    """The same numbers from several are no race, nor is reading what one has written itself; others are."""
    run("st.global.u32 [%rd1], 7;\nld.global.u32 %r2, [%rd1];\nst.global.u32 [%rd1], 7;", grid=3)
    run("st.global.u32 [%rd2], 7;", data=[0], threads=64)
    for body, message in (
        ("st.global.u32 [%rd1], %r3;", "warp 0 of block . writes"),
        ("@%p1 ld.global.u32 %r2, [%rd1];\n@!%p1 st.global.u32 [%rd1], 7;", "a race"),
        ("st.global.u32 [%rd2], %r1;", "two threads write"),
    ):
        with pytest.raises(Fault, match=message):
            run(BLOCK + body, data=[0], grid=3)


def test_counts():
    """Instructions of warps, and cycles of banks: threads 8 bytes apart need two rounds, those of one word one."""
    counts = Counts()
    body = SHARED + "mul.wide.u32 %rd7, %r1, 8;\nadd.s64 %rd7, %rd7, smem;\nst.shared.u32 [%rd7], %r1;\n"
    run(body + "ld.shared.u32 %r2, [smem];\nst.global.u32 [%rd1], %r2;", counts=counts)
    assert counts.instructions["st.shared.u32"] == 1 and (counts.cycles, counts.least) == (3, 2)
