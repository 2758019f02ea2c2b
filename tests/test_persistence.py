"""Files: models that come back the same, trainings that resume to the same bits, and files that are refused."""

import errno
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from cases import data, digest, network, refused, run_python, same_bits
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import fastmlp
from fastmlp import SGD, Adam, GradientDescent, MLPClassifier, MLPRegressor, persistence

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

OPTIMIZERS = {
    "descent": GradientDescent(0.5),
    "SGD": SGD(0.1),
    "momentum": SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": Adam(max_gradient_norm=0.1),
}


def trained(settings=None, epochs=5, optimizer=OPTIMIZERS["Adam"], seed=0, **arguments):
    """A network after some training, its data and history."""
    net = network([7, 33, 5], **(settings or {}))
    net._rng = np.random.default_rng(seed)
    X, T = data(net, 83)
    if not isinstance(optimizer, (GradientDescent, fastmlp.LBFGS)):
        arguments.setdefault("batch_size", 16)
    return net, X, T, net.train(X, T, optimizer=optimizer, epochs=epochs, **arguments)


# ---- save and load -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loaded_network_goes_on_as_the_saved_one(name, dtype, tmp_path):
    settings = {"dtype": dtype, "activation": "tanh", "output": "softmax", "loss": "log_loss", "l2": 0.01}
    net, X, T, _ = trained({**settings, "dropout": 0.2}, optimizer=OPTIMIZERS[name])
    fastmlp.save(net, tmp_path / "net.fastmlp")
    twin = fastmlp.load(tmp_path / "net.fastmlp")
    assert repr(twin) == repr(net) and same_bits(net, twin)
    assert np.array_equal(twin.forward(X), net.forward(X))
    curves = [n.train(X, T, optimizer=OPTIMIZERS[name], epochs=3).objective for n in (net, twin)]
    assert curves[0] == curves[1] and same_bits(net, twin)


@pytest.mark.parametrize(
    "rng",
    [
        np.random.RandomState(3),
        *(np.random.Generator(getattr(np.random, n)(3)) for n in persistence.BIT_GENERATORS),
        np.random.RandomState(np.random.PCG64(4)),
    ],
    ids=["RandomState", *persistence.BIT_GENERATORS, "RandomState of PCG64"],
)
def test_generators_come_back(rng):
    rng.normal(size=3)  # leaves a RandomState of MT19937 with half of a pair
    twin = persistence.rng_from(json.loads(json.dumps(persistence.rng_values(rng))))
    assert type(twin) is type(rng)
    assert np.array_equal(twin.normal(size=9), rng.normal(size=9))


