"""How does training scale over the ranks of MPI, beside the ideal and a model, and what would 64 nodes do?

    pip install -e ".[bench,mpi]" && python benchmarks/mpi.py

trains the networks of `epochs.py` on 1, 2, ... ranks of one thread each, as many as there are cores (with more they
would share cores), with the same minibatch (strong scaling) and with one as many times larger (weak scaling), and saves
`results/mpi.json`. There is one machine: what travels, does so through its memory. So a model is checked against it,
and says what networks of other speeds would do.

A step of k ranks takes the time of its own rows and of the messages. Gradients travel in buckets of n bytes, each in
two stages, to those who add them and back; a rank sends and gets n (k - 1) / k bytes in each:

    step(k)  = compute + sum over buckets of (calls + message(n)) - hidden
    message(n) = 2 (latency + (k - 2) each + n (k - 1) / (k bandwidth)) + 3 n / adding
    hidden   = overlap min(messages of all buckets but the last, compute of the layers below the first one)

Calls are what Python and the MPI library take for a bucket without examples or bytes, measured on a network of one
weight. The 3 n are the parts that are added, and U and V, which are written and read once more where one process
updates each tile of W while its U is in the cache. Compute is measured on k ranks at once that train alone (they share
the memory, and the processor's clock), latency, each (what one more message costs its sender), bandwidth, adding and
overlap (the share of a message that arrives while its receiver computes) in the same run. For 64 nodes latency and
bandwidth are those of a network of 10, 25 or 100 Gbit/s and compute is that of all this machine's threads; efficiencies
are given with no overlap and with a whole one.
"""

import argparse
import fnmatch
import functools
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

from epochs import CASES, Case, fastmlp_network
from machine import HERE, RESULTS, ChildError, cores, describe, environment, save

NODES = 64
ONE_WEIGHT = Case((1, 1), 64, 6400, "lecture")
# Gbit/s, and the latency in seconds that goes with it: TCP over Ethernet, and RDMA.
NETWORKS = {"10": (10e9 / 8, 30e-6), "25": (25e9 / 8, 15e-6), "100": (100e9 / 8, 2e-6)}


def message_seconds(size, ranks, link):
    """The model's time of a bucket of so many bytes."""
    if ranks == 1:
        return 0.0
    stage = link["latency"] + (ranks - 2) * link["each"] + size * (ranks - 1) / (ranks * link["bandwidth"])
    return 2 * stage + 3 * size / link["adding"]


def step_seconds(compute, below, buckets, ranks, link):
    """The model's time of a step.

    Parameters
    ----------
    compute : float
        Seconds that a rank's own rows take.
    below : float
        The part of it that is left when the first bucket is sent.
    buckets : list of int
        Bytes of each, the top layers' first.
    ranks : int
    link : dict
        latency, each, calls (seconds), bandwidth, adding (bytes a second) and overlap (0 ... 1).
    """
    messages = [message_seconds(size, ranks, link) for size in buckets]
    calls = link["calls"] * len(buckets) if ranks > 1 else 0.0
    return compute + calls + sum(messages) - link["overlap"] * min(sum(messages[:-1]), below)


def below_share(sizes, layers):
    """The share of a step's operations that is backward and accumulation below its top `layers` layers of weights."""
    work = [n_in * n_out for n_in, n_out in zip(sizes, sizes[1:])]
    rest = work[: len(work) - layers]
    return (4 * sum(rest) - (2 * rest[0] if rest else 0)) / (6 * sum(work) - 2 * work[0])


# ---- what a rank does ------------------------------------------------------------------------------------------------


def best(function, comm, seconds):
    """The shortest time of a call that all ranks make at once, over about so many seconds."""
    times, end = [], time.perf_counter() + seconds
    while True:
        comm.Barrier()
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
        if comm.bcast(time.perf_counter() > end and len(times) > 2):
            return comm.allreduce(min(times), MPI.MAX)


def link_of(comm, seconds):
    """The model's parameters of this machine, measured between its ranks."""
    import numpy as np

    size = comm.size

    def exchange(numbers, times=1):
        out = np.ones(numbers * size, np.float32)
        back = np.empty_like(out)
        counts = [numbers] * size

        def run():
            for _ in range(times):
                comm.Ialltoallv([out, counts, MPI.FLOAT], [back, counts, MPI.FLOAT]).Wait()

        return run

    large = 1 << 20
    latency = best(exchange(4, 200), comm, seconds) / 200
    took = best(exchange(large), comm, seconds)
    bandwidth = 4 * large * (size - 1) / max(took - latency, 1e-9)
    parts, total = np.ones((size, large), np.float32), np.empty(large, np.float32)
    adding = parts.nbytes / best(lambda: np.add.reduce(parts, axis=0, out=total), comm, seconds)

    def many(numbers=50):
        buffers = np.empty((numbers, 4), np.float32)
        after, before = (comm.rank + 1) % size, (comm.rank - 1) % size
        requests = [comm.Irecv(buffers[n], before, n) for n in range(numbers)]
        MPI.Request.Waitall(requests + [comm.Isend(parts[0, :4], after, n) for n in range(numbers)])

    each = best(many, comm, seconds) / 50

    def left_over():
        out, back, counts = np.ones(large * size, np.float32), np.empty(large * size, np.float32), [large] * size
        request = comm.Ialltoallv([out, counts, MPI.FLOAT], [back, counts, MPI.FLOAT])
        end = time.perf_counter() + 2 * took
        while time.perf_counter() < end:
            pass
        begin = time.perf_counter()
        request.Wait()
        return time.perf_counter() - begin

    waits = [comm.allreduce(left_over(), MPI.MAX) for _ in range(5)]
    overlap = min(1.0, max(0.0, 1 - min(waits) / took))
    return {"latency": latency, "each": each, "bandwidth": bandwidth, "adding": adding, "overlap": overlap}


