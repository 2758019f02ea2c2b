"""How long does one wait for fastmlp: for a row's prediction, an import, a first training, a second thread?

    python benchmarks/latency.py [--only forward import start threads]

    forward  one row through `Network.forward` beside hand-written NumPy, each in its own process, taken in turn
    import   `import fastmlp` after `import numba`
    start    the first training of each dtype, with an empty kernel cache and in a later process that finds it filled
    threads  an epoch with two threads beside one, over widths and minibatch sizes
"""

import argparse
import json
import statistics
import sys
import tempfile
import time

import numpy as np

from epochs import Case
from machine import HERE, RESULTS, ChildError, ask, cores, describe, environment, save

NETWORKS = {
    "784-128-10": [784, 128, 10],
    "64-32-10": [64, 32, 10],
    "2-8-1": [2, 8, 1],
    "1024x3": [1024, 1024, 1024, 10],
}
WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
BATCHES = (16, 32, 64, 128, 256, 512)

IMPORT = """
import json, time
start = time.perf_counter()
import numba
middle = time.perf_counter()
import fastmlp
print(json.dumps([middle - start, time.perf_counter() - middle]))
"""


def numpy_forward(weights, biases):
    """Forward pass (eq. 7, logistic units) as one writes it by hand in NumPy."""

    def forward(x):
        a = x
        for W, b in zip(weights, biases):
            a = a @ W
            a += b
            np.negative(a, out=a)
            np.exp(a, out=a)
            a += 1
            np.reciprocal(a, out=a)
        return a

    return forward