CLASSES = {
    "integers": np.array([3, 5, 9]),
    "text": np.array(["a", "bc", "d"]),
    "objects": np.array(["a", "bc", "d"], object),
    "booleans": np.array([False, True]),
    "floats": np.array([1.0, 2.0]),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_classifiers_come_back(kind, tmp_path):
    classes, r = CLASSES[kind], np.random.default_rng(0)
    X, y = r.random((60, 4)), classes[r.integers(0, len(classes), 60)]
    model = MLPClassifier((9,), max_iter=4, early_stopping=True, random_state=0, class_weight="balanced").fit(X, y)
    fastmlp.save(model, tmp_path / "m")
    twin = fastmlp.load(tmp_path / "m")
    assert twin.get_params() == model.get_params()
    assert twin.classes_.dtype == model.classes_.dtype and np.array_equal(twin.predict(X), model.predict(X))
    assert np.array_equal(twin.predict_proba(X), model.predict_proba(X))
    assert vars(twin).keys() == vars(model).keys() - {"_random_state"}
    for name in ("loss_curve_", "validation_scores_", "best_validation_score_", "n_iter_", "t_", "loss_"):
        assert getattr(twin, name) == getattr(model, name)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_goes_on_after_load(solver, tmp_path):
    X, y = load_digits(return_X_y=True)
    model = MLPClassifier((20,), solver=solver, random_state=0)
    for _ in range(2):
        model.partial_fit(X, y, classes=range(10))
    fastmlp.save(model, tmp_path / "m")
    twin = fastmlp.load(tmp_path / "m")
    for m in (model, twin):
        m.partial_fit(X, y)
    assert all(map(np.array_equal, twin.coefs_, model.coefs_)) and twin.loss_curve_ == model.loss_curve_


def test_other_estimators_come_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(np.random.default_rng(0).random((40, 3)), columns=["a", "b", "c"])
    labels = np.eye(3, dtype=int)[np.arange(40) % 3]
    for model in (
        MLPRegressor("poisson", (4, 5), solver="lbfgs", max_iter=5).fit(X, X["a"]),
        MLPClassifier(4, max_iter=3, class_weight={0: 1, 1: 2, 2: 1.5}, random_state=np.random.RandomState(1)).fit(
            X, np.arange(40) % 3
        ),
        MLPClassifier(max_iter=2).fit(X, labels),
    ):
        fastmlp.save(model, tmp_path / "m")
        twin = fastmlp.load(tmp_path / "m")
        assert list(twin.feature_names_in_) == ["a", "b", "c"]
        assert np.array_equal(twin.predict(X), model.predict(X))
        assert {**twin.get_params(), "random_state": 0} == {**model.get_params(), "random_state": 0}
    fastmlp.save(MLPClassifier(alpha=0.5), tmp_path / "m")
    assert fastmlp.load(tmp_path / "m").alpha == 0.5 and not hasattr(fastmlp.load(tmp_path / "m"), "coefs_")


def test_functions_are_left_out_and_said(tmp_path):
    net, X, T, _ = trained(optimizer=SGD(lambda epoch: 0.1, momentum=0.5))
    with pytest.warns(UserWarning, match="learning_rate is a function"):
        fastmlp.save(net, tmp_path / "net")
    assert np.array_equal(fastmlp.load(tmp_path / "net").forward(X), net.forward(X))
    model = MLPClassifier(learning_rate=lambda epoch: 0.1, max_iter=2).fit(X, np.arange(len(X)) % 2)
    with pytest.warns(UserWarning, match="learning_rate is a function"):
        fastmlp.save(model, tmp_path / "m")
    assert fastmlp.load(tmp_path / "m").learning_rate == "constant"


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(TypeError, match="model is int; Network, MLPClassifier and MLPRegressor are allowed"):
        fastmlp.save(3, tmp_path / "m")
    mixed = MLPClassifier(max_iter=2).fit(np.eye(2), [0, 1])
    mixed.classes_ = np.array([object(), object()])
    with pytest.raises(TypeError, match="MLPClassifier holds what a file without code cannot"):
        fastmlp.save(mixed, tmp_path / "m")
    with pytest.raises(FileNotFoundError):
        fastmlp.save(network([2, 1]), tmp_path / "nowhere" / "m")
    assert os.listdir(tmp_path) == []


def test_it_is_a_safetensors_file_without_code(tmp_path):
    from safetensors.numpy import load_file

    net = trained()[0]
    fastmlp.save(net, tmp_path / "net.fastmlp")
    arrays = load_file(tmp_path / "net.fastmlp")
    assert np.array_equal(arrays["weights.0"], net.weights[0]) and np.array_equal(arrays["biases.1"], net.biases[1])
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / "net.fastmlp").read_bytes())


def damaged(content):
    """The same file with its faults: name and bytes."""
    flipped = bytearray(content)
    flipped[-9] ^= 1
    header = struct.unpack("<Q", content[:8])[0]
    return {
        "empty": b"",
        "cut in its header": content[:50],
        "cut in its arrays": content[:-5],
        "one bit": bytes(flipped),
        "text": b"label,a,b\n1,2,3\n" * 9,
        "a pickle": pickle.dumps({"weights": [1, 2, 3]}),
        "a setting": content.replace(b'\\"l2\\": 0.0', b'\\"l2\\": 9.0'),
        "another writer": content[:8] + b"{}".ljust(header) + content[8 + header :],
        "a later version": content.replace(b'"version":"1"', b'"version":"2"'),
        "more behind": content + b"0",
    }


