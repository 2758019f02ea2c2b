"""Is the CUDA backend right on this GPU, how near is it to the chip's limits, and how fast beside its peers?

    pip install -e ".[cuda,test,bench]" "jax[cuda13]" && python benchmarks/gpu.py

in this order: (a) the tests that run on the device, every kernel on ragged shapes against the lecture in float64; (b)
the machine's ceilings: multiply-adds, products, copies, a launch, a barrier of the grid; (c) epochs of fastmlp,
PyTorch (eager, CUDA graphs, torch.compile) and JAX (jit and scan) on the networks of epochs.py, and on a grid of
widths and minibatches, in float32, TF32 and bfloat16 (PyTorch under autocast), each peer in a process of its own, by
device events (JAX, which shows none, by the host's clock), medians; (d) JSON and tables under results/, named after
the device. Without a GPU it says why and ends with status 1.

A step's time is the difference between trainings of two lengths: a call of fastmlp's train copies the data to the
device, which the peers have done before. A child process that runs out of memory or time costs its figures, not the
others'; all is saved as it comes, and parts that are not run keep what the file had. All of it takes hours at the
worst. Where a GPU is there for minutes, run the parts by themselves, without installing anything if its packages are
there: `--only check --limit 240`, `--only ceilings`, then what matters most, one precision at a time, with
`--only peers --limit 100 --precisions bf16 --cases "fused*,mnist-784-128-10-b64,width-1024-b16384"` and `--peers`.
"""

import argparse
import fnmatch
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import numpy as np

from epochs import CASES, ON_GPU, Case
from machine import HERE, RESULTS, ROOT, describe, save

sys.path.insert(0, str(ROOT))  # fastmlp need not be installed

WIDTHS, BATCHES = (64, 256, 1024, 4096), (64, 1024, 16384, 65536)
STEPS = 8  # of an epoch of the grid's networks, at least
NUMBERS = 1 << 22  # of X in such an epoch, at least: a launch takes as long as many small steps
MOST_FLOPS = 2e13  # of such an epoch

PRECISIONS = ("float32", "tf32", "bf16")
TESTS = ("test_cuda", "test_tensor_cores", "test_fused")

