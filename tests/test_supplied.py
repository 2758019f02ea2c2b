"""Activations and losses that users supply: as right as the library's own, on both devices, in all that takes them."""

import copy
import math
import pickle
import types
import warnings

import numpy as np
import pytest
import reference
from cases import TOLERANCE, assert_lecture, assert_parameters, data, lecture, network, refused, run_python, same_bits
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import fastmlp
from fastmlp import Activation, Loss, devices


def logistic(z):
    return 1.0 / (1.0 + math.exp(-z))


def swish(z):
    return z * logistic(z)


def swish_slope(z):
    return logistic(z) * (1.0 + z * (1.0 - logistic(z)))


def erf_slope(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2.0))) + z * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


def leaky(slope):
    """A ReLU with a slope for z < 0, which the functions take from around them."""
    return Activation(lambda z: z if z > 0.0 else slope * z, lambda z: 1.0 if z > 0.0 else slope, f"leaky {slope}")


SWISH = Activation(swish, swish_slope, "swish")  # of whole vectors, and no function of a
GELU = Activation(lambda z: 0.5 * z * (1 + math.erf(z / np.sqrt(2.0))), erf_slope)  # number by number
SINC = Activation(lambda z: math.sin(z) / z, lambda z: (z * math.cos(z) - math.sin(z)) / z**2)  # NaN at 0: in padding


def square(t):
    return t**2


def bent_slope(z):
    t = math.tanh(z)
    return (1.0 if z > 0.0 else 0.0) + t * (1.0 - square(t))


BENT = Activation(lambda z: max(z, 0.0) + 0.5 * square(np.tanh(z)) + 0.0 * min(z, abs(z)), bent_slope)  # calls others
ACTIVATIONS = {"swish": SWISH, "gelu": GELU, "leaky": leaky(0.1), "sinc": SINC, "bent": BENT}


def pinball(tau):
    return Loss(lambda a, y: max(tau * (y - a), (tau - 1.0) * (y - a)), lambda a, y: -tau if y > a else 1.0 - tau)


LOG_COSH = Loss(lambda a, y: math.log(math.cosh(a - y)), lambda a, y: math.tanh(a - y), "log cosh")
FOURTH = Loss(lambda a, y: (a - y) ** 4 / 4, lambda a, y: (a - y) ** 3)
LOSSES = {"log cosh": LOG_COSH, "fourth": FOURTH, "pinball": pinball(0.8)}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_the_lectures(name, dtype):
    """Everything a network computes (contract 2), on ragged shapes, as f of the hidden layers and of the output."""
    f = ACTIVATIONS[name]
    if name == "sinc" and dtype == "float32":
        return  # whose f' has few right digits near 0 in float32, however it is compiled
    for sizes, rows in (((3, 1), 1), ((5, 19, 3), 21), ((9, 17, 33, 2), 70), ((2, 40, 1), 300)):
        net = network(sizes, activation=f, output=f, dtype=dtype, l2=0.01)
        assert_lecture(net, *data(net, rows))
    for output, loss in (("softmax", "log_loss"), ("identity", "squared_error"), ("logistic", "log_loss")):
        net = network([6, 11, 4], activation=f, output=output, loss=loss, dtype=dtype)
        assert_lecture(net, *data(net, 13))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_lectures(name, dtype):
    for output in ("identity", "tanh", SWISH):
        net = network([5, 18, 3], activation="softplus", output=output, loss=LOSSES[name], dtype=dtype, l2=0.01)
        X, T = data(net, 45)
        assert_lecture(net, X, T, sample_weight=np.random.default_rng(2).random(45))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_training_takes_the_references_steps(dtype):
    """Minibatches that share no divisor with the rows, dropout off; then with dropout, any number of threads."""
    net = network([7, 21, 9, 2], activation=SWISH, output="identity", loss=LOG_COSH, dtype=dtype)
    X, T = data(net, 53)
    twin = reference.train(lecture(net), X, T, reference.SGD(0.1, momentum=0.5), 3, batch_size=20).net
    net.train(X, T, optimizer=fastmlp.SGD(0.1, momentum=0.5), batch_size=20, epochs=3, shuffle=False)
    assert_parameters(net, twin, 20 * TOLERANCE[dtype])


