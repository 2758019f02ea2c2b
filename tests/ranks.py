"""What each rank of test_mpi.py's launches does: python ranks.py CHECK[,CHECK...] FOLDER."""

import hashlib
import os
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI
from threadpoolctl import threadpool_limits

import fastmlp
from fastmlp import SGD, Adam, GradientDescent, Network, mpi

WORLD = MPI.COMM_WORLD
# The sums over ranks are rounded otherwise than one process's. float64's 1.1e-16 grows over some dozens of updates of
# some hundreds of products each; what is summed wrongly is off by far more.
RELATIVE = 1e-12


def problem(sizes, m, seed=0):
    """X, T and the weights of m examples, the same on all ranks."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((m, sizes[0])), rng.random((m, sizes[-1])), rng.random(m) + 0.1


def shard(m, comm=WORLD, seed=0):
    """Which of m examples this rank has: shares as uneven as they come, one row at the least."""
    cuts = np.random.default_rng(seed).choice(np.arange(1, m), comm.size - 1, replace=False)
    bounds = [0, *np.sort(cuts), m]
    return slice(bounds[comm.rank], bounds[comm.rank + 1])


def network(sizes, **more):
    settings = {"activation": "tanh", "l2": 0.01, "dtype": "float64", "init": "glorot", "random_state": 3}
    return Network(sizes, **{**settings, **more})


def arrays_of(model):
    if isinstance(model, Network):
        return [*model.weights, *model.biases]
    return [*model.coefs_, *model.intercepts_]


def digest(model):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays_of(model))).hexdigest()


def assert_close(found, expected, tolerance=RELATIVE):
    """Every array is that of the other model, and has the same bits on all ranks."""
    for a, b in zip(arrays_of(found), arrays_of(expected), strict=True):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)
    assert len(set(WORLD.allgather(digest(found)))) == 1


def assert_as_one_process(sizes, m, weighted=False, tolerance=RELATIVE, settings=None, **arguments):
    """Training over the ranks does what one process with all examples does."""
    X, T, weight = problem(sizes, m)
    own = shard(m)
    both = [network(sizes, **(settings or {})) for _ in range(2)]
    weights = (weight[own], weight) if weighted else (None, None)
    found = both[0].train(X[own], T[own], sample_weight=weights[0], comm=WORLD, **arguments)
    expected = both[1].train(X, T, sample_weight=weights[1], **arguments)
    assert_close(*both, tolerance)
    np.testing.assert_allclose(found.objective, expected.objective, rtol=tolerance)
    assert WORLD.allgather(found) == [found] * WORLD.size
    return both


def full_batch(folder):
    """Gradient descent over k ranks is that of one process on the concatenated data."""
    for sizes, m in (([2, 8, 1], 40), ([5, 3], 517), ([33, 17, 9, 2], 700)):
        for weighted in (False, True):
            assert_as_one_process(sizes, m, weighted, optimizer=GradientDescent(0.5), epochs=5)
    assert_as_one_process([4, 6, 2], WORLD.size + (WORLD.size == 1), optimizer=GradientDescent(0.5), epochs=5)


def minibatches(folder):
    """Minibatches, their order and the units that are dropped do not depend on the number of ranks."""
    rules = (SGD(0.1), SGD(0.05, 0.9, True), Adam(0.01), Adam(0.01, weight_decay=0.1, max_gradient_norm=0.05))
    for optimizer in rules:
        assert_as_one_process([9, 21, 4], 203, True, optimizer=optimizer, batch_size=7, epochs=2)
    settings = {"dropout": 0.3}
    assert_as_one_process([9, 21, 40, 4], 203, optimizer=SGD(0.1), batch_size=32, epochs=3, settings=settings)
    # several chunks a minibatch on a rank, and minibatches that have none of a rank's examples
    assert_as_one_process([9, 21, 4], 1700, optimizer=SGD(0.1), batch_size=700, epochs=2, settings=settings)
    assert_as_one_process([3, 2], 30, optimizer=SGD(0.1), batch_size=1, epochs=2)
    assert_as_one_process([3, 5, 2], 300, optimizer=SGD(0.1), batch_size=8, epochs=2, shuffle=False)


def buckets(folder):
    """Layers that travel in several messages, with and without a largest length of the gradient."""
    sizes = [300, 400, 300, 5]
    for optimizer in (SGD(0.1, 0.9), SGD(0.1, max_gradient_norm=0.01)):
        settings = {"dropout": 0.2}
        both = assert_as_one_process(sizes, 70, optimizer=optimizer, batch_size=30, epochs=1, settings=settings)
    with mpi.together(WORLD) as ranks:
        X, T, _ = problem(sizes, 70)
        epochs = ranks.epochs(both[0]._trainer, X, T, None, {"rule": "descent"}, 30)
        found = [(bucket.first, bucket.end) for bucket in epochs.buckets]
        assert found == ([(1, 3), (0, 1)] if WORLD.size > 1 else [])
        numbers = both[0]._trainer.model["parameters"].size
        # of each number all ranks but one send their part, and the sum is sent to all but one
        sent = WORLD.allreduce(epochs.bytes_sent)
        assert sent == 2 * (WORLD.size - 1) * 8 * numbers
    assert_as_one_process(
        sizes, 70, tolerance=1e-5, optimizer=Adam(), batch_size=30, epochs=2, settings={"dtype": "float32"}
    )


def lower_precision(folder):
    """In bfloat16, too: a weight that sums of another order make round to the other side is off by 1 in 256."""
    settings = {"dtype": "float32", "precision": "bf16", "dropout": 0.2}
    for optimizer in (SGD(0.1, 0.9), Adam(0.01, max_gradient_norm=0.05)):
        assert_as_one_process(
            [9, 41, 4], 203, True, tolerance=1e-3, optimizer=optimizer, batch_size=16, epochs=2, settings=settings
        )


def lbfgs(folder):
    """Every rank runs SciPy on the same bits."""
    # a line search divides differences of losses: rounding errors grow
    assert_as_one_process([9, 11, 3], 150, True, tolerance=1e-9, optimizer=fastmlp.LBFGS(), epochs=6)


def repeated(folder):
    """A run again has the same bits, and a.epochs then b.epochs those of a + b."""
    X, T, _ = problem([9, 21, 4], 203)
    own, found = shard(203), []
    for parts in ((4,), (4,), (1, 3)):
        net = network([9, 21, 4])
        for epochs in parts:
            net.train(X[own], T[own], optimizer=Adam(), batch_size=16, epochs=epochs, comm=WORLD)
        found.append(digest(net))
    assert len(set(found)) == 1


def starts_from_rank_0(folder):
    """Networks that start from other weights, optimizers' states and generators take over those of rank 0."""
    X, T, _ = problem([9, 21, 4], 203)
    own, net = shard(203), network([9, 21, 4], random_state=None)
    net.train(X[: 20 + WORLD.rank], T[: 20 + WORLD.rank], optimizer=Adam(), epochs=1 + WORLD.rank)
    twin = WORLD.bcast(net)
    net.train(X[own], T[own], optimizer=Adam(), batch_size=16, epochs=2, comm=WORLD)
    twin.train(X, T, optimizer=Adam(), batch_size=16, epochs=2)
    assert_close(net, twin)


