"""How near do `fastmlp.estimate`'s times come to those that trainings take?

    python benchmarks/estimates.py [--rounds 5]

asks for each of the ten networks of epochs.py, in processes of their own, first the estimate, then the epochs, and
saves both to results/estimates.json.
"""

import argparse
import json
import statistics

import fastmlp
from epochs import CASES, fastmlp_epochs, fastmlp_network, seconds_per_epoch
from machine import HERE, RESULTS, ask, confine, cores, describe, environment, save
from suite import by_profile


def compared(name):
    """(estimated, measured) seconds of an epoch of a case."""
    case = CASES[name]
    net, optimizer, batch = fastmlp_network(case, "float32")
    found = fastmlp.estimate(net, case.examples, **batch, optimizer=optimizer)
    train, _ = fastmlp_epochs(case, "float32", cores())
    return found.seconds_an_epoch, statistics.median(seconds_per_epoch(train, samples=3))


class Estimate:
    """How far off is the estimate of a training's time? Decides whether it may be planned with."""

    param_names = ["network"]
    params = [by_profile(["practice-64-100-10-b200"], list(CASES))]
    unit = "%"
    timeout = 600

    def track_error(self, name):
        """The difference from the time measured, in percent of it."""
        confine(cores())
        estimated, measured = compared(name)
        return 100 * abs(estimated / measured - 1)

    track_error.unit = "%"
    track_error.pretty_name = "Error of the estimated time"


def main():
    parser = argparse.ArgumentParser(description="Compare the estimates of epochs with epochs.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", choices=CASES, help="print the two times of one case, as JSON")
    args = parser.parse_args()
    if args.case:
        confine(cores())
        print(json.dumps(compared(args.case)))
        return
    env = environment(cores())
    found = {name: [ask(HERE / "estimates.py", "--case", name, env=env) for _ in range(args.rounds)] for name in CASES}
    rows = {}
    print(f"{'':32}{'estimated ms':>14}{'measured ms':>14}{'off by':>10}")
    for name, pairs in found.items():
        estimated, measured = (statistics.median(times) for times in zip(*pairs))
        rows[name] = {"estimated": estimated, "measured": measured, "pairs": pairs}
        print(f"{name:32}{1e3 * estimated:14.3f}{1e3 * measured:14.3f}{estimated / measured - 1:10.1%}")
    save(describe() | {"rounds": args.rounds, "cases": rows}, RESULTS / "estimates.json")


if __name__ == "__main__":
    main()