def test_padding_has_no_part_in_it():
    """SINC is NaN at 0, which padding units and examples have as z: nothing of it shows, not even in the weights."""
    for dtype in TOLERANCE:
        net = fastmlp.Network([3, 5, 2], activation=SINC, output=SINC, init="glorot", dtype=dtype, random_state=0)
        X, T = np.random.default_rng(0).standard_normal((11, 3)), np.full((11, 2), 0.9)
        history = net.train(X, T, optimizer=fastmlp.Adam(0.01), batch_size=3, epochs=20, validation=(X, T))
        assert history.objective[-1] < history.objective[0] and np.isfinite(history.validation).all()
        assert np.isfinite(net.forward(X)).all() and np.isfinite(net.transform(X)).all()
        x = X[:1].astype(dtype)
        np.testing.assert_allclose(net.forward(x), net.forward(X)[:1], rtol=1e-6)


def test_dropout_and_threads():
    """The same bits on any number of threads, and dropout scales what f puts out, not its slope."""
    nets = []
    for threads in (1, 2):
        net = fastmlp.Network([20, 64, 64, 3], activation=SWISH, dropout=0.3, random_state=0)
        X, T = data(net, 500)
        before = fastmlp.cpu.trainer.numba.get_num_threads()
        try:
            fastmlp.cpu.trainer.numba.set_num_threads(threads)
            net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=100, epochs=3)
        finally:
            fastmlp.cpu.trainer.numba.set_num_threads(before)
        nets.append(net)
    assert same_bits(*nets)
    twin = Activation(lambda z: 1.0 / (1.0 + math.exp(-z)), lambda z: math.exp(-z) / (1.0 + math.exp(-z)) ** 2)
    ours, own = (
        fastmlp.Network([4, 30, 2], activation=f, dropout=0.4, dtype="float64", init="glorot", random_state=1)
        for f in (twin, "logistic")
    )
    X, T = data(own, 60)
    for net in (ours, own):
        net.train(X, T, optimizer=fastmlp.SGD(0.5), batch_size=7, epochs=10)
    for W, other in zip(ours.weights, own.weights):
        np.testing.assert_allclose(W, other, rtol=1e-10)


def test_check_gradients_takes_them():
    for f in (SWISH, GELU, leaky(0.2)):
        for loss in (LOG_COSH, FOURTH, "squared_error"):
            net = network([3, 4, 2], activation=f, output=f, loss=loss, dtype="float64")
            errors = fastmlp.check_gradients(net, *data(net, 9))
            assert len(errors) == 4 and max(errors.values()) < 1e-6, (f, loss, errors)


def test_check_gradients_of_a_piece():
    """What was checked when it was made: no more than rounding for what is right."""
    for piece in (*ACTIVATIONS.values(), *LOSSES.values()):
        errors = fastmlp.check_gradients(piece)
        assert list(errors) == ["df"] and errors["df"] < 1e-9
    nearly = Activation(lambda z: z**2, lambda z: 2 * z + 5e-7)  # within what is allowed
    assert fastmlp.check_gradients(nearly)["df"] == pytest.approx(5e-7, rel=0.01)


def test_parameters_with_defaults_are_numbers_from_around():
    f = Activation(lambda z, slope=0.25: max(z, slope * z), lambda z, slope=0.25: 1.0 if z > 0 else slope)
    net = network((3, 5, 1), activation=f)
    assert_lecture(net, *data(net, 6))


def slope_from_around(z):
    return SLOPE * helper(z)


def helper(z):
    return z


def df_from_around(z):
    return SLOPE * (helper(1.0) - helper(0.0))


SLOPE = 1.0


def test_pieces_are_as_they_were_when_they_were_made(monkeypatch):
    """What functions take from around them may change: pieces made before do not, pieces made later are others."""

    def output(piece):
        net = fastmlp.Network([1, 1], output=piece, dtype="float64", random_state=0)
        net.weights, net.biases = [[[1.0]]], [[0.0]]
        return float(net.forward([[2.0]])[0, 0])

    before = Activation(slope_from_around, df_from_around)
    assert output(before) == 2.0
    monkeypatch.setitem(globals(), "SLOPE", 3.0)
    after = Activation(slope_from_around, df_from_around)
    assert (output(before), output(after)) == (2.0, 6.0) and before != after
    monkeypatch.setitem(globals(), "helper", lambda z: 5.0 * z)
    assert output(Activation(slope_from_around, df_from_around)) == 30.0
    assert output(types.SimpleNamespace(f=slope_from_around, df=df_from_around)) == 30.0
    assert leaky(0.1) == leaky(0.1) != leaky(0.2) and hash(leaky(0.1)) == hash(leaky(0.1))


