"""Many networks at once: every one ends with the bits of a training by itself."""

import copy
import signal
import threading
import warnings

import numba
import numpy as np
import pytest
from cases import data, network, refused
from sklearn.datasets import make_classification, make_regression

import fastmlp
from fastmlp.many import fit_together

OPTIMIZERS = (
    fastmlp.SGD(0.1),
    fastmlp.SGD(lambda epoch: 0.1 / (1 + epoch), momentum=0.9, nesterov=True),
    fastmlp.Adam(0.01, weight_decay=0.1),
    fastmlp.SGD(0.2, max_gradient_norm=0.3),
    fastmlp.GradientDescent(0.2),
    fastmlp.LBFGS(),
)


def zoo(**settings):
    """Networks of several widths, activations, penalties and dtypes, with the same inputs and outputs."""
    return [
        network([7, 5, 3], 0, activation="tanh", output="identity", **settings),
        network([7, 33, 3], 1, activation="relu", output="logistic", l2=0.01, **settings),
        network([7, 20, 40, 3], 2, activation="logistic", output="tanh", dtype="float64", **settings),
        network([7, 3], 3, output="softplus", **settings),
        network([7, 5, 3], 4, activation="softplus", output="identity", l2=0.1, **settings),
        network([7, 5, 3], 5, activation="tanh", output="identity", **settings),
    ]


def same(found, expected):
    """Whether networks have the same bits, optimizers' states and generators."""
    for one, other in zip(found, expected, strict=True):
        for name in ("weights", "biases"):
            assert all(map(np.array_equal, getattr(one, name), getattr(other, name)))
        assert one._rng.bit_generator.state == other._rng.bit_generator.state
        assert (one._updates, one._epochs, one._optimizer) == (other._updates, other._epochs, other._optimizer)
        for mine, others in zip(one._trainer.moments(), other._trainer.moments(), strict=True):
            assert all(map(np.array_equal, (*mine[0], *mine[1]), (*others[0], *others[1])))


def same_history(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one.objective, one.validation) == (other.objective, other.validation)
        assert (one.n_epochs, one.stopped) == (other.n_epochs, other.stopped)


@pytest.mark.parametrize(("m", "threads"), [(61, 1), (61, 2), (300, 2)])
def test_every_network_ends_with_the_bits_of_a_training_alone(m, threads):
    nets = zoo()
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], m)
    sizes, epochs = [16, 23, 30, 37, None, None], [3, 1, 4, 2, 5, 3]
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, before))
    try:
        histories = fastmlp.train_many(nets, X, T, OPTIMIZERS, batch_size=sizes, epochs=epochs)
    finally:
        numba.set_num_threads(before)
    expected = [
        net.train(X, T, optimizer=optimizer, batch_size=size, epochs=count)
        for net, optimizer, size, count in zip(alone, OPTIMIZERS, sizes, epochs, strict=True)
    ]
    same(nets, alone)
    same_history(histories, expected)


def test_subsets_are_as_if_there_were_no_other_rows():
    nets = zoo(dropout=0.3)
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 90)
    r = np.random.default_rng(3)
    weight = r.random(90)
    half = r.permutation(90)[:45]
    subsets = [half, None, r.integers(0, 90, 70), np.arange(90) % 3 > 0, np.array([4]), half]
    optimizers = [*OPTIMIZERS[:5], OPTIMIZERS[0]]
    shuffle = [True, True, True, True, True, False]
    histories = fastmlp.train_many(
        nets, X, T, optimizers, epochs=3, subsets=subsets, sample_weight=weight, shuffle=shuffle
    )
    expected = []
    for net, optimizer, subset, shuffled in zip(alone, optimizers, subsets, shuffle, strict=True):
        rows = slice(None) if subset is None else subset
        expected.append(
            net.train(X[rows], T[rows], optimizer=optimizer, epochs=3, sample_weight=weight[rows], shuffle=shuffled)
        )
    same(nets, alone)
    same_history(histories, expected)


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.int64])
def test_subsets_are_rows_of_one_array(dtype):
    nets = [network([7, 5, 3], k, output="identity") for k in range(6)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 60)
    masks = np.arange(60) % 6 == np.arange(6)[:, None]
    subsets = masks if dtype is np.bool_ else np.array([np.flatnonzero(mask) for mask in masks], dtype)
    fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), batch_size=4, epochs=2, subsets=subsets)
    for net, mask in zip(alone, masks, strict=True):
        net.train(X[mask], T[mask], optimizer=fastmlp.SGD(0.1), batch_size=4, epochs=2)
    same(nets, alone)