@pytest.mark.parametrize("fault", damaged(b"\2\0\0\0\0\0\0\0{}" + bytes(9)))
def test_damaged_files_are_refused(fault, tmp_path):
    path = tmp_path / "net.fastmlp"
    net, X, T, _ = trained(checkpoint=path)
    content = damaged(path.read_bytes())[fault]
    assert content != path.read_bytes()
    path.write_bytes(content)
    before = digest(net)
    with refused("net.fastmlp", "version 2" if fault == "a later version" else ""):
        fastmlp.load(path)
    with refused("net.fastmlp"):
        net.train(X, T, optimizer=OPTIMIZERS["Adam"], batch_size=16, epochs=5, checkpoint=path)
    assert path.read_bytes() == content and digest(net) == before


# What somebody might put into a file whose digest is right: what to change, and what is said.
CRAFTED = {
    "weights of another shape": (lambda v, a: a.update({"weights.0": a["weights.0"][:3]}), "weights.0"),
    "weights that are not finite": (lambda v, a: a["weights.0"].fill(np.nan), "weights.0"),
    "weights of another dtype": (lambda v, a: a.update({"biases.1": a["biases.1"].astype(np.int64)}), "biases.1"),
    "no weights": (lambda v, a: a.pop("weights.1"), "weights.1"),
    "no moments": (lambda v, a: [a.pop(name) for name in list(a) if "moments" in name], "moments.0"),
    "moments of another shape": (lambda v, a: a.update({"moments.1.biases.0": np.zeros(2, np.float32)}), "moments.1"),
    "a place beyond the generator's": (lambda v, a: v["rng"]["state"].update({"buffer_pos": 10**9}), "Philox"),
    "another generator": (lambda v, a: v["rng"]["state"].update({"bit_generator": "os"}), "'os'"),
    "no generator": (lambda v, a: v.pop("rng"), "rng"),
    "updates that are none": (lambda v, a: v["state"].update({"updates": "many"}), "'many'"),
}


@pytest.mark.parametrize("fault", CRAFTED)
def test_crafted_files_are_refused(fault, tmp_path):
    """Nothing that kernels or NumPy would follow blindly gets that far, though the digest is right."""
    change, words = CRAFTED[fault]
    net = network([7, 33, 5])
    net._rng = np.random.Generator(np.random.Philox(1))
    X, T = data(net, 83)
    arguments = {"optimizer": OPTIMIZERS["Adam"], "batch_size": 16, "epochs": 3}
    net.train(X, T, checkpoint=tmp_path / "ckpt", **arguments)
    fastmlp.save(net, tmp_path / "net")
    before = digest(net)
    for name in ("net", "ckpt"):
        kind, values, arrays = persistence.read(tmp_path / name)
        change(values if name == "net" else values["network"], arrays)
        persistence.write(tmp_path / name, kind, values, arrays)
        with refused(name, words):
            fastmlp.load(tmp_path / name)
    with refused(words):
        net.train(X, T, checkpoint=tmp_path / "ckpt", **{**arguments, "epochs": 4})
    assert digest(net) == before
    net.train(X, T, **arguments)


CRAFTED_FITS = {
    "an order beyond the examples": (lambda v, a: a["order"].__setitem__(0, 10**9), "order"),
    "an example twice": (lambda v, a: a["order"].__setitem__(0, a["order"][1]), "order"),
    "an order that is too short": (lambda v, a: a.update({"order": np.arange(5)}), "order of 5 examples"),
    "no moments": (lambda v, a: [a.pop(name) for name in list(a) if "moments" in name], "moments.0"),
    "a counter that is none": (lambda v, a: v["fitted"].update({"t_": [1]}), "t_ is list"),
    "a place beyond the generator's": (lambda v, a: v["rng"]["state"]["state"].update({"pos": 10**9}), "MT19937"),
    "no counters": (lambda v, a: v.pop("fitted"), "fitted"),
}


@pytest.mark.parametrize("fault", CRAFTED_FITS)
def test_crafted_checkpoints_of_fits_are_refused(fault, tmp_path):
    change, words = CRAFTED_FITS[fault]
    path = tmp_path / "fit.ckpt"
    fit({"max_iter": 3}, checkpoint=path)
    kind, values, arrays = persistence.read(path)
    arrays = {name: array.copy() for name, array in arrays.items()}
    change(values, arrays)
    persistence.write(path, kind, values, arrays)
    with refused(words):
        fit({"max_iter": 4}, checkpoint=path)


