"""Writes README's section on speed, its tables and its chart, from the committed results.

    pip install -e ".[bench,plot]" && python benchmarks/report.py [--check]

Epochs beside the peers come from results/peers.json (`peers.py`: all in turn), everything else from the newest results
of the asv suite. No figure in that section is typed by hand; --check fails when README is not what would be written.
"""

import argparse
import ast
import itertools
import json
import math
import sys
from pathlib import Path

from machine import RESULTS, ROOT

README = ROOT / "README.md"
CHART = RESULTS / "speed.png"
BEGIN, END = "<!-- from here to the next mark: benchmarks/report.py -->", "<!-- end of what report.py writes -->"
NAMES = {
    "fastmlp": "fastmlp",
    "jax": "JAX",
    "torch": "PyTorch",
    "torch-eager": "PyTorch, autograd",
    "numpy": "NumPy",
    "sklearn": "scikit-learn",
}
LEVEL = 1.1  # a lead below this is called level


class Suite:
    """The newest results of the asv suite: for each benchmark a dict from its parameters to its value."""

    def __init__(self):
        from asv.results import iter_results  # asv imports every file here where it is not installed itself

        self.results = max(iter_results(RESULTS), key=lambda result: (result.date, len(result.get_all_result_keys())))

    def __call__(self, name):
        """{(parameter, ...): value} of a benchmark, what was left out not among them."""
        params = self.results.get_result_params(name)
        values = self.results.get_result_value(name, params)
        keys = itertools.product(*(map(ast.literal_eval, list_) for list_ in params))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None and value == value}

    def leads(self, name):
        """{(parameter, ...): (lead, best peer)} without the library: the best peer's time over fastmlp's."""
        values, leads = self(name), {}
        for key in dict.fromkeys(key[:-1] for key in values):
            times = {library: value for (*rest, library), value in values.items() if tuple(rest) == key}
            ours = times.pop("fastmlp", None)
            if ours and times:
                best = min(times, key=times.get)
                leads[key] = times[best] / ours, best
        return leads


def significant(number, digits=3):
    """A number with so many significant digits, and no exponent."""
    if number == 0:
        return "0"
    return f"{number:.{max(0, digits - 1 - math.floor(math.log10(abs(number))))}f}"