@pytest.mark.parametrize(
    "f, df",
    [
        (lambda z: np.clip(z, -1.0, 1.0), lambda z: float(abs(z) < 1)),
        (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1.0, 0.01)),
        (lambda z: np.square(z) * np.sign(z), lambda z: 2 * abs(z)),
        (lambda z: max(0, z) ** 2, lambda z: 2 * np.maximum(z, 0)),
        (lambda z: np.arctan(+z), lambda z: np.reciprocal(1 + z * z)),
        (lambda z: np.log1p(np.exp(-abs(z))) + max(z, 0.0), lambda z: 1 / (1 + np.exp(-z))),
        (lambda z: z / (1 + abs(z)), lambda z: (1 + abs(z)) ** -2),
    ],
    ids=["clip", "where", "square", "max of an int", "arctan", "softplus", "softsign"],
)
def test_functions_as_people_write_them(f, df):
    net = network([3, 6, 2], activation=Activation(f, df), dtype="float64")
    assert_lecture(net, *data(net, 9))


def test_far_from_zero():
    """Beyond what the check looks at, in float32: no NaN where the formulas have none."""
    net = fastmlp.Network([1, 1], output=SWISH, random_state=0)
    net.weights, net.biases = [[[1.0]]], [[0.0]]
    X = np.array([[-1000.0], [-100.0], [100.0], [1000.0]])
    assert net.forward(X).ravel().tolist() == [0.0, 0.0, 100.0, 1000.0]
    assert np.isfinite(net.deltas(X, np.zeros((4, 1)))[0]).all()


def test_rows_without_weight_have_no_part_in_it():
    """Not even an infinite loss."""
    loss = Loss(lambda a, y: -math.log(a) if a > 0.0 else math.inf, lambda a, y: -1.0 / a if a > 0.0 else math.inf)
    for device in ("cpu",) if devices.cuda_problem() is not None else ("cpu", "cuda"):
        net = fastmlp.Network([1, 1], output="identity", loss=loss, dtype="float64", device=device, random_state=0)
        net.weights, net.biases = [[[1.0]]], [[0.0]]
        J = net.objective([[2.0], [0.0]], [[0.0], [0.0]], sample_weight=[1.0, 0.0])
        assert J == pytest.approx(-math.log(2.0), rel=1e-12), device
        dW, _ = net.gradients([[2.0], [0.0]], [[0.0], [0.0]], sample_weight=[1.0, 0.0])
        assert dW[0][0, 0] == pytest.approx(-1.0, rel=1e-12), device


def recursive(z):
    return z if z < 1 else recursive(z - 1.0)


def test_what_is_wrong_is_refused_when_it_is_made():
    with refused("df of the activation is not the derivative of f", "f rises by"):
        Activation(math.tanh, lambda z: 1.0 - math.tanh(z))
    with refused("df of the loss is not the derivative of f"):
        Loss(lambda a, y: (a - y) ** 2, lambda a, y: a - y)
    with refused("f of the activation is", "plain functions f(z) and df(z) are allowed"):
        Activation(lambda z, k: z, lambda z: 1.0)
    with refused("df of the loss is", "f(a, y) and df(a, y)"):
        Loss(lambda a, y: 0.0, lambda a: 0.0)
    with refused("f of the activation is a finite number nowhere"):
        Activation(lambda z: math.nan, lambda z: 0.0)
    with refused("df(-5.931) of the activation is nan"):
        Activation(lambda z: z, lambda z: math.nan)
    with refused("f of the activation has a kink wherever it was looked at"):
        Activation(lambda z: math.sin(3000.0 * z), lambda z: 3000.0 * math.cos(3000.0 * z))
    with refused("gives no number", "functions of numbers are allowed"):
        Activation(lambda z: None, lambda z: 0.0)
    with refused("df of the activation is not the derivative of f: df(7.2) is 1"):
        Activation(lambda z: min(max(z, 0.0), 6.5), lambda z: 1.0 if z > 0 else 0.0)
    with refused("recursive calls itself"):
        Activation(recursive, lambda z: 1.0)
    with refused("f of the activation is", "poly1d", "plain functions"):
        fastmlp.Network([2, 1], output=types.SimpleNamespace(f=np.poly1d([1, 0]), df=np.poly1d([1])))
    with refused("name is 3"):
        Activation(math.sin, math.cos, 3)
    with refused("Numba cannot compile <lambda>", "'logaddexp'"):
        fastmlp.Network([2, 1], output=Activation(lambda z: np.logaddexp(z, 0.0), logistic))
    root = Activation(lambda z: z**0.5, lambda z: 0.5 * z**-0.5)  # complex for z < 0, where it is not compared
    assert fastmlp.check_gradients(root)["df"] < 1e-9

    class Method:
        def f(self, z):
            return z

        df = f

    with refused("f of the activation is", "a method only as @staticmethod"):
        fastmlp.Network([2, 1], activation=Method())
    with refused("activation is <object", "'logistic'", "objects with functions f and df are allowed"):
        fastmlp.Network([2, 1], activation=object())
    with refused("loss is Activation('swish')"):
        fastmlp.Network([2, 1], loss=SWISH)
    with refused("output is Activation('swish') and loss is 'log_loss'"):
        fastmlp.Network([2, 1], output=SWISH, loss="log_loss")
    with refused("output is 'softmax' and loss is Loss('log cosh')"):
        fastmlp.Network([2, 2], output="softmax", loss=LOG_COSH)
    texts = {"a": 1.0}
    with refused("Numba cannot compile <lambda>"):
        fastmlp.Network([2, 1], output=Activation(lambda z: z * texts.setdefault("a", 1.0), lambda z: 1.0))


