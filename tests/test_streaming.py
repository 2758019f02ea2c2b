"""More data than memory: chunks give the bits of a training in memory, in bounded memory, and are checked when read."""

import json
import os

import numpy as np
import pytest
import scipy.sparse
from cases import data, digest, network, refused, run_python, same_bits

import fastmlp
from fastmlp import LBFGS, SGD, Adam, GradientDescent
from fastmlp.cpu.layout import CHUNK_ROWS
from fastmlp.cpu.trainer import windows_of
from fastmlp.streaming import Shards, Stream

SIZES = [7, 33, 5]
CUTS = (1, 300, 301, 555, 1100)  # rows before each chunk but the first, of 1283; chunks of 1 to 545


class Chunks:
    """The protocol and nothing more: a length and chunks."""

    def __init__(self, X, T, cuts=CUTS):
        self.parts = list(zip(split(X, cuts), split(T, cuts), strict=True))

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, k):
        return self.parts[k]


def split(array, cuts):
    ends = [0, *cuts, array.shape[0]]
    return [array[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]


def trained(X, T=None, optimizer=None, epochs=3, settings=None, seed=0, **arguments):
    net = network(SIZES, **(settings or {}))
    net._rng = np.random.default_rng(seed)
    return net, net.train(X, T, optimizer=optimizer or GradientDescent(0.5), epochs=epochs, **arguments)


def examples(m=1283, **settings):
    return data(network(SIZES, **settings), m)


def folders(tmp_path, X, T):
    """.npy files of chunks, whose names are in order."""
    for name, array in (("X", X), ("T", T)):
        (tmp_path / name).mkdir()
        for k, part in enumerate(split(array, CUTS)):
            np.save(tmp_path / name / f"part-{k:02}.npy", part)
    return tmp_path / "X", tmp_path / "T"


@pytest.mark.parametrize("window", [1, 8, 256, 500, 1000, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", [GradientDescent(0.5), LBFGS()], ids=["descent", "LBFGS"])
def test_full_batches_have_the_bits_of_a_training_in_memory(window, dtype, optimizer):
    X, T = examples()
    settings = {"dtype": dtype, "l2": 0.01, "activation": "tanh"}
    whole, history = trained(X, T, optimizer, settings=settings)
    net, streamed = trained(Chunks(X, T), None, optimizer, settings=settings, window=window)
    assert same_bits(whole, net) and streamed.objective == history.objective


@pytest.mark.parametrize("window", [1, 8, 100, 600, 5000])
@pytest.mark.parametrize("batch_size", [1, 16, 300, 900])
def test_minibatches_in_order_have_the_bits_of_a_training_in_memory(window, batch_size):
    X, T = examples()
    arguments = {"optimizer": Adam(max_gradient_norm=0.5), "batch_size": batch_size, "shuffle": False}
    settings = {"dropout": 0.2}
    whole, history = trained(X, T, settings=settings, epochs=2, **arguments)
    net, streamed = trained(Chunks(X, T), settings=settings, epochs=2, window=window, **arguments)
    assert same_bits(whole, net) and streamed.objective == history.objective


def test_one_window_shuffles_as_a_training_in_memory():
    X, T = examples()
    arguments = {"optimizer": SGD(0.1, momentum=0.9), "batch_size": 32}
    whole, _ = trained(X, T, **arguments)
    assert same_bits(whole, trained(Chunks(X, T), **arguments)[0], trained(X, T, window=5000, **arguments)[0])


KINDS = {
    "uint8": lambda X: (X * 30 + 99).clip(0, 255).astype(np.uint8),
    "float16": lambda X: X.astype(np.float16),
    "float64": lambda X: X.astype(np.float64),
    "Fortran": lambda X: np.asfortranarray(X),
    "CSR": lambda X: scipy.sparse.csr_matrix(np.where(X > 0, X, 0)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [False, True])
def test_any_kind_of_chunk(kind, labels):
    settings = {"output": "softmax", "loss": "log_loss"}
    X, T = examples(**settings)
    X, T = KINDS[kind](X), T.argmax(axis=1) if labels else T
    arguments = {"optimizer": SGD(0.1), "batch_size": 32, "shuffle": False, "settings": settings}
    assert same_bits(trained(X, T, **arguments)[0], trained(Chunks(X, T), window=100, **arguments)[0])


@pytest.mark.parametrize("lists", [False, True])
def test_npy_files(lists, tmp_path):
    X, T = examples()
    x, t = folders(tmp_path, X, T)
    shards = Shards(sorted(x.iterdir()), [str(p) for p in sorted(t.iterdir())]) if lists else fastmlp.Shards(x, str(t))
    assert shards.rows == np.diff([0, *CUTS, 1283]).tolist() and len(shards) == 6
    assert same_bits(trained(X, T)[0], trained(shards, window=100)[0])
    cut = Shards(x, t, chunk_rows=100)
    assert sum(cut.rows) == 1283 and max(cut.rows) == 100
    assert np.array_equal(np.concatenate([chunk[0] for chunk in cut]), X)
    assert same_bits(trained(X, T)[0], trained(cut, window=100)[0])


def test_memory_maps(tmp_path, monkeypatch):
    """A map that is shuffled and larger than a window is read in chunks; a small one is as an array in memory."""
    X, T = examples()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    arguments = {"optimizer": SGD(0.1), "batch_size": 32}
    assert same_bits(trained(X, T, **arguments)[0], trained(mapped, T, **arguments)[0])
    taken, window = [], Stream.window
    monkeypatch.setattr(Stream, "window", lambda stream, n: taken.append(n) or window(stream, n))
    monkeypatch.setattr("fastmlp.streaming.WINDOW_BYTES", 10000)
    _, history = trained(mapped, T, epochs=1, **arguments)
    assert taken == list(range(7)) and len(history.objective) == 1  # windows of 6 minibatches, 192 of 208 rows
    assert same_bits(trained(X, T)[0], trained(mapped, T)[0]) and len(taken) == 7  # in order: read where it is
    weight = np.random.default_rng(0).random(len(X))
    weighted = [trained(x, T, sample_weight=weight, **arguments)[0] for x in (X, mapped)]
    assert same_bits(*weighted) and len(taken) == 7


def seen_order(stream, bounds, seed):
    stream.begin(bounds, seed)
    found = [stream.window(n) for n in range(len(bounds) - 1)]
    assert all(np.array_equal(X[:, 0], T[:, 0]) for X, T, _ in found)
    return np.concatenate([X[order, 0] for X, _, order in found]).astype(int)


def test_shuffling_within_a_window():
    """Each example comes once a pass; orders differ between passes, and repeat with the seed; windows mix chunks."""
    number = np.arange(1000)
    X = np.column_stack([number] * 2)
    chunks = [(X[k : k + 50], X[k : k + 50]) for k in range(0, 1000, 50)]
    stream = Stream(chunks, 200, lambda X, T, suffix: (X, T))
    bounds = [*range(0, 1000, 200), 1000]
    orders = [seen_order(stream, bounds, seed) for seed in (1, 2, 1)]
    assert all(np.array_equal(np.sort(order), number) for order in orders)
    assert np.array_equal(orders[0], orders[2]) and (orders[0] != orders[1]).mean() > 0.9
    assert np.array_equal(seen_order(stream, bounds, None), number)
    for window in np.split(orders[0], 5):
        chunk = window // 50
        assert len(set(chunk)) == 4 and (np.diff(chunk) != 0).mean() > 0.5  # four chunks, well mixed
    assert len({tuple(sorted(set(w // 50))) for w in np.split(orders[0], 5)} & {(0, 1, 2, 3), (4, 5, 6, 7)}) < 2


@pytest.mark.parametrize("rows", [1, 7, 100, 256, 300, 1000, 10**6])
@pytest.mark.parametrize(("m", "batch_size"), [(1, 1), (999, 7), (1000, 100), (1283, 1283), (2570, 1000), (3000, 257)])
def test_windows_are_whole_chunks(rows, m, batch_size):
    """No window has more examples than asked for, unless a minibatch's smallest part has."""
    windows = windows_of(m, batch_size, rows)
    begins = [first for first, _ in windows]
    assert begins[0] == 0 and begins[-1] == m and all(np.diff(begins) > 0)
    least = min(batch_size, CHUNK_ROWS)
    assert max(np.diff(begins)) <= max(rows, least)
    assert all(np.diff([chunk for _, chunk in windows]) > 0)


def test_training_learns_as_in_memory():
    """Shuffled within windows of a tenth of the data, whose classes come one after another, it learns as well."""
    r = np.random.default_rng(0)
    y = np.repeat(np.arange(5), 800)
    X = (r.standard_normal((5, 7))[y] + 0.7 * r.standard_normal((4000, 7))).astype(np.float32)
    settings = {"output": "softmax", "loss": "log_loss", "activation": "relu"}
    right = []
    for given, arguments in (((X, y), {}), ((Shards([X], [y], chunk_rows=20),), {"window": 400})):
        net, _ = trained(*given, optimizer=Adam(0.01), settings=settings, epochs=5, batch_size=32, **arguments)
        right.append((net.forward(X).argmax(axis=1) == y).mean())
    assert right[1] > right[0] - 0.02 > 0.85


def test_chunks_are_read_once_a_pass_and_counted_when_they_do_not_say_how_many_they_have():
    X, T = examples()
    read = []

    class Counting(Chunks):
        def __getitem__(self, k):
            read.append(k)
            return super().__getitem__(k)

    trained(Counting(X, T), epochs=2, window=100)
    assert read[:6] == [0, 1, 2, 3, 4, 5] and len(read) <= 6 + 2 * 6 + 1
    read.clear()
    counting = Counting(X, T)
    counting.rows = [len(part) for part, _ in counting.parts]
    trained(counting, epochs=2, window=100)
    assert len(read) <= 2 * 6 + 1


def test_chunks_that_reuse_their_memory():
    """A chunk may be overwritten when the next one is asked for."""
    X, T = examples()
    rooms = np.empty((600, 7), np.float32), np.empty((600, 5), np.float32)

    class Reusing(Chunks):
        def __getitem__(self, k):
            found = []
            for room, part in zip(rooms, self.parts[k], strict=True):
                room.fill(7)
                room[: len(part)] = part
                found.append(room[: len(part)])
            return tuple(found)

    assert same_bits(trained(X, T)[0], trained(Reusing(X, T), window=100)[0])


def test_chunks_of_two_dtypes():
    """Numbers that mean the same among those of the first chunk are converted; others are refused."""
    X, T = examples()
    X = X.astype(np.float16).astype(np.float32)
    whole = trained(X, T)[0]
    assert same_bits(whole, trained([(X[:300], T[:300]), (X[300:].astype(np.float16), T[300:])], window=100)[0])
    assert same_bits(whole, trained([(X[:300], T[:300]), (X[300:].astype(np.float64), T[300:])], window=100)[0])
    with refused("X of chunk 1 is float32 and that of the first chunk uint8"):
        trained([(X[:300].astype(np.uint8), T[:300]), (X[300:], T[300:])])


def test_a_list_of_pairs_and_empty_chunks():
    X, T = examples()
    chunks = [*Chunks(X, T).parts, (X[:0], T[:0])]
    chunks.insert(0, (X[:0], T[:0]))
    assert same_bits(trained(X, T)[0], trained(chunks, window=100)[0])
    y = T.argmax(axis=1)
    labels = [(X[:0], y[:0]), (X, y)]
    settings = {"output": "softmax", "loss": "log_loss"}
    assert same_bits(trained(X, y, settings=settings)[0], trained(labels, settings=settings)[0])


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [100, 5000])
@pytest.mark.parametrize("where", ["X", "T"])
def test_numbers_are_checked_in_every_epoch_and_the_last_epochs_weights_stand(window, where):
    """A chunk whose numbers go bad in the third epoch: the weights, and the state, are those of two epochs."""
    X, T = examples()
    arguments = {"optimizer": Adam(), "batch_size": 16, "window": window, "shuffle": window == 100}
    chunks = Chunks(X.copy(), T.copy())

    def spoil(network, history):
        if history.n_epochs == 2:
            chunks.parts[2]["XT".index(where)][0, 3] = np.nan

    net = network(SIZES)
    net._rng = np.random.default_rng(0)
    with refused(f"{where} of chunk 2 holds nan at row 0, column 3"):
        net.train(chunks, epochs=5, callbacks=[spoil], **arguments)
    two, _ = trained(Chunks(X, T), epochs=2, **arguments)
    assert same_bits(net, two)
    five, _ = trained(Chunks(X, T), epochs=5, **arguments)
    net.train(Chunks(X, T), epochs=3, **arguments)
    assert same_bits(net, five)


def test_a_chunk_that_cannot_be_read():
    X, T = examples()

    class Broken(Chunks):
        reads = 0

        def __getitem__(self, k):
            Broken.reads += 1
            if Broken.reads > 17:
                raise OSError("the disk is gone")
            return super().__getitem__(k)

    net = network(SIZES)
    with pytest.raises(OSError, match="the disk is gone"):
        net.train(Broken(X, T), optimizer=SGD(0.1), batch_size=16, epochs=5, window=100, shuffle=False)
    whole = network(SIZES)
    whole.train(X, T, optimizer=SGD(0.1), batch_size=16, epochs=1, shuffle=False)
    assert same_bits(net, whole)


def test_divergence_of_a_stream():
    net = network(SIZES, output="identity")
    X, T = examples()
    before = digest(net)
    with pytest.raises(fastmlp.DivergenceError):
        net.train(Chunks(X, T), optimizer=SGD(1e30), batch_size=16, window=100)
    assert digest(net) == before


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([], ("X has no chunks",)),
        ([(np.ones((2, 7)),)], ("chunk 0 of X is tuple", "a pair (X, T)")),
        ([1, 2], ("chunk 0 of X is int",)),
        ([(np.ones((0, 7)), np.ones((0, 5)))], ("no rows",)),
        ([(np.ones((3, 6)), np.ones((3, 5)))], ("X of chunk 0", "(3, 6)", "(m, 7)")),
        ([(np.ones((3, 7)), np.ones((3, 5))), (np.ones((3, 7)), np.ones((2, 5)))], ("T of chunk 1", "(2, 5)")),
        ([(np.ones((3, 7)), np.ones((3, 5))), (np.ones((3, 7)), np.array([["a"] * 5] * 3))], ("T of chunk 1", "dtype")),
    ],
)
def test_wrong_chunks_are_refused_before_training(chunks, words):
    net = network(SIZES)
    before = digest(net)
    with refused(*words):
        net.train(chunks, optimizer=SGD(0.1))
    assert digest(net) == before


def test_labels_out_of_range_in_a_chunk():
    net = network(SIZES, output="softmax", loss="log_loss")
    X = np.ones((9, 7))
    with refused("T of chunk 1 holds the class label 5"):
        net.train([(X, np.arange(9) % 5), (X, np.full(9, 5))], optimizer=SGD(0.1))


def test_chunks_of_two_kinds():
    X, T = examples()
    with refused("X of chunk 1 is not of the first chunk's kind"):
        trained([(X, T), (scipy.sparse.csr_matrix(X), T)])


def test_arguments(tmp_path):
    X, T = examples()
    for window in (0, -1, 1.5, True, "8"):
        with refused("window is", "an integer >= 1"):
            trained(X, T, window=window)
    for wrong in (X, 3, "folder", {"X": X}, scipy.sparse.csr_matrix(X)):
        with refused("T is None"):
            trained(wrong)
    with refused("sample_weight is given"):
        trained(Chunks(X, T), sample_weight=np.ones(len(X)))
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", T[1:])
    (tmp_path / "c.npy").write_bytes(b"nothing")
    np.save(tmp_path / "d.npy", np.array([object()] * 3), allow_pickle=True)
    for x, t, words in (
        (tmp_path / "empty", tmp_path / "empty", "has no .npy files"),
        (tmp_path / "a.npy", T, "which is no folder"),
        ([], [], "X is empty"),
        (5, [T], "X is int"),
        ([0.5], [T], "X is list"),
        ([X], {"T": T}, "T is dict"),
        ([tmp_path / "a.npy"], [T, T], "X has 1 files or arrays and T has 2"),
        ([tmp_path / "a.npy"], [tmp_path / "b.npy"], "(1283, 7) and"),
        ([tmp_path / "c.npy"], [T], "is no .npy file of numbers"),
        ([tmp_path / "d.npy"], [T], "is no .npy file of numbers"),
    ):
        with refused(words):
            Shards(x, t)
    with pytest.raises(FileNotFoundError):
        Shards([tmp_path / "nothing.npy"], [T])
    for rows in (0, 1.5, True, "a"):
        with refused("chunk_rows is"):
            Shards([X], [T], rows)
    chunks = Chunks(X, T)
    chunks.rows = lambda: [1]
    with refused("rows of X is a method"):
        trained(chunks)
    chunks.rows = [1]
    with refused("rows of X has 1 entries; 6"):
        trained(chunks)


def test_checkpoints_of_streams(tmp_path):
    X, T = examples()
    arguments = {"optimizer": Adam(), "batch_size": 16, "window": 100}
    whole, _ = trained(Chunks(X, T), epochs=4, **arguments)
    trained(Chunks(X, T), epochs=2, checkpoint=tmp_path / "a", **arguments)
    again, _ = trained(Chunks(X, T), epochs=4, seed=5, checkpoint=tmp_path / "a", **arguments)
    assert same_bits(whole, again)
    with refused("another run", "window was 100 and is 200"):
        trained(Chunks(X, T), epochs=5, checkpoint=tmp_path / "a", **{**arguments, "window": 200})


# ---- memory --------------------------------------------------------------------------------------------------------

# Anonymous memory at its highest, in MB, of trainings on ever more data; the first is to fill what stays.
MEMORY = """
import json, os, sys, threading
import numpy as np
import fastmlp

def anonymous():
    with open("/proc/self/status") as file:
        return int(next(line.split()[1] for line in file if line.startswith("RssAnon"))) / 1e3

def train(kind, m):
    x, t = (os.path.join(sys.argv[1], f"{name}{m}.npy") for name in "XT")
    if not os.path.exists(x):
        for path, columns in ((x, 100), (t, 2)):
            array = np.lib.format.open_memmap(path, "w+", np.float32, (m, columns))
            for begin in range(0, m, 10000):
                part = array[begin : begin + 10000]
                part[...] = np.random.default_rng(begin).random(part.shape)
            del array
    net = fastmlp.Network([100, 16, 2], random_state=0)
    peak = []
    stop = threading.Event()
    def watch():
        while True:
            peak.append(anonymous())
            if stop.wait(0.001):
                break
    thread = threading.Thread(target=watch)
    thread.start()
    mapped, descent = [np.load(path, mmap_mode="r") for path in (x, t)], fastmlp.GradientDescent(0.1)
    if kind == "memory map":
        net.train(*mapped, optimizer=fastmlp.Adam(), epochs=1, window=8000)
    elif kind == "shards":
        net.train(fastmlp.Shards([x], [t]), optimizer=descent, epochs=1, window=8000)
    else:
        net.train(*mapped, optimizer=descent, epochs=1)
    stop.set()
    thread.join()
    return max(peak)

found = {}
for kind in ("memory map", "shards", "in order"):
    train(kind, 40000)
    found[kind] = [train(kind, m) for m in (40000, 400000)]
print(json.dumps(found))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from Linux's /proc")
def test_anonymous_memory_does_not_grow_with_the_data(tmp_path):
    """16 MB and 163 MB of data: the peak is the same but for what the allocator does."""
    for kind, (few, many) in json.loads(run_python("-c", MEMORY, str(tmp_path))).items():
        assert many - few < 32, (kind, few, many)