def test_lbfgs_takes_a_subset():
    nets = [network([7, 5, 3], k, activation="tanh", output="identity", dtype="float64") for k in range(2)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 40)
    rows = [np.arange(0, 40, 2), np.arange(5, 40)]
    weight = np.random.default_rng(0).random(40)
    fastmlp.train_many(nets, X, T, fastmlp.LBFGS(), epochs=5, subsets=rows, sample_weight=weight)
    for net, subset in zip(alone, rows, strict=True):
        net.train(X[subset], T[subset], optimizer=fastmlp.LBFGS(), epochs=5, sample_weight=weight[subset])
    same(nets, alone)


def test_validation_patience_and_tol_stop_each_network_by_itself():
    nets = zoo()
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 80)
    optimizers = [fastmlp.SGD(rate) for rate in (0.5, 0.01, 1e-9, 0.5, 0.3, 0.5)]
    tol, patience = [None, None, 1e-6, None, None, None], [1, 2, None, 1, 1, 2]
    train, held = np.arange(50), [np.arange(50 + k, 80) for k in range(6)]
    settings = {"batch_size": 8, "epochs": 30}
    histories = fastmlp.train_many(
        nets, X, T, optimizers, tol=tol, patience=patience, subsets=[train] * 6, validation_subsets=held, **settings
    )
    expected = [
        net.train(
            X[:50], T[:50], optimizer=optimizer, tol=t, patience=p, validation=(X[rows], T[rows]), **settings
        )
        for net, optimizer, t, p, rows in zip(alone, optimizers, tol, patience, held, strict=True)
    ]
    same(nets, alone)
    same_history(histories, expected)
    assert histories[2].stopped == "tol" and {"patience"} <= {history.stopped for history in histories}
    again = fastmlp.train_many(alone[:2], X, T, fastmlp.SGD(0.1), epochs=2, validation=(X[:9], T[:9]))
    assert [len(history.validation) for history in again] == [2, 2]


def test_validation_subsets_of_one_dimensional_targets():
    nets = [network([7, 5, 1], k, output="identity") for k in range(3)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 40)
    held = [np.arange(9), None, np.arange(30, 40)]
    histories = fastmlp.train_many(nets, X, T[:, 0], fastmlp.SGD(0.1), epochs=3, validation_subsets=held)
    for net, history, rows in zip(alone, histories, held, strict=True):
        validation = None if rows is None else (X[rows], T[rows, 0])
        expected = net.train(X, T[:, 0], optimizer=fastmlp.SGD(0.1), epochs=3, validation=validation)
        assert history.validation == expected.validation
    same(nets, alone)


@pytest.mark.parametrize("kind", ["uint8", "float64", "csr", "labels"])
def test_data_of_every_kind(kind):
    from scipy.sparse import csr_matrix

    nets = [network([9, 6, 4], k, output="softmax", loss="log_loss") for k in range(3)]
    alone, r = copy.deepcopy(nets), np.random.default_rng(1)
    X, T = r.integers(0, 9, (50, 9)) * (r.random((50, 9)) < 0.5), np.eye(4)[r.integers(0, 4, 50)]
    X = csr_matrix(X.astype(np.float32)) if kind == "csr" else X.astype(np.uint8 if kind == "uint8" else np.float64)
    T = T.argmax(1) if kind == "labels" else T
    subsets = [None, np.arange(30)[::-1], np.arange(10, 50)]
    fastmlp.train_many(nets, X, T, fastmlp.Adam(0.01), batch_size=16, epochs=2, subsets=subsets)
    for net, rows in zip(alone, subsets, strict=True):
        rows = slice(None) if rows is None else rows
        net.train(X[rows], T[rows], optimizer=fastmlp.Adam(0.01), batch_size=16, epochs=2)
    same(nets, alone)


def test_supplied_functions():
    pieces = {"activation": fastmlp.Activation(lambda z: z * z, lambda z: 2 * z, name="square"), "output": "identity"}
    nets = [network([3, n, 2], n, **pieces) for n in (4, 5)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 40)
    fastmlp.train_many(nets, X, T, fastmlp.SGD(0.01), batch_size=8, epochs=2)
    for net in alone:
        net.train(X, T, optimizer=fastmlp.SGD(0.01), batch_size=8, epochs=2)
    same(nets, alone)