def test_any_object_with_f_and_df():
    class Sine:
        @staticmethod
        def f(z):
            return math.sin(z)

        @staticmethod
        def df(z):
            return math.cos(z)

    for piece in (Sine, Sine(), types.SimpleNamespace(f=math.sin, df=math.cos), Activation(np.sin, np.cos)):
        net = network([3, 7, 1], activation=piece, output="identity", dtype="float64")
        X = data(net, 8)[0]
        np.testing.assert_allclose(net.layers(X)[0][1], np.sin(net.layers(X)[0][0]), rtol=1e-14)
    assert repr(fastmlp.Network([3, 1], activation=Sine).activation) == "Activation('Sine')"
    assert "activation=Activation('swish')" in repr(fastmlp.Network([3, 1], activation=SWISH))


def test_networks_are_copied_and_pickled():
    net = network([3, 5, 2], activation=SWISH, output="identity", loss=LOG_COSH)
    X = data(net, 6)[0]
    assert np.array_equal(copy.deepcopy(net).forward(X), net.forward(X))
    module = Activation(swish, swish_slope)  # functions of a module: pickle finds them by name
    net = network([3, 5, 2], activation=module)
    again = pickle.loads(pickle.dumps(net))
    assert again.activation == module and np.array_equal(again.forward(X), net.forward(X))


