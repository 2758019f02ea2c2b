"""Products on tensor cores: a warp's fragments by the PTX ISA's tables, and networks of both precisions."""

import numpy as np
import pytest

from fastmlp import devices
from fastmlp.cuda import warp

if devices.cuda_problem() is not None:
    pytest.skip(devices.cuda_problem().message, allow_module_level=True)

from numba import cuda, float32, uint32  # noqa: E402

from fastmlp.cuda import ptx  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_simulator")


# fragments, thread by thread, as the PTX ISA's tables have them


def bits(x):
    """The 16 bits of a bfloat16 by arithmetic: 8 bits of significand, ties to even (np.rint)."""
    mantissa, exponent = np.frexp(np.float64(x))
    return int((np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8)).astype(np.float32).view(np.uint32) >> 16)


def fragments(A, B, C, words):
    """a, b and c of every lane; A (16, k), B (k, 8), C (16, 8), and `words` halves (2) or one number (1) a word."""
    a, b, c = np.zeros((32, 4), np.uint32), np.zeros((32, 2), np.uint32), np.zeros((32, 4), np.float32)
    for lane in range(32):
        group, in_group = lane >> 2, lane % 4
        for i in range(4):
            c[lane, i] = C[group if i < 2 else group + 8, in_group * 2 + (i & 1)]
        if words == 2:
            for i in range(8):
                row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
                column = in_group * 2 + (i & 1) + (8 if i >= 4 else 0)
                a[lane, i // 2] |= np.uint32(bits(A[row, column]) << 16 * (i % 2))
            for i in range(4):
                row = in_group * 2 + (i & 1) + (8 if i >= 2 else 0)
                b[lane, i // 2] |= np.uint32(bits(B[row, group]) << 16 * (i % 2))
        else:
            for i in range(4):
                row, column = group if i in (0, 2) else group + 8, in_group if i < 2 else in_group + 4
                a[lane, i] = warp.tf32(A[row, column])
            for i in range(2):
                b[lane, i] = warp.tf32(B[in_group + 4 * i, group])
    return a, b, c


def rounded(x, precision):
    """float64 of the numbers as the products take them."""
    if precision == "bf16":
        return warp.of_bfloat16(warp.bfloat16(x)).astype(np.float64)
    return warp.tf32(x).view(np.float32).astype(np.float64)


@pytest.mark.parametrize(("precision", "k", "words"), [("bf16", 16, 2), ("tf32", 8, 1)])
def test_mma(precision, k, words):
    """A warp's product by fragments is the product of the rounded matrices."""
    r = np.random.default_rng(k)
    A, B, C = (r.standard_normal(s).astype(np.float32) for s in ((16, k), (k, 8), (16, 8)))
    a, b, c = fragments(A, B, C, words)
    d = (warp.mma_bf16 if words == 2 else warp.mma_tf32)(a, b, c)
    D = (rounded(A, precision) @ rounded(B, precision) + C).astype(np.float32)
    assert np.array_equal(d, fragments(A, B, D, words)[2])


def test_load_matrices():
    """Register j of a lane: two neighbours of row lane / 4 of matrix j, or, transposed, of that column."""
    halves = np.arange(256)
    rows = halves.astype(np.uint16).view(np.uint32).reshape(32, 4)
    plain, transposed = warp.load_matrices(rows, False), warp.load_matrices(rows, True)
    for lane in range(32):
        for j in range(4):
            matrix, n, i = halves.reshape(4, 8, 8)[j], lane // 4, 2 * (lane % 4)
            assert plain[lane, j] == matrix[n, i] | matrix[n, i + 1] << 16
            assert transposed[lane, j] == matrix[i, n] | matrix[i + 1, n] << 16


def test_rounding():
    """bfloat16: to nearest, ties to even; TF32: 10 bits of mantissa, ties away from zero; NaN and inf stay."""
    x = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-8, 3e38, 3.4e38], np.float32)
    expected = np.array([1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0, 0, np.inf], np.float32)
    found = warp.of_bfloat16(warp.bfloat16(x))
    assert np.array_equal(found[[0, 1, 2, 3, 4, 6]], expected[[0, 1, 2, 3, 4, 6]]) and abs(found[5] / 3e38 - 1) < 2**-8
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    assert np.array_equal(warp.of_bfloat16(warp.bfloat16(special)), special, equal_nan=True)
    many = np.random.default_rng(0).standard_normal(999).astype(np.float32)
    assert [bits(one) for one in many] == warp.bfloat16(many).tolist()
    x = np.array([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 - 2**-20, -1 - 2**-11], np.float32)
    found = warp.tf32(x).view(np.float32)
    assert np.array_equal(found, np.array([1 + 2**-10, 1 + 2**-9, 1.0, -1 - 2**-10], np.float32))
    assert np.array_equal(warp.tf32(special).view(np.float32), special, equal_nan=True)


@cuda.jit
def products(rows, columns, C, D):
    """D = A B + C (bfloat16) by one warp: A (16, 16) and B^T (8, 16), then B (16, 8), lie in shared memory."""
    shared = cuda.shared.array(0, float32)
    t = cuda.threadIdx.x
    for n in range(t, 128, 32):
        shared[n] = rows[n]
        shared[128 + n] = columns[n]
    cuda.syncthreads()
    base = ptx.shared_address(shared, 0)
    a = ptx.load_matrices(shared, base + uint32(t % 16 * 32 + t // 16 * 16))
    # (16, 8) halves of B by rows, and of its transpose
    b = ptx.load_matrices_transposed(shared, base + uint32(512 + t % 16 * 16))
    again = ptx.load_matrices(shared, base + uint32(768 + t % 8 * 32 + t // 8 % 2 * 16))
    for n in range(4):
        D[n * 32 + t] = ptx.mma_bf16(a, (b[0], b[1]), (C[t], C[32 + t], C[64 + t], C[96 + t]))[n]
        D[128 + n * 32 + t] = ptx.mma_bf16(a, (again[0], again[1]), (C[t], C[32 + t], C[64 + t], C[96 + t]))[n]


def test_intrinsics_of_a_warp():
    """ldmatrix and mma in a kernel: a product from shared memory, B by rows (transposed) and by columns."""
    r = np.random.default_rng(1)
    A, B, C = (r.standard_normal(s).astype(np.float32) for s in ((16, 16), (16, 8), (16, 8)))
    words = warp.bfloat16(np.concatenate([A.ravel(), B.ravel(), B.T.ravel()])).view(np.float32)
    c, D = fragments(A, B, C, 2)[2], cuda.to_device(np.zeros(256, np.float32))
    arrays = cuda.to_device(words[:128]), cuda.to_device(words[128:].copy()), cuda.to_device(c.T.ravel().copy())
    products[1, 32, 0, 1024](*arrays, D)
    expected = (rounded(A, "bf16") @ rounded(B, "bf16") + C).astype(np.float32)
    found = D.copy_to_host().reshape(2, 4, 32)
    for d in found:
        np.testing.assert_allclose(d.T, fragments(A, B, expected, 2)[2], rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not ptx.SIMULATED, reason="of the simulator")
def test_threads_of_a_warp_that_do_not_meet():
    """A thread that fails, or is elsewhere, leaves no other waiting."""

    @cuda.jit
    def alone(x):
        shared = cuda.shared.array(0, float32)
        if cuda.threadIdx.x == 5:
            raise ZeroDivisionError("thread five")
        x[cuda.threadIdx.x] = ptx.load_matrices(shared, 0)[0]

    with pytest.raises(ZeroDivisionError, match="thread five"):
        alone[1, 32, 0, 64](np.zeros(32, np.float32))