def test_calls_go_on_where_the_last_one_stopped():
    nets = zoo()
    once, (X, T) = copy.deepcopy(nets), data(nets[0], 40)
    for epochs in (2, 3):
        fastmlp.train_many(nets, X, T, OPTIMIZERS[2], batch_size=8, epochs=epochs)
    fastmlp.train_many(once, X, T, OPTIMIZERS[2], batch_size=8, epochs=5)
    same(nets, once)


def test_a_network_that_diverges_leaves_the_others_alone():
    nets = zoo()
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 40)
    rates = [0.1, 0.1, 0.1, 0.1, 1e30, 0.1]
    with pytest.warns(RuntimeWarning, match=r"networks 4 diverged \(1 of 6\)"):
        histories = fastmlp.train_many(nets, X, T, [fastmlp.SGD(rate) for rate in rates], batch_size=8, epochs=4)
    for k, (net, history) in enumerate(zip(alone, histories, strict=True)):
        if k == 4:
            with pytest.raises(fastmlp.DivergenceError):
                net.train(X, T, optimizer=fastmlp.SGD(1e30), batch_size=8, epochs=4)
            assert history.stopped == "diverged" and history.n_epochs == len(history.objective) < 4
        else:
            assert net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=4).objective == history.objective
    same(nets, alone)
    assert all(np.isfinite(W).all() for net in nets for W in net.weights)


def test_divergence_leaves_the_weights_of_the_epoch_before_with_patience_too():
    nets = [network([7, 5, 3], k, activation="relu", output="identity") for k in range(2)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 40)
    rates = fastmlp.SGD(lambda epoch: (0.1, 0.1, 1e38)[epoch])
    settings = {"epochs": 3, "batch_size": 8, "validation": (X, -T), "patience": 3}
    with pytest.warns(RuntimeWarning, match="diverged"):
        histories = fastmlp.train_many(nets, X, T, rates, **settings)
    for net in alone:
        with pytest.raises(fastmlp.DivergenceError, match="epoch 3"):
            net.train(X, T, optimizer=rates, **settings)
    same(nets, alone)
    assert all(history.validation[0] < history.validation[1] for history in histories)  # the best were others


def test_callbacks_stop_their_network_and_errors_end_all():
    nets, seen = zoo(), []
    X, T = data(nets[0], 20)

    def stop_one(net, history):
        seen.append(nets.index(net))
        return net is nets[1] and history.n_epochs == 2

    histories = fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), epochs=3, callbacks=[stop_one])
    assert [history.n_epochs for history in histories] == [3, 2, 3, 3, 3, 3]
    assert histories[1].stopped == "callback" and sorted(seen) == sorted([0, 2, 3, 4, 5] * 3 + [1] * 2)

    def fail(net, history):
        if net is nets[2]:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), epochs=3, callbacks=[fail])
    assert not any(net._training for net in nets)
    fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), epochs=1)  # and they may be trained again

    def fail_first(net, history):
        raise KeyError("mine")

    rates = [fastmlp.SGD(0.1), *[fastmlp.SGD(1e30)] * 5]
    with pytest.raises(KeyError, match="mine"):  # while the others have diverged unnoticed
        fastmlp.train_many(nets, X, T, rates, batch_size=4, epochs=3, callbacks=[fail_first])
    assert not any(net._training for net in nets)
    assert all(np.isfinite(W).all() for net in nets for W in net.weights)


def test_ctrl_c_ends_all_with_what_they_have(ctrl_c):
    nets = [network([7, 5, 3], k, output="identity") for k in range(3)]
    X, T = data(nets[0], 30)

    def interrupt(net, history):
        if net is nets[1] and history.n_epochs == 4:
            signal.raise_signal(signal.SIGINT)

    histories = fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), epochs=1000, callbacks=[interrupt])
    assert [history.stopped for history in histories] == ["interrupted"] * 3
    assert [history.n_epochs for history in histories] == [4, 4, 3]  # the third's fourth was not counted yet


def test_ctrl_c_before_others_have_begun(ctrl_c):
    nets = [network([7, 5, 3], k, output="identity") for k in range(3)]
    X, T = data(nets[0], 30)

    def interrupt(net, history):
        if history.n_epochs == 2:
            signal.raise_signal(signal.SIGINT)

    histories = fastmlp.train_many(nets, X, T, fastmlp.LBFGS(), epochs=5, callbacks=[interrupt])
    assert [(history.stopped, history.n_epochs) for history in histories] == [
        ("interrupted", 2), ("interrupted", 0), ("interrupted", 0),
    ]  # fmt: skip