def test_files_hold_no_functions(tmp_path):
    """save describes them; load takes them again, and tells others from them."""
    path = tmp_path / "net.fastmlp"
    net = network([3, 5, 2], activation=leaky(0.1), output=SWISH, loss=LOG_COSH)
    X, T = data(net, 9)
    net.train(X, T, optimizer=fastmlp.Adam(0.01), epochs=2)
    fastmlp.save(net, path)
    pieces = {"activation": leaky(0.1), "output": SWISH, "loss": LOG_COSH}
    again = fastmlp.load(path, **pieces)
    for each in (net, again):
        each.train(X, T, optimizer=fastmlp.Adam(0.01), epochs=2)
    assert same_bits(net, again)
    with refused("its activation is 'leaky 0.1'", "load(path, activation=...)"):
        fastmlp.load(path, output=SWISH, loss=LOG_COSH)
    with refused("activation is Activation('leaky 0.2')", "other values"):
        fastmlp.load(path, **{**pieces, "activation": leaky(0.2)})
    with refused("loss is 'squared_error'", "an object with functions f and df"):
        fastmlp.load(path, **{**pieces, "loss": "squared_error"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'los'"):
        fastmlp.load(path, los=LOG_COSH)
    fastmlp.save(network([3, 2]), path)
    with refused("output is given and the model has 'logistic'"):
        fastmlp.load(path, output=SWISH)


def test_a_checkpoint_is_of_its_pieces(tmp_path):
    path = tmp_path / "run.ckpt"

    def trained(slope, epochs, **more):
        net = fastmlp.Network([3, 6, 2], activation=leaky(slope), init="he", random_state=0)
        X, T = data(net, 30)
        net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=7, epochs=epochs, **more)
        return net

    trained(0.1, 2, checkpoint=path)
    assert same_bits(trained(0.1, 5, checkpoint=path), trained(0.1, 5))
    with refused("checkpoint of another run", "leaky 0.1"):
        trained(0.2, 7, checkpoint=path)


def test_no_onnx():
    pytest.importorskip("onnx")
    with refused("activation is Activation('swish')", "ONNX"):
        fastmlp.to_onnx(network([3, 5, 2], activation=SWISH))


def test_estimators_take_them(tmp_path):
    r = np.random.default_rng(0)
    X = r.standard_normal((120, 4))
    y = X[:, 0] + 0.3 * X[:, 1] ** 2
    quantile = fastmlp.MLPRegressor(pinball(0.9), (12,), activation=SWISH, max_iter=300, learning_rate_init=0.02,
                                    tol=0, random_state=0)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantile.fit(X, y + 0.5 * r.standard_normal(120))
    assert 0.8 < np.mean(y < quantile.predict(X)) <= 1.0  # nine tenths of the targets are below
    twin, own = (
        fastmlp.MLPClassifier((9,), activation=f, max_iter=20, random_state=0)
        for f in (Activation(math.tanh, lambda z: 1.0 - math.tanh(z) ** 2), "tanh")
    )
    for classifier in (twin, own):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classifier.fit(X, y > 0)
    np.testing.assert_allclose(twin.predict_proba(X), own.predict_proba(X), rtol=1e-8)
    assert np.array_equal(twin.jit_predict_(X), own.predict(X))
    assert np.array_equal(twin.predict(X[:1]), own.predict(X[:1]))
    np.testing.assert_allclose(twin.transform(X), own.transform(X), rtol=1e-10)
    assert clone(twin).activation == twin.activation
    path = tmp_path / "twin.fastmlp"
    fastmlp.save(twin, path)
    assert np.array_equal(fastmlp.load(path, activation=twin.activation).predict_proba(X), twin.predict_proba(X))
    with refused("its activation is"):
        fastmlp.load(path)
    with refused("activation is Loss('log cosh')", "fastmlp.Activation"):
        fastmlp.MLPClassifier(activation=LOG_COSH).fit(X, y > 0)
    with refused("loss is Activation('swish')", "fastmlp.Loss"):
        fastmlp.MLPRegressor(SWISH).fit(X, y)
    with refused("activation", "implementing 'f' and 'df'"):
        fastmlp.MLPClassifier(activation=3).fit(X, y > 0)
    search = GridSearchCV(fastmlp.MLPClassifier((5,), max_iter=5), {"activation": ["tanh", SWISH]}, cv=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert search.fit(X, y > 0).best_params_["activation"] in ("tanh", SWISH)


@pytest.mark.skipif(devices.cuda_problem() is not None, reason="no CUDA Python")
@pytest.mark.usefixtures("quick_simulator")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_gpu_computes_the_same(dtype):
    from test_cuda import gpu

    for sizes, f, output, loss in (
        ((5, 7, 3), SWISH, GELU, LOG_COSH),
        ((5, 7, 4, 2), leaky(0.1), "identity", pinball(0.7)),
        ((3, 6, 3), SINC, "softmax", "log_loss"),
    ):
        net = network(sizes, activation=f, output=output, loss=loss, dtype=dtype)
        X, T = data(net, 11)
        twin = gpu(net)
        assert_lecture(twin, X, T)
        for each in (net, twin):
            each.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=4, epochs=2, validation=(X, T))
        assert_parameters(twin, lecture(net), 20 * TOLERANCE[dtype])


def test_vectors_are_used_where_they_can_be():
    """SWISH's loop is of vectors; GELU's, whose erf has no vector form, of numbers."""
    program = """
import math
import numpy as np
from fastmlp.cpu import supplied
from fastmlp.supplied import Plain

def found(function, arguments=1):
    return supplied.compiled_map(Plain(function), arguments, np.dtype("float32"))._pyfunc.__name__

print(found(lambda z: z / (1.0 + np.exp(-z))), found(lambda z: math.erf(z)), found(lambda a, y: (a - y) ** 2, 2))
"""
    assert run_python("-c", program).split() == ["of_vectors", "of_numbers", "of_vectors"]
