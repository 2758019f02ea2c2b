"""Writes README's section on speed, its tables and its chart, from the committed results.

    pip install -e ".[bench,plot]" && python benchmarks/report.py [--check]

Epochs beside the peers come from results/peers.json (`peers.py`: all in turn), what is said of bfloat16 from
precision.json and peers_bf16_*.json, one for each kind of processor, of estimates, of many networks and of many
machines from estimates.json, many.json and mpi.json, everything else from the newest full run of the asv suite on
MACHINE. No figure in that section is typed by hand; --check fails when README is not what would be written.
"""

import argparse
import ast
import datetime
import itertools
import json
import math
import sys
import textwrap

from fashion import FULL_EPOCHS, FULL_GOAL
from machine import RESULTS, ROOT

MACHINE = "two-core-zen4"
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
NAMES_BF16 = {
    "fastmlp-bf16": "fastmlp, bf16",
    "fastmlp": "fastmlp, float32",
    "torch-bf16": "PyTorch, bf16",
    "torch-eager-bf16": "PyTorch, autograd, bf16",
}
INTEL = {"sapphirerapids": "Sapphire Rapids", "emeraldrapids": "Emerald Rapids", "graniterapids": "Granite Rapids"}
PROCESSORS = {"znver4": "AMD Zen 4", "znver5": "AMD Zen 5"}  # by peers.py's names: LLVM's, and whether there is AMX
PROCESSORS |= {name: f"Intel {known} without AMX" for name, known in INTEL.items()}
PROCESSORS |= {f"{name}-amx": f"Intel {known} with AMX" for name, known in INTEL.items()}
LEVEL = 1.1  # a lead below this is called level

# Benchmarks in which libraries are compared, and how a combination of the other parameters is called.
COMPARED = {
    "epoch_time.Width.time_epoch": "epoch, {} units a layer, {}",
    "epoch_time.Depth.time_epoch": "epoch, {} hidden layers, {}",
    "epoch_time.BatchSize.time_epoch": "epoch, minibatches of {}, {}",
    "epoch_time.ThreadsAndPrecision.time_epoch": "epoch, threads: {}, {}, {}",
    "estimators.Fit.time_fit": "fit, {}, {}",
    "estimators.PartialFit.time_partial_fit": "partial_fit, {} rows, {}",
    "estimators.Predict.time_predict": "predict, rows: {}, {}",
    "one_row.OneRow.time_forward": "one row, {}",
    "fashion.Fashion.track_seconds_to_accuracy": "Fashion-MNIST",
}
NEEDED = (
    *COMPARED,
    "fashion.Fashion.track_accuracy_after_epochs",
    "cold_start.FirstTraining.track_first_training",
    "cold_start.Import.track_import",
    "memory.Memory.peakmem_train",
)


class Suite:
    """The newest full results of the asv suite: for each benchmark a dict from its parameters to its value."""

    def __init__(self):
        from asv.results import iter_results_for_machine  # asv looks into this file where it is not installed itself

        found = iter_results_for_machine(str(RESULTS), MACHINE)
        full = [result for result in found if set(NEEDED) <= set(result.get_all_result_keys())]
        if not full:
            sys.exit(f"{RESULTS / MACHINE} has no results of a full run")
        self.results = max(full, key=lambda result: result.date)

    def where(self):
        """Commit, date and versions of the run."""
        date = datetime.datetime.fromtimestamp(self.results.date / 1000, datetime.UTC)
        versions = {"python": None, "jax": None, "torch": None} | self.results.params
        shown = ", ".join(f"{name} {versions[name]}" for name in ("python", "jax", "torch"))
        return f"commit {self.results.commit_hash[:8]} of {date:%Y-%m-%d}; {shown}"

    def __call__(self, name):
        """{(parameter, ...): value} of a benchmark, what was left out not among them."""
        params = self.results.get_result_params(name)
        values = self.results.get_result_value(name, params)
        keys = itertools.product(*(map(ast.literal_eval, choices) for choices in params))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None and value == value}

    def leads(self, name):
        """{(other parameters): (lead, best peer)}: the best peer's time over fastmlp's."""
        values, leads = self(name), {}
        for rest in dict.fromkeys(key[1:] for key in values):
            times = {library: values[library, *rest] for library in NAMES if (library, *rest) in values}
            ours = times.pop("fastmlp", None)
            if ours and times:
                best = min(times, key=times.get)
                leads[rest] = times[best] / ours, best
        return leads