def duration(seconds):
    """A time in the unit that suits it."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            return f"{significant(seconds / size)} {unit}"


def table(head, rows):
    """A table in Markdown; all columns but the first are right-aligned."""
    lines = ["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def epochs_table(peers):
    """Milliseconds an epoch of the ten networks, the lead, and the share of the FMA peak."""
    rows = []
    for name, row in peers["cases"].items():
        times = [row["peers"].get(peer) for peer in NAMES]
        shown = [significant(found["median"] * 1e3) if found else "-" for found in times]
        rows.append([name, f"**{shown[0]}**", *shown[1:], f"{row['lead']:.2f}x", f"{row['share_of_peak']:.0%}"])
    return table(["ms an epoch", *NAMES.values(), "lead", "of the peak"], rows)


def estimators_table(suite):
    """fastmlp's estimators beside scikit-learn's."""
    rows = []
    for name, label in (
        ("estimators.Fit.time_fit", "fit {}"),
        ("estimators.PartialFit.time_partial_fit", "partial_fit {} rows"),
        ("estimators.Predict.time_predict", "predict {} rows"),
    ):
        values = suite(name)
        for what, dtype in dict.fromkeys(key[:2] for key in values):
            ours, theirs = values[what, dtype, "fastmlp"], values[what, dtype, "sklearn"]
            shown = f"{what:,}" if isinstance(what, int) else what
            rows.append([label.format(shown), dtype, duration(ours), duration(theirs), f"{theirs / ours:.1f}x"])
    return table(["", "dtype", "fastmlp", "scikit-learn", "lead"], rows)


def row_table(suite):
    """A prediction for a single row."""
    values = {key: value / 500 for key, value in suite("one_row.OneRow.time_500_rows_one_by_one").items()}
    libraries = [library for library in NAMES if any(key[1] == library for key in values)]
    rows = []
    for network in dict.fromkeys(key[0] for key in values):
        times = [values.get((network, library)) for library in libraries]
        rows.append([network, *(duration(time) if time else "-" for time in times)])
    return table(["one row", *(NAMES[library] for library in libraries)], rows)


def fashion_table(suite):
    """Fashion-MNIST: how right, and how soon."""
    right = suite("fashion.Fashion.track_accuracy_after_epochs")
    soon = suite("fashion.Fashion.track_seconds_to_accuracy")
    rows = [
        [NAMES[library], f"{right[library,]:.1f} %", duration(soon[library,]) if (library,) in soon else "-"]
        for library in NAMES
        if (library,) in right
    ]
    return table(["Fashion-MNIST, 784-128-10", "right after 5 epochs", "until 87 % are right"], rows)


def cold_start(suite):
    """A sentence about imports and first trainings."""
    first = suite("cold_start.FirstTraining.track_first_training")
    (importing,) = suite("cold_start.Import.track_import_after_numba").values()
    return (
        f"`import fastmlp` takes {duration(importing)} after `import numba`. The first training of all, import and "
        f"compiler included, takes {duration(first['empty', 'float32'])} (float64: "
        f"{duration(first['empty', 'float64'])}), in every later process {duration(first['filled', 'float32'])}."
    )


GRIDS = {
    "epoch_time.Width.time_epoch": "{} units a layer",
    "epoch_time.Depth.time_epoch": "{} hidden layers",
    "epoch_time.BatchSize.time_epoch": "minibatches of {}",
    "epoch_time.ThreadsAndPrecision.time_epoch": "{} threads",
}


def weak_spots(peers, suite):
    """Where fastmlp is behind or level, from the ten networks and every point of the asv grids."""
    leads = {name: (row["lead"], row["best_peer"]) for name, row in peers["cases"].items()}
    for name, label in GRIDS.items():
        for (value, other), lead in suite.leads(name).items():
            leads[f"{label.format(value)} ({other})".replace("1 threads", "1 thread")] = lead
    order = sorted(leads, key=lambda name: leads[name][0])

    def listed(names):
        return "; ".join(f"{name}: {leads[name][0]:.2f}x {NAMES[leads[name][1]]}" for name in names) or "nowhere"

    behind = [name for name in order if leads[name][0] < 1]
    level = [name for name in order if 1 <= leads[name][0] < LEVEL]
    return (
        f"Of these {len(leads)} comparisons with the fastest peer, fastmlp loses {len(behind)} ({listed(behind)}) and is "
        f"level, ahead by less than a tenth, in {len(level)} ({listed(level)}). The smallest leads: {listed(order[:3])}."
    )


def draw(peers):
    """The chart: how many times as long each peer takes for an epoch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = list(peers["cases"])
    figure, axes = plt.subplots(figsize=(9, 0.62 * len(cases) + 1.4), layout="constrained")
    others = [peer for peer in NAMES if peer != "fastmlp"]
    height = 0.8 / len(others)
    colors = plt.get_cmap("tab10").colors
    for k, peer in enumerate(others):
        for place, name in enumerate(cases):
            row = peers["cases"][name]["peers"]
            if peer in row:
                ratio = row[peer]["median"] / row["fastmlp"]["median"]
                y = place + (k - (len(others) - 1) / 2) * height
                axes.barh(y, ratio, height, color=colors[k], label=NAMES[peer] if place == 0 else None)
                axes.text(ratio * 1.03, y, f"{ratio:.1f}", va="center", fontsize=6.5)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 5, 10, 20, 50], ["1: fastmlp", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.set_yticks(range(len(cases)), cases, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("time of an epoch, in fastmlp's times")
    axes.legend(loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(CHART, dpi=110)


def section():
    """README's section, in Markdown."""
    peers, suite = json.loads((RESULTS / "peers.json").read_text()), Suite()
    versions = ", ".join(f"{name} {version}" for name, version in peers["versions"].items() if version)
    return f"""
Each peer as its best user would write it ([benchmarks/epochs.py](benchmarks/epochs.py)): float32,
{peers["threads"]} threads, medians of {peers["rounds"]} rounds in which all take turns in processes of their own.
{peers["cpu"]} ({peers["architecture"]}), {peers["cores"]} cores, FMA peak {peers["peak_gflops"]:.0f} GFLOP/s;
{peers["date"][:10]}; {versions}.

![How many times as long as fastmlp each peer takes for an epoch]({CHART.relative_to(ROOT).as_posix()})

{epochs_table(peers)}

The lead is that over the best peer; its geometric mean is {peers["geometric_mean_lead"]:.2f}x. {weak_spots(peers, suite)}

From the asv suite, on the same machine:

{estimators_table(suite)}

{row_table(suite)}

{fashion_table(suite)}

{cold_start(suite)}
"""


def main():
    parser = argparse.ArgumentParser(description="Write README's section on speed from the committed results.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when README is not up to date")
    args = parser.parse_args()
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        sys.exit(f"README.md lacks the marks {BEGIN} and {END}")
    written = f"{before}{BEGIN}\n{section()}\n{END}{after}"
    if args.check:
        sys.exit(0 if written == text else "README.md is not what benchmarks/report.py writes: run it")
    README.write_text(written)
    draw(json.loads((RESULTS / "peers.json").read_text()))
    print(f"wrote {README.relative_to(Path.cwd()) if README.is_relative_to(Path.cwd()) else README} and {CHART.name}")


if __name__ == "__main__":
    main()