def test_threads_may_become_more():
    nets = [network([7, 5 + k % 2, 3], k) for k in range(6)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 60)
    threads = numba.get_num_threads()

    def more(net, history):
        numba.set_num_threads(threads)

    numba.set_num_threads(1)
    try:
        fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), batch_size=8, epochs=4, callbacks=[more])
    finally:
        numba.set_num_threads(threads)
    for net in alone:
        net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=4)
    same(nets, alone)


def test_rooms_take_what_the_largest_takes(monkeypatch):
    from fastmlp.cpu import trainer

    made = []

    class Noted(trainer.Together):
        def __init__(self):
            super().__init__()
            made.append(self)

    monkeypatch.setattr(trainer, "Together", Noted)
    nets = [network([7, 300 + k, 3], k) for k in range(30)]
    X, T = data(nets[0], 256)
    fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), batch_size=256, epochs=1)
    largest = sum(array.nbytes for array in trainer.Room(nets[-1]._trainer, 256).arrays.values())
    (together,) = made
    assert len(together._rooms) == 30 and largest > 800_000
    bases = {id(array.base): array.base.nbytes for rooms in together._rooms.values() for room in rooms
             for array in room.arrays.values() if array.base is not None}  # fmt: skip
    assert sum(bases.values()) < 5 * largest * len(together._arenas)


def test_epochs_that_take_long_get_all_threads(monkeypatch):
    from fastmlp import many

    monkeypatch.setattr(many, "SLICE_SECONDS", 0.0)
    nets = [network([7, 5, 3], k) for k in range(3)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 700)
    fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), batch_size=8, epochs=2)
    for net in alone:
        net.train(X, T, optimizer=fastmlp.SGD(0.1), batch_size=8, epochs=2)
    same(nets, alone)


