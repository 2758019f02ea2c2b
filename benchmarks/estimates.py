"""How near do `fastmlp.estimate`'s times come to those that trainings take?

    python benchmarks/estimates.py [--rounds 3]

asks for each of the ten networks of epochs.py, on one thread and on all, in processes of their own, for the estimate
and for the epochs in turn, and saves both to results/estimates.json. Where two virtual cores are one real core for a
while, what both threads do changes between an estimate and the epochs; one thread does not feel it.
"""

import argparse
import itertools
import json
import statistics

import fastmlp
from epochs import CASES, fastmlp_epochs, fastmlp_network, seconds_per_epoch
from machine import HERE, RESULTS, ask, confine, cores, describe, environment, save
from suite import by_profile


def compared(name, threads, turns=3):
    """[(estimated, measured), ...] seconds of an epoch of a case."""
    case, pairs = CASES[name], []
    net, optimizer, batch = fastmlp_network(case, "float32")
    train, _ = fastmlp_epochs(case, "float32", threads)
    for _ in range(turns):
        found = fastmlp.estimate(net, case.examples, **batch, optimizer=optimizer)
        pairs.append((found.seconds_an_epoch, statistics.median(seconds_per_epoch(train, samples=3))))
    return pairs


class Estimate:
    """How far off is the estimate of a training's time? Decides whether it may be planned with."""

    param_names = ["network"]
    params = [by_profile(["practice-64-100-10-b200"], list(CASES))]
    unit = "%"
    timeout = 600

    def track_error(self, name):
        """The difference from the time measured, in percent of it."""
        confine(cores())
        estimated, measured = (statistics.median(times) for times in zip(*compared(name, cores())))
        return 100 * abs(estimated / measured - 1)

    track_error.unit = "%"
    track_error.pretty_name = "Error of the estimated time"


def main():
    parser = argparse.ArgumentParser(description="Compare the estimates of epochs with epochs.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", choices=CASES, help="print the times of one case, as JSON")
    parser.add_argument("--threads", type=int, default=cores(), help="of that case")
    args = parser.parse_args()
    if args.case:
        confine(args.threads)
        print(json.dumps(compared(args.case, args.threads)))
        return
    rows = {}
    print(f"{'':32}{'threads':>8}{'estimated ms':>14}{'measured ms':>14}{'off by':>10}")
    for name, threads in itertools.product(CASES, sorted({1, cores()})):
        command = HERE / "estimates.py", "--case", name, "--threads", threads
        pairs = [pair for _ in range(args.rounds) for pair in ask(*command, env=environment(threads))]
        estimated, measured = (statistics.median(times) for times in zip(*pairs))
        rows.setdefault(name, {})[str(threads)] = {"estimated": estimated, "measured": measured, "pairs": pairs}
        print(f"{name:32}{threads:8}{1e3 * estimated:14.3f}{1e3 * measured:14.3f}{estimated / measured - 1:10.1%}")
    save(describe() | {"rounds": args.rounds, "cases": rows}, RESULTS / "estimates.json")


if __name__ == "__main__":
    main()