def train_seconds(case, batch, rows, together, comm, seconds):
    """Seconds of a step of `batch` examples, of which this rank has `rows`; the network, and what it is trained on."""
    net, optimizer, _ = fastmlp_network(case, "float32")
    X, T = case.data("float32")
    full = case.batch == case.examples
    count = rows if full else len(X) * rows // case.batch
    X, T = X[:count], T[:count]
    settings = {"optimizer": optimizer, **({} if full else {"batch_size": batch})}
    steps = 1 if full else math.ceil(count / rows)
    if together:
        settings["comm"] = comm

    def train(epochs):
        net.train(X, T, epochs=epochs, **settings)

    train(1)
    begin = time.perf_counter()
    train(3)
    # so long that the handshake before a training, less than a millisecond, does not count
    epochs = max(1, comm.bcast(int(0.2 * seconds / max(1e-6, (time.perf_counter() - begin) / 3))))
    return best(lambda: train(epochs), comm, seconds) / (epochs * steps), net, (X, T, optimizer)


def buckets_of(net, data, batch, comm):
    """Layers and bytes of the messages of a step, the top ones first, and the bytes that this rank sends."""
    from fastmlp import mpi
    from fastmlp.training import rule

    X, T, optimizer = data
    with mpi.together(comm) as ranks:
        epochs = ranks.epochs(net._trainer, X, T, None, {"rule": rule(optimizer)}, batch)
        found = [(bucket.end - bucket.first, bucket.nbytes) for bucket in epochs.buckets]
        return found, epochs.bytes_sent