def test_two_calls_at_once():
    nets = [[network([7, 5, 3], k) for k in range(4)] for _ in range(3)]
    X, T = data(nets[0][0], 60)
    fastmlp.train_many(nets[2], X, T, fastmlp.SGD(0.1), batch_size=8, epochs=20)
    calls = [
        threading.Thread(
            target=fastmlp.train_many,
            args=(group, X, T, fastmlp.SGD(0.1)),
            kwargs={"batch_size": 8, "epochs": 20},
        )
        for group in nets[:2]
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    same(nets[0], nets[2])
    same(nets[1], nets[2])


def test_refusals_change_nothing():
    nets = zoo()
    before, (X, T) = copy.deepcopy(nets), data(nets[0], 20)
    sgd, bad = fastmlp.SGD(0.1), X.copy()
    bad[3, 2] = np.nan
    for message, arguments in (
        ("networks[1] is int", ([nets[0], 3], X, T, sgd)),
        ("networks is a Network", (nets[0], X, T, sgd)),
        ("several times", ([nets[0], nets[0]], X, T, sgd)),
        ("optimizers has 2 entries; one for each of the 6", (nets, X, T, [sgd, sgd])),
        ("networks[2]: optimizer is 'adam'", (nets, X, T, [sgd, sgd, "adam", sgd, sgd, sgd])),
        ("X holds nan at row 3, column 2", (nets, bad, T, sgd)),
        ("X has shape (0, 7)", (nets, X[:0], T[:0], sgd)),
        ("networks[0]: T has shape", (nets, X, T[:5], sgd)),
    ):
        with refused(message):
            fastmlp.train_many(*arguments, epochs=1)
    for message, settings in (
        ("networks[0]: epochs is -1", {"epochs": -1}),
        ("networks[0]: batch_size is 0", {"batch_size": 0}),
        ("batch_size has 2 entries", {"batch_size": [3, 4]}),
        ("subsets has 1 entries", {"subsets": [[1]]}),
        ("subsets is 5; a sequence", {"subsets": 5}),
        ("subsets[0] is float64", {"subsets": [[0.5]] * 6}),
        ("subsets[0] holds row 20; 0 ... 19", {"subsets": [[20]] * 6}),
        ("subsets[0] holds row -1", {"subsets": [[-1]] * 6}),
        ("subsets[0] is bool (3,)", {"subsets": [[True] * 3] * 6}),
        ("one of the two", {"validation": (X, T), "validation_subsets": [[1]] * 6}),
        ("networks[0]: patience is 3 and validation is None", {"patience": 3}),
        ("networks[0]: callbacks is 5", {"callbacks": 5}),
    ):
        with refused(message):
            fastmlp.train_many(nets, X, T, sgd, **settings)
    same(nets, before)
    assert fastmlp.train_many([], X, T, sgd) == []


def test_a_network_that_is_in_training_is_refused():
    net, other = network([3, 2], 0), network([3, 2], 1)
    X, T = data(net, 9)

    def again(network, history):
        fastmlp.train_many([other, network], X, T, fastmlp.SGD(0.1))

    with pytest.raises(RuntimeError, match="callback"):
        net.train(X, T, optimizer=fastmlp.SGD(0.1), callbacks=[again])


def fitted(estimator):
    return [*estimator.coefs_, *estimator.intercepts_, getattr(estimator, "loss_curve_", 0)]


def test_estimators_fit_to_the_bits_of_their_own_fit():
    X, y = make_classification(120, 6, random_state=0)
    Z, v = make_regression(90, 6, n_targets=2, random_state=0)
    X, Z, v = X.astype(np.float32), Z / 3, v / 100
    more = {"max_iter": 6, "random_state": 0}
    estimators = [
        fastmlp.MLPClassifier((5,), **more),
        fastmlp.MLPClassifier((9, 4), solver="sgd", early_stopping=True, n_iter_no_change=2, **more),
        fastmlp.MLPClassifier((5,), solver="lbfgs", **more),
        fastmlp.MLPRegressor(hidden_layer_sizes=(5,), solver="gd", **more),
        fastmlp.MLPRegressor(hidden_layer_sizes=(7,), dropout=0.2, alpha=0.1, **more),
        fastmlp.MLPClassifier((5,), solver="adamw", learning_rate="cosine", class_weight="balanced", **more),
    ]
    weight = np.random.default_rng(0).random(120)
    given = [(X, y), (X, y), (X, y), (Z, v), (Z, v, {"eval_set": (Z[:9], v[:9])}), (X, y, {"sample_weight": weight})]
    alone = copy.deepcopy(estimators)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fit_together(estimators, given) == [None] * 6
        for estimator, (X, y, *params) in zip(alone, given, strict=True):
            estimator.fit(X, y, **(params[0] if params else {}))
    for one, other in zip(estimators, alone, strict=True):
        assert all(map(np.array_equal, fitted(one), fitted(other)))
        assert vars(one).keys() == vars(other).keys()


def test_a_fit_that_fails_leaves_the_others_alone():
    X, y = make_classification(60, 6, random_state=0)
    good = fastmlp.MLPClassifier((5,), max_iter=3, tol=0, random_state=0)
    bad = fastmlp.MLPClassifier((5,), max_iter=3, alpha=-1)
    wild = fastmlp.MLPClassifier((5,), max_iter=3, solver="sgd", learning_rate_init=1e300, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        errors = fit_together([bad, good, wild], [(X, y)] * 3)
    assert errors[1] is None and len(good.loss_curve_) == 3
    assert isinstance(errors[0], ValueError) and "alpha" in str(errors[0])
    assert isinstance(errors[2], ValueError) and "non-finite" in str(errors[2])


def test_a_fit_of_ones_own_is_called():
    class Own(fastmlp.MLPClassifier):
        def fit(self, X, y):
            self.seen_ = len(X)
            return super().fit(X, y)

    X, y = make_classification(60, 6, random_state=0)
    estimators = [Own((5,), max_iter=2, random_state=0), fastmlp.MLPClassifier((5,), max_iter=2, random_state=0)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fit_together(estimators, [(X, y)] * 2) == [None, None]
    assert estimators[0].seen_ == 60 and np.array_equal(estimators[0].coefs_[0], estimators[1].coefs_[0])


def test_one_progress_bar_for_all(capsys):
    nets = [network([7, 5, 3], k) for k in range(3)]
    alone, (X, T) = copy.deepcopy(nets), data(nets[0], 40)
    subsets = [None, np.arange(20), np.arange(10)]
    fastmlp.train_many(nets, X, T, fastmlp.SGD(0.1), epochs=2, subsets=subsets, progress=True)
    assert "140/140" in capsys.readouterr().err
    fastmlp.train_many(alone, X, T, fastmlp.SGD(0.1), epochs=2, subsets=subsets)
    assert capsys.readouterr().err == ""
    same(nets, alone)