def between_epochs(folder):
    """Validation with patience, tol, schedules and callbacks act alike on all ranks."""
    X, T, _ = problem([9, 21, 4], 203)
    own, last = shard(203), WORLD.size - 1
    held = slice(WORLD.rank * 50 // WORLD.size, (WORLD.rank + 1) * 50 // WORLD.size)
    nets = network([9, 21, 4]), network([9, 21, 4])
    same = {"optimizer": SGD(lambda epoch: 0.3 / (1 + epoch)), "batch_size": 16, "epochs": 12, "patience": 2}
    found = nets[0].train(X[own], T[own], validation=(X[held], T[held]), comm=WORLD, **same)
    expected = nets[1].train(X, T, validation=(X[:50], T[:50]), **same)
    np.testing.assert_allclose(found.validation, expected.validation, rtol=RELATIVE)
    assert (found.n_epochs, found.stopped) == (expected.n_epochs, expected.stopped)
    assert_close(*nets)
    for net, comm, rows in ((nets[0], WORLD, own), (nets[1], None, slice(None))):
        history = net.train(X[rows], T[rows], optimizer=GradientDescent(1e-6), tol=1e-5, epochs=9, comm=comm)
        assert (history.n_epochs, history.stopped) == (1, "tol")
    # one rank's callback is enough; weights that all assign are rank 0's
    def stop(net, history):
        return history.n_epochs == 3 and WORLD.rank == last

    def assign(net, history):
        net.weights = [W + WORLD.rank for W in net.weights]

    history = nets[0].train(X[own], T[own], optimizer=SGD(0.1), epochs=9, callbacks=[stop, assign], comm=WORLD)
    assert (history.n_epochs, history.stopped) == (3, "callback")
    nets[1].train(X, T, optimizer=SGD(0.1), epochs=3, callbacks=[lambda net, _: setattr(net, "weights", net.weights)])
    assert_close(*nets)

    def fail(net, history):
        if WORLD.rank == last:
            raise KeyError("gone")

    kind = KeyError if WORLD.rank == last else RuntimeError
    with pytest.raises(kind, match="gone" if WORLD.rank == last else f"rank {last}: KeyError: 'gone'"):
        nets[0].train(X[own], T[own], optimizer=SGD(0.1), epochs=9, callbacks=[fail], comm=WORLD)
    if WORLD.size > 1:
        with pytest.raises(RuntimeError, match=f"assigned weights or biases on rank {last} and none on rank 0"):
            only = [assign] if WORLD.rank == last else []
            nets[0].train(X[own], T[own], optimizer=SGD(0.1), epochs=9, callbacks=only, comm=WORLD)


def refusals(folder):
    """What one rank has wrong is refused on all, before anything has changed."""
    X, T, weight = problem([9, 5, 4], 203)
    own, last = shard(203), WORLD.size - 1
    is_last = WORLD.rank == last

    def refused(text, net=None, kind=ValueError, X=X[own], T=T[own], comm=WORLD, **arguments):
        net = network([9, 5, 4]) if net is None else net
        before = digest(net)
        with pytest.raises(kind, match=text):
            net.train(X, T, comm=comm, **{"optimizer": SGD(0.1), "epochs": 1, **arguments})
        assert digest(net) == before

    named = "" if is_last else f"rank {last}: "
    refused(f"^{named}epochs is -1", epochs=-1 if is_last else 1)
    refused(f"^{named}X has shape", X=X[own, :8] if is_last else X[own])
    refused(f"^{named}sample_weight holds nan", sample_weight=np.full(len(X[own]), np.nan if is_last else 1))
    refused("sample_weight is 0.0 everywhere", sample_weight=np.zeros(len(X[own])))
    bad = X[own].copy()
    bad[0, 3] = np.nan if is_last else 1
    refused(f"^{named}X holds nan at row 0, column 3", X=bad)
    refused(f"^{named}X holds nan at row 0, column 3", X=bad, optimizer=fastmlp.LBFGS())
    if WORLD.size > 1:
        with threadpool_limits(1 if is_last else 2, "blas"):
            refused("threads of BLAS", optimizer=fastmlp.LBFGS())
    refused("T is None", T=None)
    refused("window is 5; comm allows None only", window=5)
    refused("comm is 5; None or an intracommunicator", comm=5)
    refused("comm is .*; None or an intracommunicator", comm=MPI.COMM_NULL)
    with pytest.raises(fastmlp.DivergenceError):
        network([9, 5, 4], output="identity").train(X[own], T[own], optimizer=SGD(1e9), epochs=20, comm=WORLD)
    if WORLD.size == 1:
        return
    own_net = {"net": network([9, 5 + is_last, 4])}
    refused(rf"sizes is .* on rank {last} and .* on rank 0; the same on all ranks is allowed", **own_net)
    refused(f"dtype is .* on rank {last}", net=network([9, 5, 4], dtype="float32" if is_last else "float64"))
    refused(f"batch_size is 9 on rank {last} and 8 on rank 0", batch_size=8 + is_last)
    refused(f"optimizer is .* on rank {last}", optimizer=SGD(0.2 if is_last else 0.1))
    refused("whether sample_weight is given is True", sample_weight=weight[own] if is_last else None)
    group = WORLD.Split(WORLD.rank > 0)
    between = group.Create_intercomm(0, WORLD, 1 if WORLD.rank == 0 else 0)
    refused("an intracommunicator", comm=between)
    mpi.cache_key = lambda: f"of rank {WORLD.rank}"
    refused("the kernels' code is 'of rank 1'.*NUMBA_CPU_NAME and NUMBA_CPU_FEATURES")


def checkpoints(folder):
    """What some ranks have begun, any other number of them ends, or one process without a communicator."""
    X, T, weight = problem([9, 21, 4], 203)
    twin = network([9, 21, 4], dropout=0.2)
    same = {"optimizer": Adam(0.01), "batch_size": 16, "patience": 3}
    twin.train(X, T, sample_weight=weight, validation=(X[:50], T[:50]), epochs=6, **same)

    def go_on(path, size, epochs, X=X):
        net = network([9, 21, 4], dropout=0.2)
        comm = WORLD.Split(0 if WORLD.rank < size else MPI.UNDEFINED) if size else WORLD.Split(WORLD.rank)
        if comm == MPI.COMM_NULL or (size == 0 and WORLD.rank > 0):
            return net
        own = shard(203, comm, seed=epochs) if size else slice(None)
        held = slice(comm.rank * 50 // comm.size, (comm.rank + 1) * 50 // comm.size)
        given = {"sample_weight": weight[own], "validation": (X[held], T[held]), "checkpoint": path}
        net.train(X[own], T[own], epochs=epochs, comm=comm if size else None, **same, **given)
        return net

    k = WORLD.size
    for first, second in dict.fromkeys(((k, 0), (0, k), (k, max(1, k - 1)), (max(1, k - 1), k))):
        path = folder / f"{k}-{first}-{second}.fastmlp"
        go_on(path, first, 3)
        WORLD.Barrier()
        net = go_on(path, second, 6)
        if WORLD.rank < max(1, second):
            for a, b in zip(arrays_of(net), arrays_of(twin), strict=True):
                assert np.linalg.norm(a - b) <= RELATIVE * np.linalg.norm(b)
        WORLD.Barrier()
    with pytest.raises(ValueError, match="is a checkpoint of another run: hash of some rows was"):
        go_on(path, k, 6, X + 1)


def estimators(folder):
    """fit(comm=...) is fit on the concatenated data: classes, their weights, early stopping, scores, checkpoints."""
    m = 240
    X, _, weight = problem([6, 1], m)
    several = np.array(["apple", "fig", "pear"])[X[:, :3].argmax(axis=1)]
    yes, many, real = (X[:, 0] > 0).astype(int), (X[:, :3] > 0).astype(int), np.sin(X[:, 0]) + X[:, 1]
    by_class = np.argsort(several, kind="stable")  # so that ranks have other classes
    stops = {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 20}
    classifier, regressor = fastmlp.MLPClassifier, fastmlp.MLPRegressor
    fits = (
        (classifier, {"class_weight": "balanced"}, X[by_class], several[by_class], False, False),
        (classifier, {**stops, "class_weight": {0: 1.0, 1: 3.0}}, X, yes, True, False),
        (classifier, stops, X, many, False, False),
        (classifier, {"solver": "lbfgs", "alpha": 1.0}, X, yes, True, False),
        (regressor, {**stops, "dropout": 0.2, "batch_size": 30}, X, real, True, False),
        (regressor, {"solver": "gd", "alpha": 0.1}, X, real, True, True),
        (regressor, {"loss": "poisson", "solver": "sgd", "learning_rate": lambda e: 0.01}, X, real**2, False, True),
    )
    own = shard(m)
    held = slice(WORLD.rank * 50 // WORLD.size, (WORLD.rank + 1) * 50 // WORLD.size)
    for number, (make, parameters, data, y, weighted, scored) in enumerate(fits):
        one, several_ranks = ({}, {})
        if weighted:
            one, several_ranks = {"sample_weight": weight}, {"sample_weight": weight[own]}
        if scored:
            one["eval_set"], several_ranks["eval_set"] = (data[:50], y[:50]), (data[held], y[held])
        settings = {"hidden_layer_sizes": (12,), "max_iter": 4, "random_state": 0, **parameters}
        expected = make(**settings).fit(data, y, **one)
        path = folder / f"{WORLD.size}-{number}.fastmlp"
        found = make(**settings).fit(data[own], y[own], comm=WORLD, checkpoint=path, **several_ranks)
        assert_close(found, expected, 1e-9 if settings.get("solver") == "lbfgs" else RELATIVE)
        assert (found.n_iter_, found.t_) == (expected.n_iter_, expected.t_)
        assert abs(found.loss_ - expected.loss_) < 1e-9
        if getattr(expected, "validation_scores_", None) is not None:
            np.testing.assert_allclose(found.validation_scores_, expected.validation_scores_, rtol=1e-12)
        if make is classifier:
            assert np.array_equal(found.classes_, expected.classes_)
        if WORLD.rank == 0:  # one process finds the fit finished
            again = make(**settings).fit(data, y, checkpoint=path, **one)
            assert digest(again) == digest(found)
    for text, settings in (("scoring is 'accuracy'; comm allows", {"scoring": "accuracy"}), ("'alpha'", {"alpha": -1})):
        with pytest.raises(ValueError, match=text):
            own_settings = settings if WORLD.rank == WORLD.size - 1 else {}
            fastmlp.MLPClassifier(**own_settings).fit(X[own], yes[own], comm=WORLD)
    if WORLD.size > 1:
        with pytest.raises(ValueError, match="alpha is 1.0 on rank 1 and 0.0 on rank 0"):
            fastmlp.MLPClassifier(alpha=float(WORLD.rank)).fit(X[own], yes[own], comm=WORLD)
        own_y = yes[own].astype(str) if WORLD.rank == 1 else yes[own]
        with pytest.raises(ValueError, match="whether y holds numbers is False on rank 1 and True on rank 0"):
            fastmlp.MLPClassifier().fit(X[own], own_y, comm=WORLD)
    generator, alone = np.random.RandomState(WORLD.rank), np.random.RandomState(0)
    for _ in range(2):  # rank 0's generator goes on from fit to fit
        found = fastmlp.MLPClassifier((5,), max_iter=2, random_state=generator).fit(X[own], yes[own], comm=WORLD)
        assert_close(found, fastmlp.MLPClassifier((5,), max_iter=2, random_state=alone).fit(X, yes))
    # a score that was not finite is no difference between ranks
    settings = {"hidden_layer_sizes": (5,), "max_iter": 2, "random_state": 0, "early_stopping": True}
    warm = regressor(**settings, warm_start=True).fit(X, real)
    warm.validation_scores_[0] = np.nan
    warm.fit(X[own], real[own], comm=WORLD)
    assert len(warm.validation_scores_) == 4


def dies(folder):
    """The last rank is killed after its third epoch."""
    X, T, _ = problem([9, 21, 4], 203)
    own = shard(203)

    def die(net, history):
        if history.n_epochs == 4 and WORLD.rank == WORLD.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    arguments = {"optimizer": Adam(0.01), "batch_size": 16, "epochs": 8, "checkpoint": folder / "killed.fastmlp"}
    network([9, 21, 4]).train(X[own], T[own], callbacks=[die], comm=WORLD, **arguments)


def fails_elsewhere(folder):
    """A rank meets an error before it trains."""
    X, T, _ = problem([9, 21, 4], 203)
    if WORLD.rank == 1:
        raise FileNotFoundError("no part for rank 1")
    network([9, 21, 4]).train(X, T, optimizer=SGD(0.1), epochs=1, comm=WORLD)


def fails_in_an_epoch(folder):
    """A rank meets an error that the others cannot learn of while they wait for its numbers."""
    X, T, _ = problem([9, 21, 4], 203)
    own = shard(203)
    mpi.PATIENCE = 0.5
    run = mpi.SharedEpochs._run_minibatch

    def fail(self, threads, first, last):
        if WORLD.rank == 1 and first == 5:
            raise MemoryError("none left")
        run(self, threads, first, last)

    mpi.SharedEpochs._run_minibatch = fail
    network([9, 21, 4]).train(X[own], T[own], optimizer=SGD(0.1), batch_size=16, epochs=8, comm=WORLD)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in sys.argv[1].split(","):
        globals()[name](Path(sys.argv[2]))
        if WORLD.rank == 0:
            print("did", name, flush=True)