def test_only_what_a_fit_counts_is_set(tmp_path):
    path = tmp_path / "fit.ckpt"
    fit({"max_iter": 3}, checkpoint=path)
    kind, values, arrays = persistence.read(path)
    values["fitted"] |= {"predict": 1, "alpha": 5.0}
    persistence.write(path, kind, values, arrays)
    model = fit({"max_iter": 4}, checkpoint=path)
    assert callable(model.predict) and model.alpha == 1e-4


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastmlp.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        fastmlp.load(tmp_path)
    with pytest.raises(TypeError, match="int"):
        fastmlp.load(1)  # the number of standard output, which stays open
    os.fstat(1)


# ---- checkpoints of networks ---------------------------------------------------------------------------------------


class CrashError(Exception):
    pass


def crash_after(epochs):
    def callback(network, history):
        if history.n_epochs == epochs:
            raise CrashError

    return callback


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("crash", [1, 2, 4])
@pytest.mark.parametrize("every", [1, 3])
def test_resumed_training_ends_with_the_same_bits(name, crash, every, tmp_path):
    arguments = {"settings": {"dropout": 0.3, "l2": 0.01}, "optimizer": OPTIMIZERS[name], "epochs": 7}
    whole, X, _, history = trained(**arguments)
    path = tmp_path / "run.ckpt"
    with pytest.raises(CrashError):
        trained(**arguments, checkpoint=path, checkpoint_every=every, callbacks=[crash_after(crash)])
    assert path.exists() == (crash > every)  # the epoch that crashed was not written
    again, _, _, resumed = trained(**arguments, seed=99, checkpoint=path, checkpoint_every=every)
    if path.exists() and crash > every:
        assert same_bits(whole, again)
        assert (resumed.objective, resumed.n_epochs, resumed.stopped) == (history.objective, 7, "epochs")
        assert pickle.dumps(whole._rng.bit_generator.state) == pickle.dumps(again._rng.bit_generator.state)
    assert os.listdir(tmp_path) == ["run.ckpt"]


def test_a_finished_checkpoint_is_returned_at_once_and_continued_by_more_epochs(tmp_path):
    path, seen = tmp_path / "run.ckpt", []
    _, _, _, first = trained(epochs=3, checkpoint=str(path))
    content = path.read_bytes()
    net, _, _, second = trained(epochs=3, seed=5, checkpoint=path, callbacks=[lambda *_: seen.append(1)])
    assert seen == [] and second.objective == first.objective and path.read_bytes() == content
    net, _, _, third = trained(epochs=5, seed=5, checkpoint=path)
    whole, X, _, history = trained(epochs=5)
    assert same_bits(net, whole) and third.objective == history.objective
    assert np.array_equal(fastmlp.load(path).forward(X), whole.forward(X))
    with refused("epochs is 4", "run.ckpt has 5 already"):
        trained(epochs=4, checkpoint=path)


@pytest.mark.parametrize("crash", [4, 9, None])
def test_patience_and_validation_are_resumed(crash, tmp_path):
    """The best weights stand, whether the best epoch was before or after the crash."""
    net = network([7, 33, 5])
    X, T = data(net, 83, seed=7)
    arguments = {"validation": (X, T), "patience": 3, "optimizer": Adam(0.02), "epochs": 60}
    whole, _, _, history = trained(**arguments)
    assert history.stopped == "patience" and 9 < history.n_epochs < 60, history
    path = tmp_path / "run.ckpt"
    if crash is not None and crash < history.n_epochs:
        with pytest.raises(CrashError):
            trained(**arguments, checkpoint=path, callbacks=[crash_after(crash)])
    for _ in range(2):
        again, _, _, resumed = trained(**arguments, checkpoint=path)
        assert same_bits(whole, again) and resumed.stopped == "patience"
        assert (resumed.objective, resumed.validation) == (history.objective, history.validation)


