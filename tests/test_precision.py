"""Products in bfloat16 on the CPU: against the lecture, the lecture with rounded factors, and all around them."""

import copy
import pickle

import numpy as np
import pytest
import reference
from cases import ACTIVATIONS, OUTPUTS, data, digest, lecture, network, refused, relative_error, same_bits

import fastmlp
from fastmlp import SGD, Adam, GradientDescent, MLPClassifier, Network, devices, train_many
from fastmlp.cpu.layout import bfloat16_bits, paired
from fastmlp.cpu.trainer import Trainer
from fastmlp.cpu.vector import HAS_BF16, TILE_ROWS, panel_of

# of every array of what a network computes, in the Frobenius norm
AGAINST_LECTURE = 1e-2
# Where only the factors are rounded, as bfloat16 is: what is left is the sums' rounding to float32, and a factor now
# and then that is rounded to the other side because of it.
AGAINST_ROUNDED = 1e-3

bf16 = pytest.mark.skipif(not HAS_BF16, reason="this processor has no dot products of bfloat16")

P = panel_of(np.float32)
SIZES = [[P, P, P], [P + 1, 15, P - 1, 12], [4 * P + 1, 7, 2 * P + 1], [8 * P + 3, 9]]
ROWS = [1, 2, TILE_ROWS + 1, 33]


def rounded(x):
    """The nearest bfloat16 numbers to float32 numbers, ties to even, by their definition: 8 significant bits."""
    x = np.asarray(x, np.float32).astype(np.float64)
    digits, exponent = np.frexp(x)
    return np.ldexp(np.rint(digits * 256), exponent - 8)


def quantities(net, X, T, round_factor=rounded, sample_weight=None):
    """(z, a) of every layer, the deltas and U / m + l2 W and V / m in float64, the factors of products rounded."""
    twin = lecture(net)
    weights, layers, deltas = np.ones(len(X)) if sample_weight is None else sample_weight, [], []
    a = np.float64(X)
    below = [a]
    for l, (W, b) in enumerate(zip(twin.weights, twin.biases), start=1):
        z = round_factor(a) @ round_factor(W) + b
        name = twin.activation if l < len(twin.weights) else twin.output
        if name == "softmax":
            a = np.array([reference.softmax(row) for row in z])
        else:
            a = np.vectorize(reference.FUNCTIONS[name][0])(z)
        layers.append((z, a))
        below.append(a)
    z, a = layers[-1]
    delta = a - T
    if twin.loss == "squared_error":
        delta = delta * np.vectorize(reference.FUNCTIONS[twin.output][1])(z)
    delta = delta * weights[:, None]
    dW, db = [], []
    for l in reversed(range(len(twin.weights))):
        deltas.insert(0, delta)
        U = round_factor(below[l]).T @ round_factor(delta)
        dW.insert(0, U / weights.sum() + twin.l2 * twin.weights[l])
        db.insert(0, delta.sum(axis=0) / weights.sum())
        if l > 0:
            slope = np.vectorize(reference.FUNCTIONS[twin.activation][1])(layers[l - 1][0])
            delta = round_factor(delta) @ round_factor(twin.weights[l]).T * slope
    return layers, deltas, dW, db


def errors(net, X, T, expected, sample_weight=None):
    """The relative error of every array, by name."""
    layers, deltas, dW, db = expected
    found_dW, found_db = net.gradients(X, T, sample_weight=sample_weight)
    pairs = {"dW": (found_dW, dW), "db": (found_db, db)}
    if sample_weight is None:
        found = net.layers(X)
        pairs |= {
            "z": ([z for z, _ in found], [z for z, _ in layers]),
            "a": ([a for _, a in found], [a for _, a in layers]),
        }
        pairs |= {"delta": (net.deltas(X, T), deltas), "h": ([net.forward(X)], [layers[-1][1]])}
    return {
        f"{name} {l}": relative_error(x, y)
        for name, arrays in pairs.items()
        for l, (x, y) in enumerate(zip(*arrays, strict=True))
    }


# ---- the numbers ---------------------------------------------------------------------------------------------------


