"""Products on tensor cores: a warp's fragments by the PTX ISA's tables, and networks of both precisions."""

import numpy as np
import pytest
import reference
import scipy.sparse
from cases import OUTPUTS, assert_close, data, lecture, network, relative_error, same_bits

import fastmlp
from fastmlp import devices
from fastmlp.cuda import warp

if devices.cuda_problem() is not None:
    pytest.skip(devices.cuda_problem().message, allow_module_level=True)
if devices.precision_problem("bf16", "cuda") is not None:
    pytest.skip(devices.precision_problem("bf16", "cuda"), allow_module_level=True)

from numba import cuda, float32, uint32  # noqa: E402

from fastmlp.cuda import launch, layout, ptx, tensor_tile, trainer  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("quick_simulator"),
    pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value", "ignore:divide by zero"),
]

PRECISIONS = ("tf32", "bf16")
TOLERANCE = {"tf32": 2e-3, "bf16": 1e-2}  # of an array, in the Frobenius norm, against the lecture in float64


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


@cuda.jit
def conversions(x, words, back):
    """Of x (n,): pairs as words of bfloat16, then each as bits, as TF32's, and stored as bfloat16."""
    t, n = cuda.threadIdx.x, x.size
    if t % 2 == 0:
        words[t // 2] = ptx.pack_bf16(x[t], x[t + 1])
    words[n + t] = ptx.word_of(x[t])
    words[2 * n + t] = ptx.tf32(ptx.word_of(x[t]))
    ptx.store_bf16(back, t, x[t])


def test_conversions():
    """Words as the chip's instructions make them: the low half first, bfloat16 ties to even, TF32's away from zero."""
    x = np.random.default_rng(3).standard_normal(32).astype(np.float32)
    x[:4] = 1 + 2**-8, -1 - 3 * 2**-8, 1 + 2**-11, np.inf
    words, back = cuda.to_device(np.zeros(96, np.uint32)), cuda.to_device(np.zeros(16, np.float32))
    conversions[1, 32](cuda.to_device(x), words, back)
    words, back, low = words.copy_to_host(), back.copy_to_host(), warp.bfloat16(x)
    assert np.array_equal(words[:16].view(np.uint16), low) and np.array_equal(words[32:64], x.view(np.uint32))
    assert np.array_equal(words[64:], warp.tf32(x)) and np.array_equal(back[:16].view(np.uint16), low)


@pytest.mark.skipif(not ptx.SIMULATED, reason="of the simulator")
def test_threads_of_a_warp_that_do_not_meet():
    """A thread that fails, or is elsewhere, leaves no other waiting; nor does a warp that is not whole."""

    @cuda.jit
    def alone(x):
        shared = cuda.shared.array(0, float32)
        if cuda.threadIdx.x == 5:
            raise ZeroDivisionError("thread five")
        x[cuda.threadIdx.x] = ptx.load_matrices(shared, 0)[0]

    with pytest.raises(ZeroDivisionError, match="thread five"):
        alone[1, 32, 0, 64](np.zeros(32, np.float32))

    @cuda.jit
    def divided(x):
        shared = cuda.shared.array(0, float32)
        if cuda.threadIdx.x < 7:
            x[cuda.threadIdx.x] = ptx.load_matrices(shared, 0)[0]
        else:
            x[cuda.threadIdx.x] = ptx.load_matrices_transposed(shared, 0)[0]

    with pytest.raises(RuntimeError, match="threads of a warp are at load_matrices"):
        divided[1, 32, 0, 64](np.zeros(32, np.float32))
    with pytest.raises(ValueError, match="a block has 16 threads; warps are of 32"):
        divided[1, 16, 0, 64](np.zeros(16, np.float32))


# networks


def gpu(net, precision):
    """The same network on the GPU, in a precision."""
    settings = {name: getattr(net, name) for name in ("activation", "output", "loss", "l2", "dropout")}
    twin = fastmlp.Network(net.sizes, device="cuda", precision=precision, random_state=0, **settings)
    twin.weights, twin.biases = net.weights, net.biases
    return twin


def quantities(net, X, T, sample_weight=None):
    """z and a of each layer, the deltas, dW and db."""
    dW, db = net.gradients(X, T, sample_weight=sample_weight)
    return [array for pair in net.layers(X) for array in pair], net.deltas(X, T), dW, db


def assert_lecture(net, X, T, sample_weight=None):
    """Every array within the precision's tolerance of the lecture, and none so near that products were in float32."""
    twin, tolerance = lecture(net), TOLERANCE[net.precision]
    passed = reference.layers(twin, X)
    dW, db = reference.gradients(twin, X, T, sample_weight, passed)
    expected = [a for pair in passed for a in pair], reference.deltas(twin, X, T, passed), dW, db
    found = quantities(net, X, T, sample_weight)
    for ours, theirs in zip(found, expected, strict=True):
        assert_close(ours, theirs, tolerance)
    assert relative_error(found[2][0], dW[0]) > tolerance / 100
    assert relative_error(net.forward(X), passed[-1][1]) <= tolerance
    J = net.objective(X, T, sample_weight=sample_weight)
    assert J == pytest.approx(reference.objective(twin, X, T, sample_weight, passed), rel=tolerance)


@pytest.fixture
def force(monkeypatch):
    """force(shape, split, mode): the plan of all trainings and predictions from here on."""

    def choose(shape, split, mode):
        def plan(sizes, activation, output, real, rows, chunks_each, rule, clip, machine, precision):
            base = layout.layout(sizes, activation, output, real, precision)
            few = min(split, len(sizes) - 1)
            forced = layout.build(shape, base, rows, chunks_each, rule, clip, few, real, machine)
            if layout.shared_bytes(forced, real) > machine.shared_bytes:
                pytest.skip(f"the GPU has no shared memory for tiles of {shape.rows} x {shape.columns}")
            return forced

        monkeypatch.setattr(trainer, "plan", plan)
        monkeypatch.setattr(launch, "mode_of", lambda plan: mode)

    return choose


STAGES = launch.STAGES if ptx.SIMULATED else launch.GRAPH
PLANS = [(0, 9, STAGES), (1, 1, launch.COOPERATIVE), (2, 0, launch.COOPERATIVE)]
if not ptx.SIMULATED:
    PLANS = [(n, *rest) for n in range(5) for _, *rest in PLANS]


@pytest.mark.parametrize(("number", "split", "mode"), PLANS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_products_of_rounded_numbers(force, precision, number, split, mode):
    """Eq. 7-11 with the factors rounded, and nothing else, tile by tile: to float32's own rounding."""
    shape = layout.shapes(np.float32, precision)[number]
    force(shape, split, mode)
    net = network((5, shape.columns + 5, 3), activation="tanh", output="identity")
    X, T = data(net, shape.rows + 5)
    twin = gpu(net, precision)
    hidden = fastmlp.Network(net.sizes[:2], output="tanh", device="cuda", precision=precision)
    hidden.weights, hidden.biases = net.weights[:1], net.biases[:1]
    z_3, a_2, (delta_2, delta_3), (dW, db) = twin.forward(X), hidden.forward(X), twin.deltas(X, T), twin.gradients(X, T)
    (W_1, W_2), (b_1, b_2), m = twin.weights, twin.biases, len(X)

    def low(x):
        return rounded(np.asarray(x, np.float32), precision)

    expected = [
        np.tanh(low(X) @ low(W_1) + b_1),
        low(a_2) @ low(W_2) + b_2,
        z_3 - T,
        (low(delta_3) @ low(W_2).T) * (1 - a_2.astype(np.float64) ** 2),
        low(X).T @ low(delta_2) / m,
        low(a_2).T @ low(delta_3) / m,
        delta_2.astype(np.float64).sum(0) / m,
        delta_3.astype(np.float64).sum(0) / m,
    ]
    # a chip's own sums of an mma's terms may be cut off where float32 would round
    assert_close([a_2, z_3, delta_3, delta_2, *dW, *db], expected, 2e-6 if ptx.SIMULATED else 1e-5)


def laid_out(M, by_row, precision):
    """A factor's words, with NaN behind them that no product may read, and how far its rows lie apart."""
    M, per_word = M if by_row else M.T, 2 if precision == "bf16" else 1
    padded = np.ascontiguousarray(np.pad(M, ((0, 0), (0, -M.shape[1] % (4 * per_word)))))
    words = warp.bfloat16(padded).view(np.float32) if per_word == 2 else padded
    return np.concatenate([words.ravel(), np.full(1 << 18, np.nan, np.float32)]), words.shape[1]


@pytest.mark.skipif(not ptx.SIMULATED, reason="on a GPU the products above are of these tiles")
@pytest.mark.parametrize("by_row", [(True, False), (True, True), (False, False)], ids=["forward", "backward", "U"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=() if n in (0, 2) else pytest.mark.compile) for n in range(5)]
)
def test_tiles_of_a_gpu(number, precision, by_row):
    """The tiles that a GPU has, too large for a network here: a ragged product of each, with its factors either way."""
    shape = layout.WarpShape(precision, *layout.DEVICE_WARP_TILES[number])
    multiply, collect, entry, n_sums, _, part_rows, width, step = tensor_tile.product(np.float32, shape, *by_row, False)
    rows, columns, terms = shape.rows - 3, shape.columns - 5, shape.depth(None) + 3
    r = np.random.default_rng(number)
    A, B = (r.standard_normal((count, terms)).astype(np.float32) for count in (rows, columns))
    (a, a_stride), (b, b_stride) = (laid_out(M, way, precision) for M, way in zip((A, B), by_row))
    C = np.full((shape.rows, shape.columns), np.nan, np.float32)

    @cuda.jit
    def product(a, b, C):
        ring, sums, t = cuda.shared.array(0, float32), cuda.local.array(n_sums, float32), cuda.threadIdx.x
        multiply(ring, sums, (a, 0, a_stride, rows), (b, 0, b_stride, columns), terms)
        collect(ring, sums, 0)
        for c in range(t % width, shape.columns, width):
            for line in range(t // width, part_rows, step):
                C[line, c] = entry(ring, line, c)

    product[1, shape.threads, 0, 4 * shape.ring_words()](a, b, C)
    expected = np.zeros(C.shape)
    expected[:rows, :columns] = rounded(A, precision) @ rounded(B, precision).T
    assert relative_error(C, expected) < 1e-6 and not C[rows:].any() and not C[:, columns:].any()


@pytest.mark.parametrize(("precision", "output", "loss"), [(PRECISIONS[n % 2], *o) for n, o in enumerate(OUTPUTS)])
def test_quantities(output, loss, precision):
    """Every output and loss, and every activation on the way, with weights, against the lecture."""
    activation = output if output != "softmax" else "relu"
    net = network((5, 7, 6, 3), activation=activation, output=output, loss=loss, l2=0.03)
    X, T = data(net, 9)
    assert_lecture(gpu(net, precision), X, T, np.random.default_rng(2).random(9))


def test_a_users_functions():
    """f and a loss of a user, in bfloat16; f' that is no function of f(z) is kept in float32."""
    f = fastmlp.Activation(lambda z: z * z * 0.25, lambda z: 0.5 * z)
    loss = fastmlp.Loss(lambda a, y: (a - y) ** 4, lambda a, y: 4 * (a - y) ** 3)
    net = network((5, 7, 3), activation=f, output="identity", loss=loss)
    X, T = data(net, 9)
    twin = gpu(net, "bf16")
    passed = reference.layers(lecture(net), X)
    assert_close([array for pair in twin.layers(X) for array in pair], [a for pair in passed for a in pair], 1e-2)
    (_, a_2, z_3, _), (delta_2, delta_3), _, _ = quantities(twin, X, T)
    z_2 = twin.layers(X)[0][0].astype(np.float64)
    expected = 4 * (z_3.astype(np.float64) - T) ** 3
    back = (rounded(delta_3, "bf16") @ rounded(twin.weights[1], "bf16").T) * 0.5 * z_2
    assert_close([delta_3, delta_2], [expected, back], 1e-5)


RULES = {
    "descent": ("SGD", {"learning_rate": 0.3}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "clipped": ("SGD", {"learning_rate": 0.3, "max_gradient_norm": 0.05}),
    "adam": ("Adam", {"learning_rate": 0.01}),
}


@pytest.mark.parametrize(("rule", "precision"), [*((rule, "bf16") for rule in RULES), ("adam", "tf32")])
def test_rules(rule, precision):
    """Every rule's updates are near the lecture's: the gradients' errors do not grow over four of them.

    A gradient's error is below the tolerance of an array; Adam divides small gradients by their own size, so that
    theirs count as much as the others'.
    """
    net = network((5, 9, 3), activation="tanh", output="softmax", loss="log_loss", l2=0.02)
    X, T = data(net, 10)
    twin, (name, settings) = gpu(net, precision), RULES[rule]
    ours, theirs = (getattr(package, name)(**settings) for package in (fastmlp, reference))
    history = twin.train(X, T, optimizer=ours, batch_size=5, epochs=2, shuffle=False)
    expected = reference.train(lecture(net), X, T, theirs, 2, batch_size=5)
    changes = [[new - old for new, old in zip(n.weights, net.weights)] for n in (twin, expected.net)]
    assert_close(*changes, (5 if rule == "adam" else 1) * TOLERANCE[precision])
    np.testing.assert_allclose(history.objective, expected.objective, rtol=TOLERANCE[precision])


@pytest.mark.parametrize("settings", ({"rule": "descent"}, {"rule": "adam", "max_norm": 0.1}))
def test_copies_follow_the_weights(settings):
    """What products read of W in bfloat16 is W, rounded, whoever wrote it; what pads it stays zero."""
    net = network((9, 11, 3), activation="tanh")
    X, T = data(net, 12)
    one = trainer.Trainer(net.sizes, net.activation, net.output, net.loss, 0.0, net.dtype, 0.0, precision="bf16")

    def copied():
        flat = one._model.copy_to_host()
        W, copy = flat[: one.layout.weights_end], flat[one.layout.parameters :][: one.layout.low]
        assert np.array_equal(copy.view(np.uint16), warp.bfloat16(W)) and np.count_nonzero(W) == 9 * 11 + 11 * 3
        return copy.copy()

    one.set_parameters(net.weights, net.biases)
    start = copied()
    one.start_moments(2)
    one.remember()
    kept = one.snapshot()
    settings = settings | {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    epochs = one.epochs(X, T, None, settings, 6)
    epochs.begin(learning_rate=0.5)
    epochs.run(epochs.chunks)
    trained = copied()
    one.go_back()
    assert np.array_equal(copied(), start) and not np.array_equal(trained, start)
    epochs.begin(learning_rate=0.5)
    epochs.run(epochs.chunks)
    copied()
    one.restore(kept)
    assert np.array_equal(copied(), start)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_same_bits(precision, monkeypatch):
    """A run repeated gives the same bits, and an epoch and another are two; with dropout, in chunks."""
    monkeypatch.setattr(trainer, "CHUNK_ROWS", 8)

    def trained(*parts):
        n = fastmlp.Network((4, 6, 2), "tanh", l2=0.01, device="cuda", precision=precision, dropout=0.2, random_state=3)
        X, T = data(n, 13)
        for epochs in parts:
            n.train(X, T, optimizer=fastmlp.Adam(0.01), batch_size=11, epochs=epochs)
        return n

    assert same_bits(trained(2), trained(1, 1))


def test_inputs(monkeypatch):
    """Bytes, CSR and examples that come by in windows or chunks: the bits of float32 that is all there."""
    net = network((6, 5, 3), output="softmax", loss="log_loss")
    r = np.random.default_rng(4)
    X, y = r.integers(0, 5, (9, 6)).astype(np.float32), r.integers(0, 3, 9)
    twins = [gpu(net, "bf16") for _ in range(5)]
    settings = {"optimizer": fastmlp.SGD(0.5), "batch_size": 5, "epochs": 1, "shuffle": False}
    inputs = X, X.astype(np.uint8), scipy.sparse.csr_matrix(X)
    for twin, x in zip(twins, inputs):
        twin.train(x, y, **settings)
    twins[3].train([(X[:6], y[:6]), (X[6:], y[6:])], window=5, **settings)
    with monkeypatch.context() as patched:
        patched.setattr(trainer.Trainer, "chunks_at_once", lambda self, *a: 1)
        twins[4].train(X, y, **settings)
    assert same_bits(*twins) and not same_bits(net, *twins)
    assert np.array_equal(twins[0].forward(inputs[2]), twins[1].forward(X))


def test_poisoned_room(force):
    """What an earlier chunk has left is never read: all but the padding may be NaN when an epoch begins."""
    force(layout.shapes(np.float32, "bf16")[0], 9, STAGES)
    net = network((6, 11, 3), activation="tanh")
    X, T = data(net, 12)
    found = []
    for poison in (False, True):
        one = trainer.Trainer(net.sizes, net.activation, net.output, net.loss, 0.0, net.dtype, 0.0, precision="bf16")
        one.set_parameters(net.weights, net.biases)
        epochs = one.epochs(X, T, None, {"rule": "descent"}, 7)
        if poison:
            plan, room = epochs.launch.plan, epochs.launch.room.copy_to_host()
            first = plan.layers[0]
            read = [(first["a_in_read"], first["in_words"], first["n_in"])]
            for layer in plan.layers:
                read.append((layer["d_out_read"], layer["out_words"], layer["n_out"]))
                if layer["hidden"]:
                    read.append((layer["a_out_read"], layer["out_words"], layer["n_out"]))
                for place in (layer["a_out"], layer["d_out"]):
                    rows = room[place : place + plan.rows * layer["out_stride"]].reshape(plan.rows, -1)
                    rows[:, : layer["n_out"]] = np.nan
            for place, words, columns in read:
                copies = 2 if place == first["a_in_read"] else 1
                rows = room[place : place + copies * plan.rows * words].view(np.uint16).reshape(copies * plan.rows, -1)
                rows[:, :columns] = 0x7FFF
            epochs.launch.room.copy_to_device(room)
        epochs.begin(learning_rate=0.5)
        epochs.run(epochs.chunks)
        found.append([epochs.objective(), *one.parameters()[0]])
    assert found[0][0] == found[1][0] and all(map(np.array_equal, found[0][1:], found[1][1:]))


def test_lbfgs_and_an_estimator():
    """L-BFGS takes the objective and gradients of the precision; an estimator passes it on."""
    net = network((4, 5, 2))
    X, T = data(net, 9)
    twin = gpu(net, "tf32")
    before = twin.objective(X, T)
    twin.train(X, T, optimizer=fastmlp.LBFGS(), epochs=1)
    assert twin.objective(X, T) < before
    model = fastmlp.MLPRegressor(hidden_layer_sizes=(5,), max_iter=1, random_state=0, device="cuda", precision="bf16")
    with pytest.warns(UserWarning):
        h = model.fit(X, T).predict(X)
    assert h.shape == T.shape and np.isfinite(h).all()


def test_blocks_at_once():
    """The cost rule knows that compute capability 8.0 has less shared memory: a block fewer of most tiles."""
    tiles = [layout.WarpShape._make(("bf16", *tile)) for tile in layout.DEVICE_WARP_TILES]
    large, small = layout.Machine(), layout.Machine(multiprocessor_bytes=164 << 10)
    counts = [[machine.blocks_at_once(np.float32, shape) for shape in tiles] for machine in (large, small)]
    assert counts == [[4, 4, 3, 2, 1], [4, 3, 2, 1, 1]]
    seconds = [m.product_seconds(tiles[3], 4096, 1024, np.float32, 1024) for m in (large, small)]
    assert seconds[0] < seconds[1]


def test_plans():
    """No plan of these precisions stays in one block; shared memory has room for every product and the sums."""
    for precision in PRECISIONS:
        chosen = layout.plan((5, 7, 3), "tanh", "identity", np.float32, 9, 1, 2, False, layout.Machine(), precision)
        assert not chosen.resident and chosen.shape.precision == precision
        for shape in layout.shapes(np.float32, precision):
            assert shape.threads % 32 == 0 and shape.depth(None) % (8 * shape.per_word * shape.slices) == 0