def test_lbfgs_goes_on_from_its_last_iteration(tmp_path):
    path, optimizer = tmp_path / "run.ckpt", fastmlp.LBFGS()
    with pytest.raises(CrashError):
        trained(optimizer=optimizer, epochs=9, checkpoint=path, callbacks=[crash_after(4)])
    net, X, T, history = trained(optimizer=optimizer, epochs=9, checkpoint=path)
    assert history.n_epochs == 9 == len(history.objective)
    assert all(np.diff(history.objective) <= 0) and net.objective(X, T) == pytest.approx(history.objective[-1])
    assert trained(optimizer=optimizer, epochs=9, checkpoint=path)[3].objective == history.objective


def test_what_ends_by_itself_is_finished(tmp_path):
    """L-BFGS whose evaluations are used up does not go on when it is called again."""
    optimizer = fastmlp.LBFGS(max_evaluations=5)
    net, _, _, history = trained(optimizer=optimizer, epochs=50, checkpoint=tmp_path / "a")
    assert 0 < history.n_epochs < 50
    again, _, _, second = trained(optimizer=optimizer, epochs=60, checkpoint=tmp_path / "a")
    assert same_bits(net, again) and second.objective == history.objective
    model = fit({"solver": "lbfgs", "max_fun": 6}, checkpoint=tmp_path / "b")
    assert fit({"solver": "lbfgs", "max_fun": 6}, checkpoint=tmp_path / "b").n_iter_ == model.n_iter_


def test_a_checkpoint_is_loaded_as_the_network_that_train_returns(tmp_path):
    """With patience those are the best weights; callbacks may write to the history, and leave the file readable."""
    net = network([7, 33, 5])
    X, T = data(net, 83, seed=7)
    arguments = {"validation": (X, T), "patience": 3, "optimizer": Adam(0.02), "epochs": 60}

    def note(network, history):
        history.accuracy = [object()]

    best, X, _, history = trained(**arguments, checkpoint=tmp_path / "a", callbacks=[note])
    assert history.stopped == "patience"
    assert np.array_equal(fastmlp.load(tmp_path / "a").forward(X), best.forward(X))
    assert same_bits(best, trained(**arguments, checkpoint=tmp_path / "a")[0])


def test_a_schedule_is_asked_once_an_epoch(tmp_path):
    asked = []
    trained(optimizer=SGD(lambda epoch: asked.append(epoch) or 0.1), epochs=3, checkpoint=tmp_path / "a")
    assert asked == [0, 1, 2]


def test_interrupted_training_resumes_to_the_same_bits(tmp_path):
    def interrupt(network, history):
        if history.n_epochs == 3:
            raise KeyboardInterrupt

    whole = trained()[0]
    net, X, T, history = trained(checkpoint=tmp_path / "a", callbacks=[interrupt])
    assert history.stopped == "interrupted"
    history = net.train(X, T, optimizer=OPTIMIZERS["Adam"], batch_size=16, epochs=5, checkpoint=tmp_path / "a")
    assert history.n_epochs == 5 and same_bits(net, whole)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.ckpt"
    net, X, T, _ = trained(checkpoint=path)
    content = path.read_bytes()

    def train(other=net, X=X, T=T, optimizer=OPTIMIZERS["Adam"], batch_size=16, **more):
        other.train(X, T, optimizer=optimizer, batch_size=batch_size, epochs=9, checkpoint=path, **more)

    other = network([7, 12, 5])
    before = digest(other)
    with refused("run.ckpt is a checkpoint of another run", "sizes was [7, 33, 5] and is [7, 12, 5]"):
        train(other)
    assert digest(other) == before
    for name, arguments in {
        "optimizer": {"optimizer": Adam(0.5)},
        "batch_size was 16 and is 17": {"batch_size": 17},
        "X was [83, 7] and is [82, 7]": {"X": X[1:], "T": T[1:]},
        "hash of some rows": {"X": X + 1},
        "shuffle": {"shuffle": False},
        "tol": {"tol": 0.1},
        "patience": {"patience": 3, "validation": (X, T)},
        "sample_weight": {"sample_weight": np.ones(83)},
        "dtype was float32 and is float64": {"other": network([7, 33, 5], dtype="float64")},
        "activation": {"other": network([7, 33, 5], activation="relu")},
    }.items():
        with refused("another run", name):
            train(**arguments)
    assert path.read_bytes() == content
    schedule = tmp_path / "schedule"
    trained(optimizer=SGD(lambda epoch: 0.1 / (1 + epoch)), checkpoint=schedule, epochs=2)
    with refused("learning_rate(1) was 0.05 and is 0.2"):
        trained(optimizer=SGD(lambda epoch: 0.2), checkpoint=schedule, epochs=3)
    assert trained(optimizer=SGD(lambda epoch: 0.1 / (1 + epoch)), checkpoint=schedule, epochs=3)[3].n_epochs == 3