def test_rounding():
    """To the nearest, ties to even, on both sides of every kind of number; NaN stays NaN; pairs are (low, high)."""
    r = np.random.default_rng(0)
    x = r.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate(
        [x[np.isfinite(x) & (abs(x) > 1e-37) & (abs(x) < 1e38)], np.float32([0, -0.0, 1.00390625, 1.01171875])]
    )
    found = (bfloat16_bits(x).astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(found, rounded(x))
    assert np.array_equal(found[-2:], [1.0, 1.015625])
    special = bfloat16_bits(np.float32([np.nan, np.inf, -np.inf])).astype(np.uint32) << 16
    assert np.isnan(special.view(np.float32)[0]) and np.array_equal(special.view(np.float32)[1:], [np.inf, -np.inf])
    words = paired(np.float32([[1, 2], [3, 4], [5, 6]]))
    assert np.array_equal(words & 0xFFFF, [[0x3F80, 0x4000], [0x40A0, 0x40C0]])
    assert np.array_equal(words >> 16, [[0x4040, 0x4080], [0, 0]])


@bf16
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "softplus"])
def test_against_the_lecture(sizes, activation):
    """Every array of what a network computes within 1e-2 of the lecture in float64, on ragged shapes.

    Not ReLU's: units whose z is next to zero fall on its other side. Not arrays of a few numbers, all of which may be
    next to zero as sums of others.
    """
    net = network(sizes, activation=activation, output="identity", l2=0.01, precision="bf16")
    for m in ROWS:
        X, T = data(net, m)
        found = errors(net, X, T, quantities(net, X, T, lambda factor: factor))
        assert max(found.values()) < AGAINST_LECTURE, found
        twin = lecture(net)
        assert net.objective(X, T) == pytest.approx(reference.objective(twin, X, T), rel=AGAINST_LECTURE)


@bf16
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
def test_only_factors_are_rounded(activation, output, loss):
    """Factors are rounded to the nearest bfloat16, each once; all else is float32's."""
    for sizes, m in (([P + 5, 17, P, 5], 33), ([3, 7, 2], 2 * TILE_ROWS + 5), ([8 * P + 9, 6, 4], 300), ([2, 2, 2], 1)):
        net = network(sizes, activation=activation, output=output, loss=loss, l2=0.01, precision="bf16")
        X, T = data(net, m)
        weights = np.random.default_rng(0).random(m)
        for weight in (None, weights / weights.max()):
            found = errors(net, X, T, quantities(net, X, T, rounded, weight), weight)
            assert max(found.values()) < AGAINST_ROUNDED, found


@bf16
@pytest.mark.parametrize("name", ["descent", "momentum", "nesterov", "adam", "clipped", "full batch"])
def test_trained_weights_go_on_in_float32(name):
    """After updates the rounded copies are those of the weights: a network that is given them computes the same."""
    optimizer = {
        "descent": SGD(0.1),
        "momentum": SGD(0.1, momentum=0.9, weight_decay=0.1),
        "nesterov": SGD(0.1, momentum=0.9, nesterov=True),
        "adam": Adam(0.01),
        "clipped": Adam(0.01, max_gradient_norm=0.1),
        "full batch": GradientDescent(0.1),
    }[name]
    settings = {"activation": "tanh", "l2": 0.01, "precision": "bf16"}
    net, single = (
        network([11, P + 3, 9, 3], **settings),
        network([11, P + 3, 9, 3], **settings | {"precision": "float32"}),
    )
    X, T = data(net, 301)
    before = net.weights
    for each in (net, single):
        each.train(X, T, optimizer=optimizer, epochs=3, **({} if name == "full batch" else {"batch_size": 50}))
    for start, found, expected in zip(before, net.weights, single.weights, strict=True):
        assert np.array_equal(found, np.float32(found)) and not np.array_equal(found, rounded(found))
        moved = np.linalg.norm(expected - start)
        assert np.linalg.norm(found - expected) < 0.1 * moved
    twin = network([11, P + 3, 9, 3], **settings)
    twin.weights, twin.biases = net.weights, net.biases
    same = zip(net.gradients(X, T), twin.gradients(X, T), strict=True)
    assert all(np.array_equal(x, y) for pair in same for x, y in zip(*pair, strict=True))
    assert np.array_equal(net.forward(X), twin.forward(X))