def forward_child(who, name, calls=2000):
    """Median time of one call with one row, in seconds."""
    sizes = NETWORKS[name]
    if who == "fastmlp":
        import fastmlp

        net = fastmlp.Network(sizes, init="glorot", device="cpu", random_state=0)
        forward = net.forward
    else:
        forward = numpy_forward(*Case(sizes, 1, 1, "lecture").parameters("float32"))
    x = np.random.default_rng(0).random((1, sizes[0]), dtype=np.float32)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        forward(x)
        times.append(time.perf_counter() - start)
    return statistics.median(times[calls // 10 :])


def start_child(dtype):
    """Seconds of the import and of the first training with each optimizer, in this order, in this process."""
    start = time.perf_counter()
    import fastmlp

    seconds = {"import": time.perf_counter() - start}
    case = Case([64, 32, 10], 32, 320, "lecture")
    X, T = case.data(dtype)
    for optimizer in (fastmlp.SGD(0.1), fastmlp.Adam(), fastmlp.GradientDescent(0.1)):
        net = fastmlp.Network(case.sizes, dtype=dtype, device="cpu", random_state=0)
        start = time.perf_counter()
        net.train(X, T, optimizer=optimizer, epochs=1)
        seconds[type(optimizer).__name__] = time.perf_counter() - start
    return seconds


def threads_child(width, batch, seconds=0.05, samples=7):
    """Median seconds an epoch with one thread and with two, taken in turn in this process."""
    import numba

    import fastmlp

    case = Case([width, width, width, 10], batch, max(1024, 4 * batch), "lecture")
    X, T = case.data("float32")
    net = fastmlp.Network(case.sizes, device="cpu", random_state=0)

    def timed(threads, epochs):
        numba.set_num_threads(threads)
        start = time.perf_counter()
        net.train(X, T, optimizer=fastmlp.SGD(0.01), batch_size=batch, epochs=epochs)
        return (time.perf_counter() - start) / epochs

    timed(2, 1)
    epochs = max(1, round(seconds / timed(1, 1)))
    pairs = [(timed(1, epochs), timed(2, epochs)) for _ in range(samples)]
    return [statistics.median(times) for times in zip(*pairs)]


def measure_forward(rounds):
    print(f"\n{'one row, us':16}{'fastmlp':>10}{'numpy':>10}{'ratio':>8}")
    figures, env = {}, environment(cores())
    for name in NETWORKS:
        times = {"fastmlp": [], "numpy": []}
        for _ in range(rounds):
            for who in times:
                times[who].append(ask(HERE / "latency.py", "--child", "forward", who, name, env=env))
        ours, numpy = (statistics.median(t) for t in times.values())
        figures[name] = {"fastmlp": ours, "numpy": numpy, "ratio": ours / numpy, "times": times}
        print(f"{name:16}{ours * 1e6:10.2f}{numpy * 1e6:10.2f}{ours / numpy:8.2f}", flush=True)
    return figures


def measure_import(rounds):
    env = environment(cores())
    times = [ask("-c", IMPORT, env=env) for _ in range(2 * rounds + 1)][1:]  # the first one fills the disk's cache
    numba, ours = (statistics.median(t) for t in zip(*times))
    print(f"\nimport numba {numba:.3f} s, then import fastmlp {ours:.3f} s", flush=True)
    return {"numba": numba, "fastmlp": ours, "times": times}


def measure_start(rounds):
    print(f"\n{'first training, s':20}{'import':>10}{'SGD':>10}{'Adam':>10}{'GradientDescent':>18}")
    figures = {}
    for dtype in ("float32", "float64"):
        times = {"empty cache": [], "filled cache": []}
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as cache:
                env = environment(cores(), FASTMLP_CACHE_DIR=cache)
                for state in times:
                    times[state].append(ask(HERE / "latency.py", "--child", "start", dtype, env=env))
        figures[dtype] = {}
        for state, runs in times.items():
            medians = {what: statistics.median(run[what] for run in runs) for what in runs[0]}
            figures[dtype][state] = {"medians": medians, "runs": runs}
            shown = "".join(f"{medians[what]:{w}.3f}" for what, w in zip(medians, (10, 10, 10, 18)))
            print(f"{dtype}, {state:13}"[:20].ljust(20) + shown, flush=True)
    return figures


def measure_threads(rounds):
    print("\nspeed-up of two threads over one (network w-w-w-10)")
    print(f"{'width':>8}" + "".join(f"{f'batch {batch}':>11}" for batch in BATCHES))
    figures, env = {}, environment(2)
    for width in WIDTHS:
        print(f"{width:8}", end="", flush=True)
        for batch in BATCHES:
            runs = [ask(HERE / "latency.py", "--child", "threads", width, batch, env=env) for _ in range(rounds)]
            one, two = (statistics.median(t) for t in zip(*runs))
            figures[f"{width}-b{batch}"] = {"one": one, "two": two, "speed_up": one / two}
            print(f"{one / two:11.2f}", end="", flush=True)
        print()
    return figures


QUESTIONS = {
    "forward": measure_forward,
    "import": measure_import,
    "start": measure_start,
    "threads": measure_threads,
}


def child(what, *arguments):
    """The part of a measurement that needs its own process; prints JSON."""
    if what == "forward":
        return forward_child(*arguments)
    if what == "start":
        return start_child(*arguments)
    return threads_child(*map(int, arguments))


def main():
    parser = argparse.ArgumentParser(description="Measure fastmlp's latencies.")
    parser.add_argument("--only", nargs="+", choices=QUESTIONS, default=list(QUESTIONS), help="questions to ask")
    parser.add_argument("--rounds", type=int, default=3, help="processes a figure is the median of")
    parser.add_argument("--output", default=RESULTS / "latency.json", metavar="FILE", help="JSON file to write")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(*args.child)))
        return
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if "threads" in args.only and cores() < 2:
        parser.error("two cores are needed for --only threads")
    result = describe()
    for question in args.only:
        result[question] = QUESTIONS[question](args.rounds)
    save(result, args.output)


if __name__ == "__main__":
    try:
        main()
    except ChildError as error:
        sys.exit(f"latency.py: a child process failed: {error}")