def test_arguments_are_checked_before_training(tmp_path):
    for path, words in ((3, "checkpoint is 3"), (tmp_path, "a folder"), (tmp_path / "no" / "a", "in no folder")):
        net = network([7, 33, 5])
        before = digest(net)
        with refused(words):
            net.train(*data(net, 9), optimizer=SGD(0.1), checkpoint=path)
        assert digest(net) == before
    for every in (0, 1.5, True, "1", None):
        for path in (tmp_path / "a", None):
            with refused("checkpoint_every is"):
                trained(checkpoint=path, checkpoint_every=every)
            with refused("checkpoint_every is"):
                fit({}, checkpoint=path, checkpoint_every=every)

    class Own(np.random.PCG64):
        pass

    net = network([7, 33, 5])
    net._rng = np.random.Generator(Own(1))
    with refused("random_state has the bit generator 'Own'"):
        net.train(*data(net, 9), optimizer=SGD(0.1), checkpoint=tmp_path / "a")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_is_warned_of_and_the_file_before_stands(call, tmp_path, monkeypatch):
    path = tmp_path / "run.ckpt"
    whole = trained()[0]
    trained(epochs=2, checkpoint=path)
    content = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def full(path, mode):
        file = open(path, mode)
        if mode == "rb":
            return file
        file.close()
        fail()

    with monkeypatch.context() as patch:
        if call == "write":
            patch.setattr(persistence, "open", full, raising=False)
        else:
            patch.setattr(os, call, fail)
        with pytest.warns(RuntimeWarning, match=r"run.ckpt could not be written \(No space left on device\)"):
            net = trained(checkpoint=path)[0]
    assert same_bits(net, whole)
    assert path.read_bytes() == content and os.listdir(tmp_path) == ["run.ckpt"]


def test_what_a_killed_process_has_left_is_cleared(tmp_path):
    other = [".run.ckpt.2.1-2.part", ".run.part", ".run.ckpt.x.part"]
    for name in (".run.ckpt.1-2.part", *other):
        (tmp_path / name).write_bytes(b"half")
    trained(checkpoint=tmp_path / "run.ckpt")
    assert sorted(os.listdir(tmp_path)) == sorted([*other, "run.ckpt"])


