"""How much sooner are many small networks trained together than one by one?

    pip install -e ".[bench]" && python benchmarks/many.py [--rounds 5]

Two questions, each answer in a process of its own, taken in turn for several rounds; medians and ratios are printed and
saved to results/many.json:

    networks   100 networks 64-32-10 on the digits: `train_many`, a loop over `train`, and JAX's vmap over its scan
    search     a grid of candidates on the digits: `MLPSearchCV`, and GridSearchCV over scikit-learn's MLPClassifier and
               over fastmlp's on as many processes as there are cores; the scores are compared
"""

import argparse
import json
import statistics
import time
import warnings

import numpy as np

from epochs import ADAM_RATE, LEARNING_RATE, Case, jax_epoch, seconds_per_epoch
from machine import HERE, RESULTS, ask, confine, cores, describe, environment, save
from suite import Timed, by_profile, limited

NETWORKS = 100


class Digits(Case):
    """A network for scikit-learn's digits."""

    def data(self, dtype):
        """The first of the digits, scaled to [0, 1], and one-hot rows."""
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return (X[: self.examples] / 16).astype(dtype), np.eye(10, dtype=dtype)[y[: self.examples]]


CASES = {
    "lecture, minibatches of 32": Digits((64, 32, 10), 32, 1792, "lecture"),
    "practice, minibatches of 32": Digits((64, 32, 10), 32, 1792, "practice"),
    "practice, minibatches of 128": Digits((64, 32, 10), 128, 1792, "practice"),
}


def networks_of(case, dtype, count):
    """fastmlp's networks for a case, with seeds of their own, and their optimizer."""
    import fastmlp

    recipe = {"init": "glorot", "dtype": dtype}
    if case.practice:
        recipe |= {"activation": "relu", "output": "softmax", "loss": "log_loss"}
    optimizer = fastmlp.Adam(ADAM_RATE) if case.practice else fastmlp.SGD(LEARNING_RATE)
    return [fastmlp.Network(case.sizes, random_state=k, **recipe) for k in range(count)], optimizer


def together(case, dtype, count):
    """fastmlp: `train_many`."""
    import fastmlp

    nets, optimizer = networks_of(case, dtype, count)
    X, T = case.data(dtype)

    def train(epochs):
        fastmlp.train_many(nets, X, T, optimizer, batch_size=case.batch, epochs=epochs)

    return train, lambda: [net.weights for net in nets]


def one_by_one(case, dtype, count):
    """fastmlp: a loop over `train`."""
    nets, optimizer = networks_of(case, dtype, count)
    X, T = case.data(dtype)

    def train(epochs):
        for net in nets:
            net.train(X, T, optimizer=optimizer, batch_size=case.batch, epochs=epochs)

    return train, lambda: [net.weights for net in nets]


def jax_together(case, dtype, count):
    """JAX: one jitted call an epoch of all networks, vmap over their scans, parameters donated."""
    import jax
    import jax.numpy as jnp

    epoch, one = jax_epoch(case, dtype, "cpu")
    nets, _ = networks_of(case, dtype, count)
    parameters = [
        tuple(jnp.stack([getattr(net, name)[l] for net in nets]) for name in ("weights", "biases"))
        for l in range(len(case.sizes) - 1)
    ]
    _, *rest = jax.tree.map(lambda p: jnp.broadcast_to(p, (count, *p.shape)).copy(), one)
    state, keys = (parameters, *rest), jax.random.split(jax.random.key(0), count)
    X, T = map(jnp.asarray, case.data(dtype))
    compiled = jax.jit(jax.vmap(epoch, in_axes=(0, 0, None, None)), donate_argnums=0)

    def train(epochs):
        nonlocal state, keys
        for _ in range(epochs):
            state, keys = compiled(state, keys, X, T)
        jax.block_until_ready(state)

    return train, lambda: [[np.asarray(W[k]) for W, _ in state[0]] for k in range(count)]


WAYS = {"together": together, "one by one": one_by_one, "jax": jax_together}

GRID = {"hidden_layer_sizes": [(16,), (32,), (64,)], "alpha": [1e-5, 1e-3, 1e-1], "learning_rate_init": [1e-3, 1e-2]}
FOLDS, MAX_ITER = 5, 20
SEARCHES = {"minibatches of 32": {"batch_size": 32}, "minibatches of 200": {}}
SEARCHERS = ("MLPSearchCV", "scikit-learn", "GridSearchCV over fastmlp")