@bf16
def test_what_fills_up_pairs_counts_nothing():
    """A user's f that is no number at zero, odd widths and odd numbers of examples: padding is no factor."""
    f = fastmlp.Activation(lambda z: np.sin(z) / z, lambda z: (z * np.cos(z) - np.sin(z)) / (z * z))
    net = network([3, 5, 7, 1], activation=f, output="identity", precision="bf16")
    single = network([3, 5, 7, 1], activation=f, output="identity")
    for m in (1, 3, 2 * TILE_ROWS + 1):
        X, T = data(net, m)
        for found, expected in zip(net.gradients(X, T), single.gradients(X, T), strict=True):
            for x, y in zip(found, expected, strict=True):
                assert np.isfinite(x).all() and relative_error(x, y) < 0.1


# ---- contracts -----------------------------------------------------------------------------------------------------


@bf16
@pytest.mark.parametrize(
    "sizes", [[70, 33, 5], [1, 1, 2], [600, 2 * P, P + 1, P // 2, 3], [31, 7], [7, 4 * P, 7 * P + 3], [9, 9 * P - 1, 2]]
)
@pytest.mark.parametrize("output", ["logistic", "softmax"])
def test_a_row_alone_has_the_bits_of_a_row_among_many(sizes, output):
    loss = "log_loss" if output == "softmax" else "squared_error"
    net = network(sizes, activation="softplus", output=output, loss=loss, precision="bf16")
    X, T = data(net, 300)
    for _ in range(2):  # the operands are those of an update, too
        h = net.forward(X)
        pieces = (0, 1), (7, 1), (17, 30), (299, 1)
        assert all(np.array_equal(net.forward(X[r : r + n]), h[r : r + n]) for r, n in pieces)
        net.train(X, T, optimizer=SGD(0.1), epochs=1)


@bf16
def test_padding_of_a_row_alone_counts_nothing():
    """A user's f that is no number at zero, where an odd width leaves one."""
    f = fastmlp.Activation(lambda z: z * z * (1.0 / z) + 1.0, lambda z: 1.0 + 0.0 * z)
    net = network([5, 7, 3], activation=f, output="identity", precision="bf16")
    X, _ = data(net, 9)
    h = net.forward(X)
    assert np.isfinite(h).all() and np.array_equal(net.forward(X[4:5]), h[4:5])


@bf16
@pytest.mark.parametrize("batch_size", [7, 64, 301])
def test_same_bits(batch_size, monkeypatch):
    """Whatever the number of threads, in one call or two, alone or together with others, with dropout."""

    def make():
        return network([20, 65, 33, 3], activation="relu", dropout=0.3, precision="bf16")

    X, T = data(make(), 301)
    optimizer, size = Adam(0.01, max_gradient_norm=1.0), {"batch_size": batch_size}
    nets = []
    for count in (1, 2, 3):
        monkeypatch.setattr(Trainer, "_threads", lambda trainer, operations, passes, most, n=count: min(n, most))
        net = make()
        net.train(X, T, optimizer=optimizer, epochs=3, **size)
        nets.append(net)
    twice = make()
    twice.train(X, T, optimizer=optimizer, epochs=1, **size)
    again = pickle.loads(pickle.dumps(twice))
    for each in (twice, again):
        each.train(X, T, optimizer=optimizer, epochs=2, **size)
    together = [make(), make()]
    train_many(together, X, T, optimizer, epochs=3, **size)
    assert same_bits(*nets, twice, again, *together)


@bf16
def test_best_weights_stand_for_products_too():
    """After patience, and after a divergence, the rounded copies are those of the weights that stand."""
    net = network([6, 9, 3], activation="tanh", precision="bf16")
    X, T = data(net, 60)
    history = net.train(X, T, optimizer=SGD(3.0), batch_size=4, epochs=30, validation=(X[:7], T[:7]), patience=2)
    assert history.stopped == "patience"
    twin = network([6, 9, 3], activation="tanh", precision="bf16")
    twin.weights, twin.biases = net.weights, net.biases
    assert np.array_equal(net.forward(X), twin.forward(X))
    for each in (net, twin):
        each.train(X, T, optimizer=SGD(0.1), batch_size=60, epochs=1, shuffle=False)
    assert same_bits(net, twin)
    wild = network([6, 9, 3], activation="relu", output="identity", precision="bf16")
    with pytest.raises(fastmlp.DivergenceError):
        wild.train(X, T, optimizer=SGD(1e4), batch_size=4, epochs=30)
    assert all(np.isfinite(W).all() for W in wild.weights) and np.isfinite(wild.forward(X)).all()
    copied = pickle.loads(pickle.dumps(wild))
    for each in (wild, copied):
        each.train(X, T, optimizer=SGD(0.01), batch_size=4, epochs=2)
    assert same_bits(wild, copied)


@bf16
def test_saved_and_copied(tmp_path):
    """Files, copies and checkpoints go on in the same precision, to the same bits."""
    net = network([6, 9, 3], precision="bf16")
    X, T = data(net, 60)
    net.train(X, T, optimizer=Adam(), batch_size=8, epochs=2)
    fastmlp.save(net, tmp_path / "net")
    others = [fastmlp.load(tmp_path / "net"), copy.deepcopy(net)]
    for each in (net, *others):
        each.train(X, T, optimizer=Adam(), batch_size=8, epochs=2)
        assert each.precision == "bf16" and "precision='bf16'" in repr(each)
    assert same_bits(net, *others)
    whole, parts = network([6, 9, 3], precision="bf16"), network([6, 9, 3], precision="bf16")
    whole.train(X, T, optimizer=Adam(), batch_size=8, epochs=4)
    parts.train(X, T, optimizer=Adam(), batch_size=8, epochs=2, checkpoint=tmp_path / "checkpoint")
    resumed = network([6, 9, 3], precision="bf16")
    resumed.train(X, T, optimizer=Adam(), batch_size=8, epochs=4, checkpoint=tmp_path / "checkpoint")
    assert digest(whole) == digest(resumed)
    with refused("checkpoint"):
        network([6, 9, 3]).train(X, T, optimizer=Adam(), batch_size=8, epochs=4, checkpoint=tmp_path / "checkpoint")


# ---- what is refused -----------------------------------------------------------------------------------------------


def test_refused():
    with refused("precision", "'bf16'", "dtype", "'float64'", "float32"):
        Network([2, 1], precision="bf16", dtype="float64")
    with refused("precision", "'tf32'", "'float32' is allowed"):
        Network([2, 1], precision="tf32")
    with refused("precision", "'tf32'"):
        MLPClassifier(precision="tf32").fit([[0.0], [1.0]], [0, 1])


def test_without_the_instructions(monkeypatch, tmp_path):
    """Processors that lack them get an error; networks from elsewhere go on in float32, and say so."""
    net = network([3, 2], precision="bf16") if HAS_BF16 else None
    if net is not None:
        fastmlp.save(net, tmp_path / "net")
        packed = pickle.dumps(net)
    monkeypatch.setattr("fastmlp.cpu.vector.HAS_BF16", False)
    monkeypatch.setattr(devices, "cuda_problem", lambda: devices.Problem("there is no GPU", False))
    for device in ("cpu", "auto"):
        with refused("precision", "'bf16'", "AVX512-BF16", "'float32' is allowed"):
            Network([2, 1], precision="bf16", device=device)
    with refused("precision", "'bf16'"):
        MLPClassifier(precision="bf16").fit([[0.0], [1.0]], [0, 1])
    if net is not None:
        for load in (lambda: fastmlp.load(tmp_path / "net"), lambda: pickle.loads(packed)):
            with pytest.warns(RuntimeWarning, match="a network in bf16 goes on in float32: .*AVX512-BF16"):
                found = load()
            assert found.precision == "float32" and same_bits(net, found)


def test_auto_takes_the_gpu_where_only_it_has_the_precision(monkeypatch):
    """device="auto" with tf32 begins on a GPU that has it; one that lacks tensor cores is named."""
    monkeypatch.setattr(devices, "cuda_problem", lambda: None)
    has = devices.precision_problem
    monkeypatch.setattr(devices, "precision_problem", lambda p, d: has(p, d) if d == "cpu" else None)
    assert devices.resolve("auto", "tf32") == "cuda" and devices.resolve("auto", "float32") == "cpu"
    monkeypatch.setattr(devices, "precision_problem", lambda p, d: has(p, d) if d == "cpu" else "it is old")
    with refused("precision", "'tf32'", "it is old"):
        devices.resolve("auto", "tf32")


@bf16
def test_estimate():
    """It says which precision it is of, whether it was asked for or a network has it."""
    found = fastmlp.estimate([64, 32, 10], m=1000, batch_size=100, precision="bf16")
    assert found.precision == "bf16" and " in bf16, " in str(found)
    assert fastmlp.estimate(Network([64, 32, 10], precision="bf16"), m=1000).precision == "bf16"


# ---- estimators ----------------------------------------------------------------------------------------------------


@bf16
def test_estimators():
    """They train in bfloat16, with weights in float32 whatever X is, and predict in float32."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    scores = {}
    for precision in ("float32", "bf16"):
        model = MLPClassifier((50,), max_iter=20, precision=precision, random_state=0).fit(X / 16, y)
        scores[precision] = model.score(X / 16, y)
        assert model.coefs_[0].dtype == (np.float32 if precision == "bf16" else np.float64)
        assert np.array_equal(model.predict_proba(X[:500] / 16)[:3], model.predict_proba(X[:3] / 16))
    assert scores["bf16"] > 0.9 and abs(scores["bf16"] - scores["float32"]) < 0.02
    with refused("precision", "'bf16'", "lbfgs", "'float32'"):
        MLPClassifier(solver="lbfgs", precision="bf16").fit(X, y)
    model.set_params(precision="tf32")  # of a GPU: what looks at it on the CPU sees it as it predicts, in float32
    assert fastmlp.saliency(model, X[:3] / 16).shape[0] == 3
    regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(20,), max_iter=3, precision="bf16", random_state=0)
    assert np.isfinite(regressor.fit(X / 16, y).partial_fit(X / 16, y).predict(X[:5] / 16)).all()


@bf16
def test_search_finds_what_estimators_find():
    """MLPSearchCV and scikit-learn's search over estimators in bfloat16: the same scores, to the bit."""
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV

    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((9,), max_iter=5, learning_rate_init=0.02, random_state=0)
    grid = {"precision": ["float32", "bf16"], "alpha": [1e-4, 0.1]}
    ours, theirs = (search(model, grid, cv=3).fit(X, y).cv_results_ for search in (fastmlp.MLPSearchCV, GridSearchCV))
    assert np.array_equal(ours["mean_test_score"], theirs["mean_test_score"])
    losses = [model.set_params(precision=precision).fit(X, y).loss_ for precision in grid["precision"]]
    assert losses[0] != losses[1]


# ---- where the examples come from, and who asks ---------------------------------------------------------------------


@bf16
@pytest.mark.parametrize("window", [5, 300, 5000])
@pytest.mark.parametrize("optimizer", [GradientDescent(0.5), Adam()], ids=["descent", "Adam"])
def test_chunks_have_the_bits_of_a_training_in_memory(window, optimizer):
    """More data than memory, in odd chunks and windows: pairs of examples are the same, and so are all bits."""
    nets = [Network([7, 33, 5], activation="tanh", dropout=0.2, precision="bf16", random_state=0) for _ in range(2)]
    X, T = data(nets[0], 1283)
    more = {} if isinstance(optimizer, GradientDescent) else {"batch_size": 301, "shuffle": False}
    nets[0].train(X, T, optimizer=optimizer, epochs=2, **more)
    cuts = [0, 1, 300, 301, 555, 1100, 1283]
    parts = [(X[a:b], T[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    nets[1].train(parts, optimizer=optimizer, epochs=2, window=window, **more)
    assert same_bits(*nets)


@bf16
def test_command_line(tmp_path, capsys):
    """`train --precision bf16` trains in it, and predicts as the same estimator does."""
    from sklearn.datasets import load_iris

    from fastmlp.cli import main

    X, y = load_iris(return_X_y=True)
    table, model = tmp_path / "flowers.csv", tmp_path / "flowers.fastmlp"
    np.savetxt(table, np.column_stack([X, y]), delimiter=",", header="a,b,c,d,kind", comments="", fmt="%.1f")
    found = {}
    for precision in ("float32", "bf16"):
        options = "--target", "kind", "--epochs", "5", "--test-fraction", "0", "--quiet", "--precision", precision
        assert main(["train", str(table), "--out", str(model), *options]) == 0
        assert fastmlp.load(model).estimator.get_params()["precision"] == precision
        capsys.readouterr()
        assert main(["predict", str(model), str(table), "--proba"]) == 0
        lines = capsys.readouterr().out.splitlines()
        found[precision] = np.array([line.split(",")[-3:] for line in lines[1:]], dtype=float)
        own = fastmlp.load(model).predict_proba(dict(zip("abcd", X.T, strict=True)))
        np.testing.assert_allclose(found[precision], own, rtol=1e-5)
    assert not np.array_equal(found["float32"], found["bf16"])