def test_a_folder_that_cannot_be_synchronized_and_a_file_of_its_own_mode(tmp_path, monkeypatch):
    """Network file systems may refuse to synchronize a folder: the file is there all the same."""
    path, fsync = tmp_path / "run.ckpt", os.fsync

    def only_files(number):
        if os.path.isdir(f"/proc/self/fd/{number}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(number)

    monkeypatch.setattr(os, "fsync", only_files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(epochs=1, checkpoint=path)
        path.chmod(0o600)
        net, X, _, _ = trained(epochs=2, checkpoint=path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert np.array_equal(fastmlp.load(path).forward(X), net.forward(X))


RUN = """
import sys, hashlib
import numpy as np
import fastmlp
what, path = sys.argv[1:]
r = np.random.default_rng(0)
X, y = r.random((2000, 20), np.float32), r.integers(0, 3, 2000)
if what == "network":
    net = fastmlp.Network([20, 60, 3], output="softmax", loss="log_loss", dropout=0.2, random_state=1)
    net.train(X, y, optimizer=fastmlp.Adam(), batch_size=32, epochs=60, validation=(X[:99], y[:99]), patience=50,
              checkpoint=path or None)
    arrays = (*net.weights, *net.biases)
else:
    model = fastmlp.MLPClassifier((60,), max_iter=60, early_stopping=True, n_iter_no_change=60, dropout=0.2)
    model.set_params(random_state=None if path else 1)
    if not path:
        sys.exit()
    model.set_params(random_state=1).fit(X, y, checkpoint=path)
    arrays = (*model.coefs_, *model.intercepts_)
print(hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest())
"""


@pytest.mark.parametrize("what", ["network", "classifier"])
def test_kill_9_at_any_moment_and_another_number_of_threads(what, tmp_path):
    """Killed again and again, as soon as the file has changed or a little later, with other threads each time."""
    expected = run_python("-c", RUN, what, str(tmp_path / "whole"))
    path, r = tmp_path / "run.ckpt", np.random.default_rng(3)
    sources = os.path.dirname(os.path.dirname(fastmlp.__file__))
    kills, killed_with = 0, set()
    while kills < 3:
        environment = {**os.environ, "NUMBA_NUM_THREADS": str(1 + kills % 3), "PYTHONPATH": sources}
        process = subprocess.Popen([sys.executable, "-c", RUN, what, str(path)], env=environment)
        before = path.stat().st_mtime_ns if path.exists() else 0
        while process.poll() is None and (path.stat().st_mtime_ns if path.exists() else 0) == before:
            time.sleep(0.001)
        time.sleep(r.random() * 0.05)
        if process.poll() is not None:
            break  # it was faster
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        killed_with.add(path.stat().st_size)
    assert kills > 0
    assert run_python("-c", RUN, what, str(path), NUMBA_NUM_THREADS="2") == expected
    assert os.listdir(tmp_path).count("run.ckpt") == 1


# ---- checkpoints of estimators -------------------------------------------------------------------------------------

SOLVERS = {
    "adam": {"dropout": 0.2},
    "early stopping": {"early_stopping": True, "solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 2},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    "cosine": {"solver": "adamw", "learning_rate": "cosine"},
    "function": {"learning_rate": lambda epoch: 0.01 / (1 + epoch)},
    "gd": {"solver": "gd", "learning_rate_init": 0.5},
    "no seed": {"random_state": None},
}


def fit(settings, crash=None, make=MLPClassifier, **arguments):
    """An estimator fitted to the digits, or a crash as its learning rate for an epoch is asked for."""
    X, y = load_digits(return_X_y=True)
    model = make(**{"hidden_layer_sizes": (20,), "max_iter": 8, "random_state": 3, "tol": 1e-6, **settings})
    if crash is not None:
        from fastmlp import fitting

        class Crashing(fitting.Report):
            def epoch_begins(self, trainer):
                if self.estimator.n_iter_ == crash:
                    raise CrashError
                super().epoch_begins(trainer)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(CrashError):
            patch.setattr("fastmlp.estimators.Report", Crashing)
            model.fit(X / 16, y, **arguments)
        return model
    return model.fit(X / 16, y, **arguments)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("crash", [1, 5])
def test_a_resumed_fit_ends_with_the_same_bits(name, crash, tmp_path):
    settings, path = SOLVERS[name], tmp_path / "fit.ckpt"
    if settings.get("random_state", 3) is None:
        np.random.seed(11)
        state = np.random.get_state()
    whole = fit(settings)
    if settings.get("random_state", 3) is None:
        np.random.set_state(state)
    fit(settings, crash, checkpoint=path)
    again = fit(settings, checkpoint=path)
    assert all(map(np.array_equal, (*whole.coefs_, *whole.intercepts_), (*again.coefs_, *again.intercepts_)))
    for attribute in ("n_iter_", "t_", "loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        assert getattr(again, attribute) == getattr(whole, attribute), attribute
    content = path.read_bytes()
    assert fit(settings, checkpoint=path).loss_curve_ == whole.loss_curve_ and path.read_bytes() == content


def test_a_warm_start_is_resumed(tmp_path):
    """Whether the estimator was fitted before or not: the examples that early stopping sets aside are the same."""
    X, y = load_digits(return_X_y=True)
    settings = {"hidden_layer_sizes": (20,), "warm_start": True, "early_stopping": True, "random_state": 3}

    def fitted_before():
        return MLPClassifier(max_iter=2, **settings).fit(X / 16, y).set_params(max_iter=6)

    whole = fitted_before().fit(X / 16, y)
    for make in (fitted_before, lambda: MLPClassifier(max_iter=6, **settings)):
        path = tmp_path / make.__name__
        fitted_before().set_params(max_iter=3).fit(X / 16, y, checkpoint=path)
        again = make().fit(X / 16, y, checkpoint=path)
        assert all(map(np.array_equal, whole.coefs_, again.coefs_))
        assert again.validation_scores_ == whole.validation_scores_


def test_a_larger_max_iter_goes_on(tmp_path):
    whole = fit({"max_iter": 12})
    fit({"max_iter": 7}, checkpoint=tmp_path / "a")
    again = fit({"max_iter": 12}, checkpoint=tmp_path / "a")
    assert all(map(np.array_equal, whole.coefs_, again.coefs_)) and again.n_iter_ == 12
    with refused("max_iter is 5", "has 12 already"):
        fit({"max_iter": 5}, checkpoint=tmp_path / "a")
    fit({"learning_rate": "cosine", "max_iter": 3}, checkpoint=tmp_path / "b")
    with refused("max_iter was 3 and is 4"):  # its schedule depends on it
        fit({"learning_rate": "cosine", "max_iter": 4}, checkpoint=tmp_path / "b")


def test_lbfgs_of_an_estimator(tmp_path):
    path = tmp_path / "fit.ckpt"
    fit({"solver": "lbfgs", "max_iter": 9}, crash=5, checkpoint=path)
    model = fit({"solver": "lbfgs", "max_iter": 9}, checkpoint=path)
    assert model.n_iter_ == 9 and model.score(*load_digits(return_X_y=True)) > 0.3
    again = fit({"solver": "lbfgs", "max_iter": 9}, checkpoint=path)
    assert again.loss_ == model.loss_ and all(map(np.array_equal, again.coefs_, model.coefs_))


def test_a_fit_of_other_parameters_or_data_is_refused(tmp_path):
    path = tmp_path / "fit.ckpt"
    fit({}, checkpoint=path)
    content = path.read_bytes()
    with refused("another run", "alpha was 0.0001 and is 0.5", "hidden_layer_sizes"):
        fit({"alpha": 0.5, "hidden_layer_sizes": (5,)}, checkpoint=path)
    with refused("MLPClassifier checkpoint", "not a MLPRegressor checkpoint"):
        fit({}, make=MLPRegressor, checkpoint=path)
    X, y = load_digits(return_X_y=True)
    with refused("another run", "X was [1797, 64] and is [1796, 64]"):
        MLPClassifier((20,), max_iter=8, random_state=3, tol=1e-6).fit(X[1:], y[1:], checkpoint=path)
    with refused("another run", "hash of some rows"):
        MLPClassifier((20,), max_iter=8, random_state=3, tol=1e-6).fit(X, y, checkpoint=path)
    assert persistence.read(path)[1]["fitted"]["n_iter_"] == 8
    with refused("pass it to fit as checkpoint="):
        fastmlp.load(path)
    assert path.read_bytes() == content


def test_an_interrupted_lbfgs_leaves_its_last_iteration():
    from fastmlp import fitting

    class Interrupting(fitting.Report):
        def epoch_begins(self, trainer):
            if self.estimator.n_iter_ == 6:
                raise KeyboardInterrupt

    X, y = load_digits(return_X_y=True)
    with pytest.MonkeyPatch.context() as patch, pytest.warns(UserWarning, match="interrupted"):
        patch.setattr("fastmlp.estimators.Report", Interrupting)
        model = MLPClassifier((20,), solver="lbfgs", random_state=0).fit(X / 16, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        six = MLPClassifier((20,), solver="lbfgs", random_state=0, max_iter=6).fit(X / 16, y)
    assert model.n_iter_ == 6 and all(map(np.array_equal, model.coefs_, six.coefs_))