def significant(number, digits=3):
    """A number with so many significant digits, and no exponent."""
    if number == 0:
        return "0"
    return f"{number:.{max(0, digits - 1 - math.floor(math.log10(abs(number))))}f}"


def duration(seconds):
    """A time in the unit that suits it."""
    unit, size = next(((u, s) for u, s in (("s", 1), ("ms", 1e-3)) if seconds >= s), ("us", 1e-6))
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
        ("estimators.Fit.time_fit", "fit: {}"),
        ("estimators.PartialFit.time_partial_fit", "partial_fit, rows: {:,}"),
        ("estimators.Predict.time_predict", "predict, rows: {:,}"),
    ):
        values = suite(name)
        for what, dtype in dict.fromkeys(key[1:] for key in values):
            ours, theirs = (values[library, what, dtype] for library in ("fastmlp", "sklearn"))
            rows.append([label.format(what), dtype, duration(ours), duration(theirs), f"{theirs / ours:.1f}x"])
    return table(["MLPClassifier", "dtype", "fastmlp", "scikit-learn", "lead"], rows)


def by_library(suite, name, head, show):
    """A table with a row for each combination of the other parameters and a column for each library."""
    values = suite(name)
    libraries = [library for library in NAMES if any(key[0] == library for key in values)]
    rows = []
    for rest in dict.fromkeys(key[1:] for key in values):
        shown = [show(values[library, *rest]) if (library, *rest) in values else "-" for library in libraries]
        rows.append([", ".join(map(str, rest)), *shown])
    return table([head, *(NAMES[library] for library in libraries)], rows)


def fashion_table(suite):
    """Fashion-MNIST: how right, and how soon."""
    right = suite("fashion.Fashion.track_accuracy_after_epochs")
    soon = suite("fashion.Fashion.track_seconds_to_accuracy")
    libraries = [library for library in NAMES if (library,) in right]
    rows = [
        [f"right after {FULL_EPOCHS} epochs", *(f"{right[library,]:.1f} %" for library in libraries)],
        [
            f"until {FULL_GOAL} % are right",
            *(duration(soon[library,]) if (library,) in soon else "never" for library in libraries),
        ],
    ]
    return table(["Fashion-MNIST, 784-128-10", *(NAMES[library] for library in libraries)], rows)


def cold_start(suite):
    """A sentence about imports and first trainings."""
    first = suite("cold_start.FirstTraining.track_first_training")
    empty, empty64, filled = (
        duration(first[key]) for key in (("empty", "float32"), ("empty", "float64"), ("filled", "float32"))
    )
    imports = {what: duration(value) for (what,), value in suite("cold_start.Import.track_import").items()}
    return f"""`import fastmlp` takes {imports["fastmlp after numba"]} after Numba's {imports["numba"]}. The first
training of all, imports and compiler included, takes {empty} (float64 {empty64}), in every later process {filled}."""