GRID = {
    f"width-{width}-b{batch}": Case((width,) * 4 + (10,), batch, max(STEPS * batch, NUMBERS // width), "lecture")
    for width in WIDTHS
    for batch in BATCHES
}
TOO_LONG = [name for name, case in GRID.items() if case.flops > MOST_FLOPS]
GRID = {name: case for name, case in GRID.items() if name not in TOO_LONG}
EVERY = {
    **CASES,
    "mnist-784-128-10-b64": Case((784, 128, 10), 64, 1 << 16, "lecture"),
    "fused-64x4-b16384": Case((64,) * 5, 16384, 8 * 16384, "lecture"),
    **GRID,
}


# ---- ceilings ------------------------------------------------------------------------------------------------------


def events(run, repeats=20):
    """The median of some device times of run(), in seconds, after a warm-up."""
    from numba import cuda

    run()
    begin, end, times = cuda.event(), cuda.event(), []
    for _ in range(repeats):
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(cuda.event_elapsed_time(begin, end) / 1e3)
    return statistics.median(times)


def ceilings():
    """What the device can do at most, figure after figure, each by the plainest kernel that reaches it.

    The barrier comes last: a fault in it could hang the device.
    """
    from numba import cuda, float32

    from fastmlp.cuda.barrier import barrier
    from fastmlp.cuda.work import BARRIERS

    device = cuda.get_current_device()
    blocks, threads, rounds, chains = device.MULTIPROCESSOR_COUNT * 4, 256, 4096, 16

    @cuda.jit
    def multiply_add(out, x):
        sums = cuda.local.array(16, float32)
        for n in range(16):
            sums[n] = x
        for _ in range(rounds):
            for n in range(16):
                sums[n] = sums[n] * x + sums[n]
        total = float32(0)
        for n in range(16):
            total += sums[n]
        out[cuda.grid(1)] = total

    @cuda.jit
    def copy(source, target):
        for n in range(cuda.grid(1), source.size, cuda.gridsize(1)):
            target[n] = source[n]

    @cuda.jit
    def nothing(out):
        pass

    @cuda.jit
    def barriers(counters, times):
        chunk = cuda.shared.array(8, np.int64)
        if cuda.threadIdx.x == 0:
            chunk[BARRIERS] = 0
        for _ in range(times):
            barrier(counters, chunk)

    out = cuda.device_array(blocks * threads, np.float32)
    seconds = events(lambda: multiply_add[blocks, threads](out, np.float32(0.5)))
    yield {"fma_tflops": 2 * chains * rounds * blocks * threads / seconds / 1e12}
    numbers = 1 << 28
    source, target = (cuda.device_array(numbers, np.float32) for _ in range(2))
    yield {"copy_gb_s": 8 * numbers / events(lambda: copy[blocks * 8, threads](source, target)) / 1e9}
    many = 200
    yield {"launch_us": events(lambda: [nothing[1, 32](out) for _ in range(many)]) / many * 1e6}
    try:
        yield from products()
    except Exception as error:  # PyTorch is absent, or is a build for CPUs
        print(f"no products: {error}", file=sys.stderr)
    counters = cuda.to_device(np.zeros(2, np.uint32))

    def wait(times):
        counters.copy_to_device(np.zeros(2, np.uint32))
        barriers[device.MULTIPROCESSOR_COUNT, threads](counters, times)

    yield {"grid_barrier_us": (events(lambda: wait(1010)) - events(lambda: wait(10))) / 1000 * 1e6}


def products():
    """TFLOP/s of the vendor's products of the grid's widths, and of 4096, in each precision, one after the other."""
    import torch

    def rate(m, n, k, dtype):
        A, B, C = (torch.randn(shape, device="cuda", dtype=dtype) for shape in ((m, k), (k, n), (m, n)))
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)

        def seconds(count):
            begin.record()
            for _ in range(count):
                torch.mm(A, B, out=C)
            end.record()
            end.synchronize()
            return begin.elapsed_time(end) / 1e3

        for _ in range(3):
            seconds(10)
        many = 10  # of few, the time would be that of the host's launches
        while seconds(many) < 2e-3:
            many *= 2
        times = [seconds(many) / many for _ in range(10)]
        return 2.0 * m * n * k / statistics.median(times) / 1e12

    for precision in PRECISIONS:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        yield {f"gemm_{precision}_tflops": rate(4096, 4096, 4096, dtype)}
        every = {f"width-{width}-b{batch}": rate(batch, width, width, dtype) for width in WIDTHS for batch in BATCHES}
        yield {f"gemm_{precision}_of": every}


# ---- epochs --------------------------------------------------------------------------------------------------------


def timer(peer):
    """A function (train, epochs) -> seconds on the device, from before the first to behind the last launch."""
    if peer.startswith("torch"):
        import torch

        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        elapsed = begin.elapsed_time
    elif peer.startswith("fastmlp"):
        from numba import cuda

        begin, end = cuda.event(), cuda.event()
        elapsed = lambda end: cuda.event_elapsed_time(begin, end)  # noqa: E731
    else:  # JAX shows no events: its call ends when the device has ended

        def on_host(train, epochs):
            start = time.perf_counter()
            train(epochs)
            return time.perf_counter() - start

        return on_host

    def on_device(train, epochs):
        begin.record()
        train(epochs)
        end.record()
        end.synchronize()
        return elapsed(end) / 1e3

    return on_device


def measure(peer, precision, name, samples, seconds=0.1):
    """Device seconds of a step of a case's training: some samples, each of epochs that last for `seconds`."""
    case = EVERY[name]
    train, _ = ON_GPU[peer](case, "float32", 1, precision=precision)
    clock, epochs = timer(peer), 1
    train(1)
    while True:  # until the difference is more than what an upload's jitter could make it
        base = clock(train, 1)
        if clock(train, 1 + epochs) - base >= max(seconds, 2 * base):
            break
        epochs *= 2
    steps = epochs * case.steps
    return [(clock(train, 1 + epochs) - clock(train, 1)) / steps for _ in range(samples)]


def child(arguments):
    """Measure in this process and print one JSON line for each figure as it comes."""
    kind, *rest = arguments
    if kind == "ceilings":
        for figure in ceilings():
            print(json.dumps(figure), flush=True)
        return
    peer, precision, samples, *names = rest
    for name in names:
        try:
            print(json.dumps([name, measure(peer, precision, name, int(samples))]), flush=True)
        except Exception as error:  # a peer that is absent, or out of memory
            print(json.dumps([name, f"{type(error).__name__}: {error}"[:300]]), flush=True)


def environment():
    """Of a child: fastmlp is found, and is not simulated."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    return inherited | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def run(command, log, limit, **more):
    """Run a command with its output to the file `log`; returns what went wrong, if anything did."""
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment() | more, stdout=out, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            status = process.wait(timeout=max(0, limit))
        except BaseException as stopped:
            os.killpg(process.pid, signal.SIGKILL)  # compilers that it has started, too
            process.wait()
            if not isinstance(stopped, subprocess.TimeoutExpired):
                raise
            return f"took longer than {limit:.4g} s"
    return "" if status == 0 else f"status {status}"


def ask(arguments, limit, output):
    """The JSON lines that a child prints within a time limit, and how it ended where that was not well."""
    command = [sys.executable, str(HERE / "gpu.py"), "--child", *map(str, arguments)]
    log = os.path.join(output, "gpu-child.log")
    problem = run(command, log, limit)
    with open(log) as file:
        text = file.read()
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # a compiler's, say
            continue
    return lines, f"{problem}: {text[-2000:]}" if problem else ""


# ---- the report ----------------------------------------------------------------------------------------------------


def check(limit, output):
    """Run the device's tests, all within the limit, each file's output to a log; yields what is known after each."""
    end, found = time.monotonic() + limit, {"passed": True, "summary": ""}
    side_by_side = ["-n", "4"] if importlib.util.find_spec("xdist") else []
    for number, name in enumerate(TESTS):
        share = (end - time.monotonic()) / (len(TESTS) - number)
        log = os.path.join(output, f"gpu-{name}.log")
        command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "--maxfail=20", *side_by_side]
        command += [f"tests/{name}.py"]
        problem = run(command, log, share, FASTMLP_TEST_GPU="1")
        with open(log) as file:
            text = file.read()
        print(text[-3000:], flush=True)
        last = (text.strip().splitlines() or ["no output"])[-1]
        found["passed"] &= not problem
        found["summary"] += f"{'; ' if found['summary'] else ''}{name}: {problem and problem + ', '}{last}"
        yield found


def medians_of(result, precision, name):
    """The medians of a case: microseconds a step of each peer that has been timed."""
    found = {peer: figures.get(name) for peer, figures in result["peers"].get(precision, {}).items()}
    return {peer: statistics.median(times) * 1e6 for peer, times in found.items() if isinstance(times, list)}


def table(result, precision):
    """The medians as lines of a Markdown table: microseconds a step, and the share of the vendor's product's speed."""
    peers, products = list(result["peers"][precision]), result.get("ceilings", {}).get(f"gemm_{precision}_of", {})
    lines = [f"| us a step, {precision} | " + " | ".join(peers) + " | lead | TFLOP/s | of cuBLAS |"]
    lines += ["| --- |" + " ---: |" * (len(peers) + 3)]
    for name, case in EVERY.items():
        medians = medians_of(result, precision, name)
        if not medians:
            continue
        cells = [f"{medians[p]:.3g}" if p in medians else "-" for p in peers]
        ours = medians.pop("fastmlp-cuda", None)
        lead = f"{min(medians.values()) / ours:.2f}x" if ours and medians else "-"
        flops = case.flops / case.steps
        rate = f"{flops / ours / 1e6:.3g}" if ours else "-"
        share = f"{flops / ours / 1e6 / products[name]:.0%}" if ours and name in products else "-"
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {lead} | {rate} | {share} |")
    return lines


def targets(result):
    """What was to be reached on an H100, beside what was found."""
    narrow, small = "fused-64x4-b16384", "mnist-784-128-10-b64"
    found, graph = (medians_of(result, "bf16", narrow).get(peer) for peer in ("fastmlp-cuda", "torch-graph-cuda"))
    lead = f"{graph / found:.2f}x" if found and graph else "not measured"
    lines = [f"- {narrow}, bf16: {lead} PyTorch with CUDA graphs (target 4x)"]
    for precision in PRECISIONS[1:]:
        products, shares = result.get("ceilings", {}).get(f"gemm_{precision}_of", {}), []
        for name in GRID:
            ours = medians_of(result, precision, name).get("fastmlp-cuda")
            if ours and name in products and GRID[name].sizes[0] >= 1024:
                shares.append(GRID[name].flops / GRID[name].steps / ours / 1e6 / products[name])
        span = f"{min(shares):.0%} to {max(shares):.0%}" if shares else "not measured"
        lines.append(f"- widths from 1024 on, {precision}: {span} of cuBLAS (target 55%)")
    steps = [medians_of(result, precision, small).get("fastmlp-cuda") for precision in PRECISIONS]
    steps = ", ".join(f"{precision} {step:.3g} us" for precision, step in zip(PRECISIONS, steps) if step)
    lines.append(f"- {small}: {steps or 'not measured'} a step (target 5 us)")
    return lines


def parse(arguments):
    parser = argparse.ArgumentParser(description="Check and time the CUDA backend on this machine's GPU.")
    parser.add_argument("--only", default="check,ceilings,peers", help="parts to run (default: %(default)s)")
    parser.add_argument("--cases", default="*", metavar="GLOBS", help="networks, comma-separated (default: all)")
    parser.add_argument("--peers", default=",".join(ON_GPU), help="comma-separated (default: %(default)s)")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=5, help="times taken of each (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=900, help="seconds for a peer in all (default: %(default)s)")
    parser.add_argument("--output", metavar="FOLDER", default=RESULTS, help="where the results go")
    args = parser.parse_args(arguments)
    args.only, args.peers, args.precisions = (a.split(",") for a in (args.only, args.peers, args.precisions))
    known = {"check", "ceilings", "peers"}, {*ON_GPU}, {*PRECISIONS}
    if unknown := set().union(*({*a} - k for a, k in zip((args.only, args.peers, args.precisions), known))):
        parser.error(f"{', '.join(sorted(unknown))} unknown")
    args.cases = list(dict.fromkeys(name for glob in args.cases.split(",") for name in fnmatch.filter(EVERY, glob)))
    return args


def main(arguments):
    args = parse(arguments)
    from fastmlp import devices

    found = devices.look()
    problem = devices.problem_of(found)
    if problem is not None:
        sys.exit(f"gpu.py: {problem.message}")
    name = found.name.lower().replace(" ", "-")
    path = os.path.join(args.output, f"gpu-{name}.json")
    result = {}
    if os.path.exists(path):
        with open(path) as file:
            result = json.load(file)
    result |= describe() | {"device": found.name, "capability": found.capability, "driver": found.driver_version}
    for known in check(args.limit, args.output) if "check" in args.only else ():
        result["check"] = known
        save(result, path)
    if "ceilings" in args.only:
        lines, trouble = ask(["ceilings"], args.limit, args.output)
        dictionaries = [line for line in lines if isinstance(line, dict)]
        result["ceilings"] = {name: value for line in dictionaries for name, value in line.items()}
        result["ceilings"]["trouble"] = trouble
        print(json.dumps(result["ceilings"], indent=1))
        save(result, path)
    result.setdefault("peers", {})
    turns = [(precision, peer) for precision in args.precisions for peer in args.peers]
    for precision, peer in turns if "peers" in args.only else ():
        figures = result["peers"].setdefault(precision, {}).setdefault(peer, {})
        lines, trouble = ask(["epochs", peer, precision, args.samples, *args.cases], args.limit, args.output)
        figures |= {line[0]: line[1] for line in lines if isinstance(line, list) and len(line) == 2}
        figures["trouble"] = trouble
        if trouble:
            print(f"{peer}, {precision}: {trouble}")
        save(result, path)
    lines = [f"{found.name}, medians of {args.samples}, commit {result['commit']}, {result['date'][:10]}", ""]
    for precision in result["peers"]:
        lines += [*table(result, precision), ""]
    lines += [*targets(result), "", f"Left out as too long: {', '.join(TOO_LONG)}."]
    print("\n".join(lines))
    with open(os.path.join(args.output, f"gpu-{name}.md"), "w") as file:
        file.write("\n".join(lines) + "\n")
    if not result.get("check", {"passed": True})["passed"]:
        sys.exit("gpu.py: the tests failed on the device")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    else:
        main(sys.argv[1:])