def rank_main(args):
    """Measure what this number of ranks does; rank 0 prints it."""
    global MPI
    import numba
    from mpi4py import MPI

    comm, size = MPI.COMM_WORLD, MPI.COMM_WORLD.size
    numba.set_num_threads(1)
    result = {"link": link_of(comm, args.seconds / 4) if size > 1 else None, "cases": {}}
    if size > 1:
        measure = functools.partial(train_seconds, ONE_WEIGHT, size, 1, comm=comm, seconds=args.seconds)
        (alone, *_), (shared, net, data) = measure(together=False), measure(together=True)
        (_, sent), *_ = buckets_of(net, data, size, comm)[0]
        result["link"]["calls"] = max(0.0, shared - alone - message_seconds(sent, size, result["link"]))
    for name in args.cases:
        case = CASES[name]
        rows = max(1, case.batch // size)
        found = result["cases"][name] = {}
        measure = functools.partial(train_seconds, case, comm=comm, seconds=args.seconds)
        found["alone, whole minibatch"], net, data = measure(case.batch, case.batch, together=False)
        found["alone, its rows"], *_ = measure(rows, rows, together=False)
        layers, found["bytes_sent_a_step"] = buckets_of(net, data, case.batch, comm)
        found["buckets"] = [{"layers": n, "bytes": size} for n, size in layers]
        found["strong"], *_ = measure(rows * size, rows, together=True)
        found["weak"], *_ = measure(case.batch * size, case.batch, together=True)
        if size == 1:
            numba.set_num_threads(args.threads)
            for key, part in (("all threads, whole minibatch", case.batch), ("all threads, half", case.batch // 2)):
                found[key], *_ = measure(part, part, together=False)
            numba.set_num_threads(1)
    if comm.rank == 0:
        print(json.dumps(result))


# ---- what is made of it ----------------------------------------------------------------------------------------------


def launch(ranks, threads, args):
    """What `rank_main` found on so many ranks."""
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    if mpiexec is None:
        sys.exit("mpi.py: mpiexec is not installed; pip install -e '.[mpi]'")
    names = ",".join(args.cases)
    command = [mpiexec, "-n", str(ranks), sys.executable, str(HERE / "mpi.py"), "--rank", "--cases", names]
    command += ["--seconds", str(args.seconds), "--threads", str(cores())]
    child = subprocess.run(command, env=environment(threads), capture_output=True, text=True)
    if child.returncode:
        raise ChildError("\n".join((child.stdout + child.stderr).strip().splitlines()[-5:]))
    return json.loads(child.stdout.splitlines()[-1])


def summarise(name, found, link):
    """Times, efficiencies and the model of one case.

    Parameters
    ----------
    found : dict of int to dict
        What each number of ranks found.
    link : dict of int to dict
        The model's parameters between that many ranks.
    """
    case, one = CASES[name], found[1]
    buckets = next((f["buckets"] for k, f in found.items() if k > 1), [])
    sizes = [bucket["bytes"] for bucket in buckets]
    share = below_share(case.sizes, buckets[0]["layers"]) if buckets else 0.0
    row = {"sizes": case.sizes, "batch": case.batch, "buckets": buckets, "ranks": {}}
    row["seconds_a_step_alone"] = one["alone, whole minibatch"]
    row["overhead_of_comm_on_one_rank"] = one["weak"] / one["alone, whole minibatch"] - 1
    for ranks, measured in found.items():
        entry = row["ranks"][str(ranks)] = {"bytes_sent_a_step": measured["bytes_sent_a_step"]}
        for kind, compute in (("strong", measured["alone, its rows"]), ("weak", measured["alone, whole minibatch"])):
            ideal = one["alone, whole minibatch"] / (ranks if kind == "strong" else 1)
            entry[kind] = {"seconds_a_step": measured[kind], "efficiency": ideal / measured[kind]}
            if ranks > 1:
                model = step_seconds(compute, share * compute, sizes, ranks, link[ranks])
                entry[kind] |= {"model": model, "model_over_measured": model / measured[kind]}
    whole, half = one["all threads, whole minibatch"], one["all threads, half"]
    each = max(0.0, (whole - half) / (case.batch - case.batch // 2))
    strong = max(whole - each * case.batch, 0.0) + each * max(1, case.batch // NODES)
    row["predicted"] = {}
    base = next(iter(link.values()), None)
    for speed, (bandwidth, latency) in NETWORKS.items() if base else ():
        entry = row["predicted"][speed] = {}
        for kind, compute, ideal in (("weak", whole, whole), ("strong", strong, whole / NODES)):
            for overlap in (0.0, 1.0):
                there = base | {"bandwidth": bandwidth, "latency": base["latency"] + latency, "overlap": overlap}
                took = step_seconds(compute, share * compute, sizes, NODES, there)
                entry[f"{kind} efficiency, {'with' if overlap else 'no'} overlap"] = ideal / took
    return row


def parse(arguments):
    parser = argparse.ArgumentParser(description="Measure and predict how training scales over ranks of MPI.")
    parser.add_argument("--cases", default="*", metavar="GLOB", help="cases to run, comma-separated (default: all)")
    parser.add_argument("--seconds", type=float, default=1.0, help="that a figure is measured (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=cores(), help=argparse.SUPPRESS)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--output", default=RESULTS / "mpi.json", metavar="FILE", help="JSON file to write")
    args = parser.parse_args(arguments)
    args.cases = [name for pattern in args.cases.split(",") for name in fnmatch.filter(CASES, pattern)]
    if not args.cases:
        parser.error(f"--cases: nothing matches; there are {', '.join(CASES)}")
    return args


def main(arguments=None):
    args = parse(arguments)
    if args.rank:
        return rank_main(args)
    found = {ranks: launch(ranks, cores() if ranks == 1 else 1, args) for ranks in range(1, cores() + 1)}
    links = {ranks: f["link"] for ranks, f in found.items() if ranks > 1}
    rows = {}
    print(f"{'':30}{'ranks':>6}{'weak':>8}{'model':>8}{'strong':>8}{'model':>8}{'KB sent':>9}", end="   ")
    print(f"weak on {NODES} nodes at")
    for name in args.cases:
        rows[name] = row = summarise(name, {ranks: f["cases"][name] for ranks, f in found.items()}, links)
        for ranks, entry in row["ranks"].items():
            print(f"{name:30}{ranks:>6}", end="")
            for kind in ("weak", "strong"):
                over = entry[kind].get("model_over_measured")
                print(f"{entry[kind]['efficiency']:8.0%}{'-' if over is None else f'{over:.2f}x':>8}", end="")
            print(f"{entry['bytes_sent_a_step'] / 1000:9.0f}", end="   ")
            if ranks != "1":
                for speed, there in row["predicted"].items():
                    low, high = (there[f"weak efficiency, {w} overlap"] for w in ("no", "with"))
                    print(f"{speed} Gbit/s: {low:.0%}-{high:.0%}", end="  ")
            print(flush=True)
    explained = {
        "strong": "the case's minibatch over all ranks; efficiency is one rank's time over (ranks * time)",
        "weak": "a whole minibatch on each rank; efficiency is one rank's time over the time",
        "model": "seconds a step by the model of benchmarks/mpi.py with the parameters in links",
        "links": "between ranks of this machine: latency, each, calls in seconds, bandwidth, adding in bytes a second",
        "predicted": f"by the model, {NODES} nodes that compute as fast as this machine, by the network's Gbit/s",
        "networks": "bytes a second and seconds of latency of the predicted networks",
        "ranks": "one thread each, on one machine",
    }
    result = describe() | {"explained": explained, "links": {str(k): link for k, link in links.items()}}
    save(result | {"networks": NETWORKS, "nodes": NODES, "cases": rows}, args.output)


if __name__ == "__main__":
    try:
        main()
    except ChildError as error:
        sys.exit(f"mpi.py: a rank failed: {error}")