def estimates():
    """How near the estimates of times come."""
    found = json.loads((RESULTS / "estimates.json").read_text())
    said = []
    for threads in next(iter(found["cases"].values())):
        rows = {name: of[threads] for name, of in found["cases"].items()}
        off = {name: abs(row["estimated"] / row["measured"] - 1) for name, row in rows.items()}
        worst, middle = max(off, key=off.get), sorted(off.values())[len(off) // 2]
        said.append(f"within {off[worst]:.0%} at the worst ({worst}) and {middle:.0%} in the middle on {threads}")
    return (
        f"`fastmlp.estimate` foretells the times of these {len(off)} networks to {', '.join(said)} thread(s) (medians "
        f"of {found['rounds']} rounds; commit {found['commit']}, {found['date'][:10]})."
    )


def many():
    """Many networks, and searches, together and one by one."""
    found = json.loads((RESULTS / "many.json").read_text())
    ways = {"together": "`train_many`", "one by one": "a loop over `train`", "jax": "JAX, vmap over scan"}
    rows = []
    for case, row in found["cases"].items():
        medians = {way: row[way]["median"] for way in ways if way in row}
        ours = medians["together"]
        beside = {way: f"{duration(median)} ({median / ours:.2f}x)" for way, median in medians.items()}
        rows.append([case, duration(ours), *(beside.get(way, "-") for way in ways if way != "together")])
    search, searches = found["search"], []
    for case, ways_of in search["cases"].items():
        ours, shown = ways_of["MLPSearchCV"]["median"], []
        for row in ways_of.values():
            off = row["largest_difference_of_scores"]
            scores = "same scores" if off == 0 else f"scores within {off:.1g}"
            shown.append(f"{duration(row['median'])} ({row['median'] / ours:.1f}x, {scores})")
        searches.append([case, duration(ours), *shown[1:]])
    jobs = f"n_jobs={found['threads']}"
    searchers = ["MLPSearchCV", f"GridSearchCV over scikit-learn's, {jobs}", f"GridSearchCV over fastmlp's, {jobs}"]
    asked = f"{search['candidates']} candidates, {search['folds']} folds, {search['max_iter']} epochs, float64"
    head = [f"{found['networks']} networks 64-32-10 on the digits, an epoch of one", *ways.values()]
    return (
        f"{table(head, rows)}\n\n{table([asked, *searchers], searches)}\n\nMedians of {found['rounds']} rounds, "
        f"{found['threads']} threads; commit {found['commit']}, {found['date'][:10]}."
    )


def machines():
    """Scaling over ranks, and what a model says of a cluster."""
    found = json.loads((RESULTS / "mpi.json").read_text())
    rows = []
    for name, row in found["cases"].items():
        ranks, entry = list(row["ranks"].items())[-1]
        over = [entry[kind]["model_over_measured"] for kind in ("weak", "strong")]
        there = []
        for of in row["predicted"].values():
            low, high = sorted(of[f"weak efficiency, {w} overlap"] for w in ("no", "with"))
            there.append(f"{low:.0%}" if f"{low:.0%}" == f"{high:.0%}" else f"{low:.0%} to {high:.0%}")
        measured = (f"{entry[kind]['efficiency']:.0%}" for kind in ("weak", "strong"))
        sent = f"{entry['bytes_sent_a_step'] / 1e3:,.0f}"
        rows.append([name, *measured, " and ".join(f"{x:.2f}" for x in over), sent, *there])
    speeds = [f"{found['nodes']} nodes, {speed} Gbit/s" for speed in found["networks"]]
    head = ["efficiency", f"weak, {ranks} ranks", "strong", "model / measured", "kB a step", *speeds]
    said = (
        f"Over MPI ([benchmarks/mpi.py](benchmarks/mpi.py) describes the model): the efficiency of {ranks} ranks of a "
        f"thread each on this one machine, a minibatch on each (weak) or one for all (strong), the model's times over "
        f"those measured, what a rank sends in a step, and what the model says of the weak efficiency of "
        f"{found['nodes']} nodes like this machine, without and with messages that travel during the computation. "
        f"Commit {found['commit']}, {found['date'][:10]}."
    )
    return f"{textwrap.fill(said, 120)}\n\n{table(head, rows)}"


def in_bf16():
    """The files of epochs in bfloat16, one for each kind of processor."""
    return sorted(RESULTS.glob("peers_bf16_*.json"))


def processor_of(path):
    """The name of the kind of processor that a file of epochs in bfloat16 is of."""
    name = path.stem.rpartition("_")[2]
    return PROCESSORS.get(name, name)


def beside_peers_in_bf16(path):
    """Epochs of one kind of processor in bfloat16, beside float32 and the peers at either precision."""
    peers = json.loads(path.read_text())
    rows = []
    for name, row in peers["cases"].items():
        times = [row["peers"].get(peer) for peer in NAMES_BF16]
        shown = [significant(time["median"] * 1e3) if time else "-" for time in times]
        best = row["best_peer"]
        lead = f"{row['lead']:.2f}x {(NAMES | NAMES_BF16)[best]}"
        rows.append([name, f"**{shown[0]}**", *shown[1:], f"{row['over_float32']:.2f}x", lead])
    head = ["ms an epoch", *NAMES_BF16.values(), "over own float32", "over the best peer, at either precision"]
    said = (
        f"On {processor_of(path)} with {peers['threads']} threads, float32's FMA peak "
        f"{peers['peak_gflops']:.0f} GFLOP/s; medians of {peers['rounds']} rounds in turn, commit {peers['commit']}, "
        f"{peers['date'][:10]}:"
    )
    return f"{textwrap.fill(said, 120)}\n\n{table(head, rows)}"


def precisions():
    """What bfloat16 brings: speed on each kind of processor that was measured, and accuracy."""
    found = json.loads((RESULTS / "precision.json").read_text())
    said = '`precision="bf16"` on the CPU, beside PyTorch under autocast to bfloat16 and all peers in float32.'
    tables = [beside_peers_in_bf16(path) for path in in_bf16()]
    accuracies = []
    for name, row in found["cases"].items():
        single, rounded = row["float32"], row["bf16"]
        accuracies.append(
            f"{name} {rounded['mean']:.2f} % in bfloat16 (standard deviation {rounded['spread']:.2f}) and "
            f"{single['mean']:.2f} % in float32 ({single['spread']:.2f})"
        )
    accurate = (
        f"Test images of Fashion-MNIST that are right after {found['epochs']} epochs, means of {found['seeds']} seeds: "
        f"{'; '.join(accuracies)}."
    )
    return "\n\n".join([said, *tables, textwrap.fill(accurate, 120)])


def weak_spots(peers, suite):
    """Where fastmlp is behind or level: in the networks of the tables and in every comparison of the asv suite."""
    leads = {name: (row["lead"], row["best_peer"]) for name, row in peers["cases"].items()}
    for path in in_bf16():
        rows, processor = json.loads(path.read_text())["cases"], processor_of(path)
        leads |= {f"{name}, bf16 on {processor}": (row["lead"], row["best_peer"]) for name, row in rows.items()}
    for name, label in COMPARED.items():
        leads |= {label.format(*rest): lead for rest, lead in suite.leads(name).items()}
    order = sorted(leads, key=lambda name: leads[name][0])
    behind = [name for name in order if leads[name][0] < 1]
    level = [name for name in order if 1 <= leads[name][0] < LEVEL]

    def listed(names):
        names_of = NAMES | NAMES_BF16
        return "".join(f"\n- {name}: {leads[name][0]:.2f}x {names_of[leads[name][1]]}" for name in names)

    text = (
        f"Of {len(leads)} comparisons with the fastest peer, in the tables above and the suite's grids, fastmlp loses "
    )
    text += f"{len(behind)} and is level, ahead by less than a tenth, in {len(level)}"
    worst = behind + level
    return f"{text}:\n{listed(worst)}" if worst else f"{text}; the smallest leads:\n{listed(order[:3])}"


def draw(peers):
    """The chart: how many times as long as fastmlp each peer takes for an epoch."""
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
                axes.barh(y, ratio - 1, height, left=1, color=colors[k], label=NAMES[peer] if place == 0 else None)
                axes.text(max(ratio, 1) * 1.03, y, f"{ratio:.1f}", va="center", fontsize=6.5)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(left=0.9 * min(1, *(bar.get_x() + bar.get_width() for bar in axes.patches)))
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100], ["1: fastmlp", "2", "5", "10", "20", "50", "100"])
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
Each peer as its best user would write it ([benchmarks/epochs.py](benchmarks/epochs.py)): {peers["dtype"]},
{peers["threads"]} threads, medians of {peers["rounds"]} rounds in which all take turns, in processes of their own.
{peers["cpu"]} ({peers["architecture"]}), {peers["cores"]} cores, FMA peak {peers["peak_gflops"]:.0f} GFLOP/s; commit
{peers["commit"]}, {peers["date"][:10]}.