def search(way, case, threads):
    """Seconds of a search, and the mean score of each candidate."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier

    import fastmlp

    warnings.simplefilter("ignore")  # they do not converge in so few epochs
    X, y = load_digits(return_X_y=True)
    X, settings = X / 16, {"max_iter": MAX_ITER, "random_state": 0, **SEARCHES[case]}
    if way == "MLPSearchCV":
        made = fastmlp.MLPSearchCV(fastmlp.MLPClassifier(**settings), GRID, cv=FOLDS)
    else:
        estimator = (MLPClassifier if way == "scikit-learn" else fastmlp.MLPClassifier)(**settings)
        made = GridSearchCV(estimator, GRID, cv=FOLDS, n_jobs=threads)
    made.fit(X[::8], y[::8])  # starts the processes, and loads or compiles what there is to
    begin = time.perf_counter()
    made.fit(X, y)
    return time.perf_counter() - begin, made.cv_results_["mean_test_score"].tolist()


class Networks(Timed):
    """What is there to gain by training networks together? Decides how seeds, folds and searches are trained.

    An epoch of 100 networks 64-32-10 on the digits.
    """

    param_names = ["way", "case"]
    params = [list(WAYS), by_profile(list(CASES)[:1], list(CASES))]

    def setup(self, way, case):
        limited(cores())
        try:
            self.train, _ = WAYS[way](CASES[case], "float32", by_profile(10, NETWORKS))
        except ImportError as error:
            if error.name == "fastmlp":
                raise
            raise NotImplementedError(f"{way} is left out: {error}") from None
        self.train(1)

    def time_epoch(self, way, case):
        self.train(1)

    time_epoch.pretty_name = "Epoch of many networks"


def one(question, way, case, threads):
    """Answer in this process."""
    confine(threads)
    if question == "search":
        seconds, scores = search(way, case, threads)
        return {"seconds": seconds, "scores": scores}
    try:
        train, _ = WAYS[way](CASES[case], "float32", NETWORKS)
    except ImportError as error:
        if way != "jax":
            raise
        return {"absent": str(error)}
    return {"times": [t / NETWORKS for t in seconds_per_epoch(train, samples=3, seconds=1.0)]}


def main():
    parser = argparse.ArgumentParser(description="Compare training many networks together with one by one.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--one", nargs=3, metavar=("QUESTION", "WAY", "CASE"), help="one answer, as JSON")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(*args.one, args.threads)))
        return
    command, env = (HERE / "many.py", "--threads", args.threads, "--one"), environment(args.threads)
    rows = {}
    for case in CASES:
        times = {way: [] for way in WAYS}
        for _ in range(args.rounds):
            for way in WAYS:
                times[way] += ask(*command, "networks", way, case, env=env).get("times", [])
        rows[case] = {way: {"median": statistics.median(t), "times": t} for way, t in times.items() if t}
        ours = rows[case]["together"]["median"]
        said = ", ".join(f"{way} {row['median'] / ours:.2f}x" for way, row in rows[case].items() if way != "together")
        print(f"{case}: {1e6 * ours:.0f} us an epoch of a network together; {said}", flush=True)
    searches = {}
    for case in SEARCHES:
        found = {way: [] for way in SEARCHERS}
        for _ in range(args.rounds):
            for way in SEARCHERS:
                found[way].append(ask(*command, "search", way, case, env=env))
        ours = np.array(found["MLPSearchCV"][0]["scores"])
        searches[case] = {
            way: {
                "median": statistics.median(reply["seconds"] for reply in replies),
                "times": [reply["seconds"] for reply in replies],
                "largest_difference_of_scores": float(abs(np.array(replies[0]["scores"]) - ours).max()),
            }
            for way, replies in found.items()
        }
        for way, row in searches[case].items():
            ratio = row["median"] / searches[case]["MLPSearchCV"]["median"]
            off = row["largest_difference_of_scores"]
            print(f"{case}, {way}: {row['median']:.2f} s, {ratio:.2f}x; scores differ by {off:.2g}", flush=True)
    where = describe() | {"threads": args.threads, "rounds": args.rounds, "networks": NETWORKS}
    fits = {"candidates": int(np.prod([len(v) for v in GRID.values()])), "folds": FOLDS, "max_iter": MAX_ITER}
    save(where | {"cases": rows, "search": fits | {"cases": searches}}, RESULTS / "many.json")


if __name__ == "__main__":
    main()
