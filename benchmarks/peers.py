"""How much faster than its peers does fastmlp train an epoch, and how near is it to the chip's limit?

    pip install -e ".[bench]" && python benchmarks/peers.py

times every peer on every case of `epochs.py`, each in its own process, taken in turn for several rounds, with the
cores' FMA peak measured before and after each of fastmlp's turns. It prints the medians (ms an epoch), the lead (best
peer's time over fastmlp's), GFLOP/s and the share of the peak (the median over the rounds of each turn's median speed
over the peak beside it: a shared machine changes its speed within minutes), and saves everything as JSON.

    python benchmarks/peers.py --precision bf16

does so for fastmlp in bfloat16, beside itself and everyone in float32 and PyTorch under autocast to bfloat16; the
share is that of float32's FMA peak; AMD's processors do twice as much in bfloat16. Each kind of processor has a file
of its own, and so has one whose AMX may be used.
"""

import argparse
import fnmatch
import statistics
import sys

from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

from epochs import CASES, IN_BF16, PEERS
from machine import HERE, RESULTS, ChildError, ask, cores, describe, environment, save


def measure(case, peers, args):
    """Times of one case, all peers in turn.

    Returns
    -------
    times : dict of str to list of float
        Seconds an epoch, for every peer that is installed.
    peaks : list of float
        GFLOP/s of the FMA peak beside fastmlp's turns, one a round.
    absent : dict of str to str
        Why a peer could not be imported.
    """
    env = environment(args.threads)
    shared = ("--threads", args.threads, "--dtype", args.dtype)
    times, peaks, absent = {peer: [] for peer in peers}, [], {}

    def peak():
        return ask(HERE / "peak.py", *shared, env=env)[str(args.threads)]

    for _ in range(args.rounds):
        for peer in [peer for peer in peers if peer not in absent]:
            before = peak() if peer == args.subject else 0.0
            reply = ask(HERE / "epochs.py", peer, case, *shared, "--samples", args.samples, env=env)
            if peer == args.subject:
                peaks.append((before + peak()) / 2)
            times[peer] += reply.get("times", [])
            if "absent" in reply:
                absent[peer] = reply["absent"]
    return {peer: t for peer, t in times.items() if t}, peaks, absent


def summarise(name, times, peaks, subject):
    """One row of the table: medians and, where they were measured, fastmlp's speed, its lead, and that over float32."""
    case = CASES[name]
    row = case._asdict() | {
        "flops": case.flops,
        "peers": {peer: {"median": statistics.median(t), "best": min(t), "times": t} for peer, t in times.items()},
        "peaks_gflops": peaks,
    }
    medians = {peer: figures["median"] for peer, figures in row["peers"].items()}
    ours = medians.pop(subject, None)
    if subject != "fastmlp":
        own_float32 = medians.pop("fastmlp", None)
        if ours is not None and own_float32 is not None:
            row["over_float32"] = own_float32 / ours
    if ours is not None:
        row["gflops"] = case.flops / ours / 1e9
        each = len(times[subject]) // len(peaks)
        turns = [statistics.median(times[subject][n * each : (n + 1) * each]) for n in range(len(peaks))]
        row["share_of_peak"] = statistics.median(
            case.flops / turn / 1e9 / peak for turn, peak in zip(turns, peaks, strict=True)
        )
    if medians:
        row["best_peer"] = min(medians, key=medians.get)
    if ours is not None and medians:
        row["lead"] = medians[row["best_peer"]] / ours
    return row


def width(peer):
    """Of a peer's column."""
    return max(12, len(peer) + 2)


def print_row(name, row, peers):
    """Print a row, times in milliseconds."""
    print(f"{name:30}", end="")
    for peer in peers:
        found = row["peers"].get(peer)
        print(f"{found['median'] * 1e3:{width(peer)}.4g}" if found else f"{'-':>{width(peer)}}", end="")
    lead = f"{row['lead']:.2f}x" if "lead" in row else "-"
    speed, share = (f"{row['gflops']:.1f}", f"{row['share_of_peak']:.0%}") if "gflops" in row else ("-", "-")
    print(f"{lead:>9}{speed:>10}{share:>9}", flush=True)


def parse(arguments):
    parser = argparse.ArgumentParser(description="Compare the time per epoch of fastmlp and its peers.")
    parser.add_argument("--cases", default="*", metavar="GLOBS", help="cases to run, comma-separated (default: all)")
    parser.add_argument("--peers", help=f"comma-separated (default: {','.join(PEERS)}, and more with bf16)")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3, help="turns every peer takes (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=5, help="times taken in a turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=cores(), help="threads of every peer (default: all cores)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--output", metavar="FILE", help="JSON file to write")
    args = parser.parse_args(arguments)
    rounded = args.precision == "bf16"
    args.subject = "fastmlp-bf16" if rounded else "fastmlp"
    processor = get_host_cpu_name() + ("-amx" if get_host_cpu_features().get("amx-bf16") else "")
    args.output = args.output or RESULTS / (f"peers_bf16_{processor}.json" if rounded else "peers.json")
    known = PEERS | IN_BF16 if rounded else PEERS
    args.peers = args.peers.split(",") if args.peers else [*known]
    if unknown := set(args.peers) - set(known):
        parser.error(f"--peers: {', '.join(sorted(unknown))} unknown; there are {', '.join(known)}")
    args.cases = [name for name in CASES if any(fnmatch.fnmatch(name, glob) for glob in args.cases.split(","))]
    if not args.cases:
        parser.error(f"--cases: nothing matches; there are {', '.join(CASES)}")
    if not 1 <= args.threads <= cores():
        parser.error(f"--threads: {args.threads}, not within 1..{cores()}")
    if min(args.rounds, args.samples) < 1:
        parser.error("--rounds and --samples must be at least 1")
    return args


def main(arguments=None):
    args = parse(arguments)
    where = describe()
    print(f"{'ms an epoch':30}" + "".join(f"{peer:>{width(peer)}}" for peer in args.peers), end="")
    print(f"{'lead':>9}{'GFLOP/s':>10}{'of peak':>9}")
    rows, absent = {}, {}
    for name in args.cases:
        times, peaks, missing = measure(name, [peer for peer in args.peers if peer not in absent], args)
        absent |= missing
        rows[name] = summarise(name, times, peaks, args.subject)
        print_row(name, rows[name], args.peers)
    peak = max((peak for row in rows.values() for peak in row["peaks_gflops"]), default=0.0)
    result = where | {
        "threads": args.threads,
        "dtype": args.dtype,
        "precision": args.precision,
        "rounds": args.rounds,
        "samples": args.samples,
        "absent": absent,
        "peak_gflops": peak,
        "cases": rows,
    }
    for peer, reason in absent.items():
        print(f"{peer} was left out: {reason}")
    print(f"FMA peak of {args.threads} thread(s): {peak:.1f} GFLOP/s")
    leads = {name: row["lead"] for name, row in rows.items() if "lead" in row}
    if leads:
        smallest = min(leads, key=leads.get)
        result["geometric_mean_lead"] = statistics.geometric_mean(leads.values())
        result["smallest_lead"] = leads[smallest]
        print(f"geometric mean of the leads {result['geometric_mean_lead']:.2f}x,", end=" ")
        print(f"smallest {leads[smallest]:.2f}x ({smallest})")
    save(result, args.output)


if __name__ == "__main__":
    try:
        main()
    except ChildError as error:
        sys.exit(f"peers.py: a child process failed: {error}")