Versions: {versions}.

![How many times as long as fastmlp each peer takes for an epoch]({CHART.relative_to(ROOT).as_posix()})

{epochs_table(peers)}

The lead is that over the best peer; its geometric mean is {peers["geometric_mean_lead"]:.2f}x.

From the [asv suite](benchmarks/results/{MACHINE}), on the same machine ({suite.where()}):

{estimators_table(suite)}

{by_library(suite, "one_row.OneRow.time_forward", "one row, float32", duration)}

{fashion_table(suite)}

{by_library(suite, "memory.Memory.peakmem_train", "memory of the process, MB", lambda b: f"{b / 1e6:.0f}")}

{cold_start(suite)}

{precisions()}

{estimates()}

{many()}

{machines()}

**Where fastmlp does not lead.** {weak_spots(peers, suite)}
"""


def main():
    parser = argparse.ArgumentParser(description="Write README's section on speed from the committed results.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when README is not up to date")
    args = parser.parse_args()
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.exit(f"README.md lacks the marks {BEGIN} and {END}")
    written = f"{before}{BEGIN}\n{section()}\n{END}{after}"
    if args.check:
        sys.exit(0 if written == text else "README.md is not what benchmarks/report.py writes: run it")
    README.write_text(written)
    draw(json.loads((RESULTS / "peers.json").read_text()))
    print(f"wrote {README} and {CHART}")


if __name__ == "__main__":
    main()
