"""Networks and data that the tests share, and how a result is compared with the lecture's."""

import contextlib
import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import reference

import fastmlp

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}  # contract 2: each array, Frobenius norm
LOW_TOLERANCE = 1e-2  # of products in bfloat16
DTYPES = tuple(TOLERANCE)
ACTIVATIONS = tuple(reference.FUNCTIONS)
OUTPUTS = (*((name, "squared_error") for name in ACTIVATIONS), ("logistic", "log_loss"), ("softmax", "log_loss"))


def network(sizes, seed=0, **settings):
    """A network whose random weights keep z near 1 at any width, so that no unit saturates."""
    r = np.random.default_rng(seed)
    net = fastmlp.Network(sizes, random_state=seed, device="cpu", **settings)
    gain = 2**0.5 if net.activation == "relu" else 1.0
    net.weights = [gain * r.standard_normal(W.shape) / len(W) ** 0.5 for W in net.weights]
    net.biases = [0.5 * r.standard_normal(b.shape) for b in net.biases]
    return net


def data(net, m, seed=1):
    """X and T that float32 holds exactly; T suits the loss of the network."""
    r = np.random.default_rng(seed)
    X, shape = r.standard_normal((m, net.sizes[0])).astype(np.float32), (m, net.sizes[-1])
    if net.output == "softmax":
        return X, (r.multinomial(256, [1 / shape[1]] * shape[1], m) / 256).astype(np.float32)
    return X, (r.random(shape) if net.loss == "log_loss" else r.standard_normal(shape)).astype(np.float32)


def lecture(net):
    """The same network, in float64, for the reference."""
    weights, biases = ([np.array(p, np.float64) for p in parameters] for parameters in (net.weights, net.biases))
    return reference.Net(weights, biases, net.activation, net.output, net.loss, net.l2)


def relative_error(found, expected):
    """Of one array, in the Frobenius norm; 0 where both are 0."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    difference, size = np.linalg.norm(found - expected), np.linalg.norm(expected)
    return float(difference / size) if size else float(difference)


def assert_close(found, expected, tolerance):
    """Every array of one sequence against the array of the other."""
    errors = [relative_error(f, e) for f, e in zip(found, expected, strict=True)]
    assert max(errors) <= tolerance, errors


def assert_parameters(net, expected, tolerance):
    """The weights and biases of the network against those of the reference's."""
    assert_close(net.weights, expected.weights, tolerance)
    assert_close(net.biases, expected.biases, tolerance)


def assert_lecture(net, X, T, sample_weight=None):
    """Contract 2 for everything a network computes: forward, layers, deltas, objective, gradients."""
    twin, tolerance, dtype = lecture(net), TOLERANCE[np.dtype(net.dtype).name], np.dtype(net.dtype)
    layers, (dW, db) = net.layers(X), net.gradients(X, T, sample_weight=sample_weight)
    flat = [array for pair in layers for array in pair]
    h, deltas, J = net.forward(X), net.deltas(X, T), net.objective(X, T, sample_weight=sample_weight)
    assert all(array.dtype == dtype for array in [h, *flat, *deltas, *dW, *db])
    assert isinstance(J, float)
    passed = reference.layers(twin, X)
    assert_close(flat, [array for pair in passed for array in pair], tolerance)
    assert_close([h], [passed[-1][1]], tolerance)
    assert_close(deltas, reference.deltas(twin, X, T, passed), tolerance)
    assert J == pytest.approx(reference.objective(twin, X, T, sample_weight, passed), rel=tolerance)
    expected_dW, expected_db = reference.gradients(twin, X, T, sample_weight, passed)
    assert_close(dW, expected_dW, tolerance)
    assert_close(db, expected_db, tolerance)


def on_gpu(net):
    """The same network on the GPU, in bfloat16."""
    settings = {name: getattr(net, name) for name in ("activation", "output", "loss", "l2", "dropout")}
    twin = fastmlp.Network(net.sizes, device="cuda", precision="bf16", random_state=0, **settings)
    twin.weights, twin.biases = net.weights, net.biases
    return twin


def changes(net, start):
    """How a training has changed each array."""
    pairs = zip((*net.weights, *net.biases), (*start.weights, *start.biases), strict=True)
    return [np.asarray(now, np.float64) - then for now, then in pairs]


def assert_step(net, X, T, weight=None):
    """A step in bfloat16 along the gradient, and the objective, as the lecture has them; the step is no exact one."""
    twin = on_gpu(net)
    history = twin.train(
        X, T, optimizer=fastmlp.SGD(1.0), batch_size=len(X), epochs=1, shuffle=False, sample_weight=weight
    )
    dW, db = reference.gradients(lecture(net), X, T, weight)
    found, expected = changes(twin, net), [-g for g in (*dW, *db)]
    assert_close(found, expected, LOW_TOLERANCE)
    assert np.linalg.norm(found[0] - expected[0]) > 1e-5 * np.linalg.norm(expected[0])
    J = reference.objective(lecture(net), X, T, weight)
    assert history.objective[0] == pytest.approx(J, rel=LOW_TOLERANCE)


def assert_other_losses(low, full):
    """A step of two Trainers, the first in bfloat16, for losses of the estimators, with offsets, and of users."""
    r = np.random.default_rng(8)
    X, T, offsets = (r.random(s).astype(np.float32) for s in ((9, 4), (9, 3), 9))
    f = fastmlp.Activation(lambda z: z * z * 0.25, lambda z: 0.5 * z)
    loss = fastmlp.Loss(lambda a, y: (a - y) ** 4, lambda a, y: 4 * (a - y) ** 3)
    for output, of, hidden in (
        ("identity", "huber", "softplus"), ("identity", "absolute_error", "softplus"), ("exp", "poisson", "softplus"),
        ("identity", loss, f),
    ):  # fmt: skip
        answers, start = [], ([0.3 * r.random(s) for s in ((4, 5), (5, 3))], [0.3 * r.random(s) for s in (5, 3)])
        for kind, precision in ((low, "bf16"), (full, "float32")):
            one = kind((4, 5, 3), hidden, output, of, 0.1, np.float32, 0.0, precision=precision)
            one.set_parameters(*start)
            epochs = one.epochs(X, T, None, {"rule": "descent"}, 9, None, offsets.astype(np.float64))
            epochs.begin(learning_rate=1.0)
            epochs.run(epochs.chunks)
            found = one.parameters()
            moved = [now - then for after, before in zip(found, start) for now, then in zip(after, before, strict=True)]
            answers.append((epochs.objective(), moved))
        assert answers[0][0] == pytest.approx(answers[1][0], rel=LOW_TOLERANCE)
        assert_close(answers[0][1], answers[1][1], LOW_TOLERANCE)


def same_bits(*networks):
    """Whether networks have the same weights and biases, bit for bit."""
    return len({digest(net) for net in networks}) == 1


def digest(net):
    """A SHA-256 of all the parameters."""
    parameters = (*net.weights, *net.biases)
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parameters)).hexdigest()


@contextlib.contextmanager
def refused(*fragments):
    """A ValueError whose message has every fragment: the argument, the value found, what is allowed."""
    with pytest.raises(ValueError) as caught:
        yield
    message = str(caught.value).lower()
    missing = [fragment for fragment in fragments if fragment.lower() not in message]
    assert not missing, f"{missing} not in {message!r}"


def run_python(*arguments, timeout=300, **environment):
    """The standard output of a fresh Python that finds this package; fails with its errors if it exits with any.

    So it does when it hangs.
    """
    path = [str(pathlib.Path(fastmlp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **environment}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
