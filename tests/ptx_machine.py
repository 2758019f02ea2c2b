"""A multiprocessor for a machine without a GPU: carries out PTX, all threads of a block together, in NumPy.

The definitions are those of the PTX ISA. Threads that have come apart run on in the order of the program, those that
are behind first, until they are together again. What a GPU forgives, or punishes by chance, is a `Fault` here:

- an address outside of what was allocated, or not a multiple of what is read there;
- two warps that use the same place of memory, one of them writing, though no barrier of their block, and nothing that
  one block released and the other acquired, stands between them (a race); but blocks may write the same numbers to
  global memory, and read what they wrote;
- a warp that comes to an instruction of the whole warp without all of its threads;
- threads that wait at a barrier, or for other blocks, for ever.

Blocks take turns at barriers. Shared memory and registers begin as NaN. A copy under way (cp.async) is NaN at its
target until it is waited for, and what it copies must not change until then.
"""

import bisect
import collections
import functools
import random
import re

import numpy as np

LANES, BANKS = 32, 32
SHARED_BEGIN = 1024  # what lies before is the system's
VECTOR = 16  # bytes that a thread moves at once, at the most
# Who: a turn * CODES + a warp, below 32, or several warps of a block, or several blocks (of one bits only, for |).
CODES, SEVERAL, BLOCKS = 128, 63, 127
UNIT = 2  # bytes of global memory that are used as one
PATIENCE = 1_000  # times that each block is asked, on average, and none goes on
AT_ONCE = 8  # blocks that run by turns where they need not wait for one another

KINDS = {f"{letter}{8 * size}": np.dtype(f"{kind}{size}") for letter, kind in (("u", "u"), ("b", "u"), ("s", "i"))
         for size in (1, 2, 4, 8)}  # fmt: skip
KINDS |= {"f32": np.dtype("f4"), "f64": np.dtype("f8"), "pred": np.dtype(bool)}
WIDER = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
LANE = np.arange(LANES)
GROUP, IN_GROUP = LANE // 4, LANE % 4


class Fault(Exception):  # noqa: N818
    """What a program may not do, or this machine cannot."""


class Uses:
    """Who has used which unit of a memory last: codes, as above."""

    def __init__(self, units, name):
        self.name = name
        self.written, self.read = np.zeros(units, np.int64), np.zeros(units, np.int64)
        # where several blocks have written the same, or read: which, as Turns numbers such sets
        self.writers_sets, self.readers_sets = np.zeros(units, np.int32), np.zeros(units, np.int32)

    def note(self, units, warps, seen, writes, same=False):
        """Note that threads use units; a fault if there is a race.

        Parameters
        ----------
        units, warps : (n,) int arrays
            What each thread uses, and its warp.
        seen : Seen
            What the block has seen of others.
        writes : bool
        same : (n,) array of truth values, optional
            Where what is written is there already, which is no race.
        """
        who, owned = seen.turn * CODES + warps, np.zeros(0, int)
        writers, readers = self.written[units], self.read[units]
        races = seen.unseen(writers, who, self.writers_sets[units])
        beside = seen.unseen(readers, who, self.readers_sets[units])
        if races.any():
            if writes:
                owned = np.flatnonzero(races & same)
            else:
                owned = np.flatnonzero(races & (writers % CODES == BLOCKS))
                owned = owned[seen.is_of(self.writers_sets[units[owned]])]
            races[owned] = False
        if writes and beside.any():
            races |= beside & ~np.asarray(same)
        if races.any():
            n = np.flatnonzero(races)[0]
            one = slice(n, n + 1)
            other = writers[n] if seen.unseen(writers[one], who[one], self.writers_sets[units[one]])[0] else readers[n]
            does = "writes" if writes else "reads"
            raise Fault(f"a race: {seen.name(who[n])} {does} what {seen.name(other)} has used, {self.name} {units[n]}")
        if writes:
            self._mark(self.written, units, who)
            if owned.size:
                self.written[units[owned]] = seen.together(writers[owned], who[owned])
                seen.add(self.writers_sets, units[owned], writers[owned])
        else:
            if beside.any():
                seen.add(self.readers_sets, units[beside], readers[beside])
                who[beside] = seen.together(readers[beside], who[beside])
            self._mark(self.read, units, who)

    def _mark(self, codes, units, who):
        """Units are used now by `who`, some by several warps at once."""
        codes[units] = who
        mixed = codes[units] != who
        if mixed.any():
            codes[units[mixed]] |= SEVERAL


class Turns:
    """The turns of a launch's blocks: a turn is a block's time between two barriers, or from one until it releases.

    Another turn goes from there to the barrier. Turns are numbered as they begin. A stage of a block ends when it
    releases; what others did in theirs it learns by acquiring, all its threads behind the next barrier. Where no block
    does either, the whole launch is one stage.
    """

    def __init__(self, grid=1, first=1, stage=1):
        self.grid, self.first, self.number = grid, first, first
        self.first_stage, self.stage = stage, stage  # the last one so far
        self.begins = {}  # the first turn of each stage
        self.block_of, self.stage_of = np.zeros(64, int), np.zeros(64, int)  # by turn, from the first on
        self.sets, self.set_numbers = [], {}  # of blocks, as tuples

    def begin(self, block, stage):
        """The number of a block's next turn."""
        at = self.number - self.first
        if at == len(self.block_of):
            self.block_of, self.stage_of = (np.append(x, np.zeros_like(x)) for x in (self.block_of, self.stage_of))
        self.block_of[at], self.stage_of[at] = block, stage
        self.begins.setdefault(stage, self.number)
        self.number += 1
        return self.number - 1

    def number_of(self, blocks):
        """The number of a set of blocks."""
        blocks = tuple(sorted(blocks))
        if blocks not in self.set_numbers:
            self.set_numbers[blocks] = len(self.sets)
            self.sets.append(blocks)
        return self.set_numbers[blocks]


class Seen:
    """What a block has seen of the blocks of its launch: all that each did in its stages up to one."""

    def __init__(self, turns, block=0):
        self.turns, self.block, self.stage = turns, block, turns.first_stage
        self.stages, self.acquired = np.full(turns.grid, self.stage - 1), None
        self.all_of = self.stage if turns.grid == 1 else self.stage - 1  # a stage of which all has been seen
        self.begin()

    def begin(self):
        """Behind a barrier a turn begins in which all threads know what one of them has acquired."""
        if self.acquired is not None:
            self.stages, self.acquired = np.maximum(self.stages, self.acquired), None
            self.all_of = int(np.delete(self.stages, self.block).min(initial=self.stage))
        self.turn = self.since = self.turns.begin(self.block, self.stage)  # since: the first one behind the barrier
        self.horizon = CODES * min(self.turns.begins.get(self.all_of + 1, self.turn), self.since)  # all below is seen

    def release(self, released):
        """What is to be known to whoever acquires what this block releases now, and others have before."""
        known = self.stages.copy()
        for more in (self.acquired, released):
            known = known if more is None else np.maximum(known, more)
        known[self.block] = self.stage
        self.stage += 1
        self.turns.stage = max(self.turns.stage, self.stage)
        self.turn = self.turns.begin(self.block, self.stage)
        return known

    def acquire(self, released):
        """What has been released is known, from the next turn on."""
        self.acquired = released if self.acquired is None else np.maximum(self.acquired, released)

    def unseen(self, codes, who, sets):
        """Which uses are not known to have been before those of `who`, this block's in this turn.

        `sets` says of those by several blocks which they were.
        """
        found = (codes >= self.horizon) & (codes != who)
        if found.any():
            some = codes[found]
            turns, several = some // CODES - self.turns.first, some % CODES == BLOCKS
            blocks = self.turns.block_of[turns]
            seen = self.stages[blocks]
            if several.any():
                numbers, which = np.unique(sets[found][several], return_inverse=True)
                seen[several] = np.array([self._seen_of(self.turns.sets[number]) for number in numbers])[which]
            later = self.turns.stage_of[turns] > seen
            within = (some // CODES >= self.since) & (some % CODES != who[found] % CODES)
            found[found] = np.where((blocks == self.block) & ~several, within, later)
        return found

    def _seen_of(self, blocks):
        """The last stage of which this block has seen what all those blocks did, itself aside."""
        return min((self.stages[block] for block in blocks if block != self.block), default=self.turns.stage)

    def is_of(self, sets):
        """Whether this block is of each of some sets."""
        return np.array([self.block in self.turns.sets[number] for number in sets], bool)

    def together(self, codes, who):
        """The codes of uses by others, and, not seen by them, by `who`."""
        turns, own = (x // CODES - self.turns.first for x in (codes, who))
        within = (self.turns.block_of[turns] == self.block) & (codes % CODES != BLOCKS)
        later = np.where(self.turns.stage_of[turns] > self.turns.stage_of[own], codes, who)
        return np.where(within, who | SEVERAL, later | BLOCKS)

    def add(self, sets, units, codes):
        """This block uses units, too, that others have used: it is of their sets from now on."""
        others = self.turns.block_of[codes // CODES - self.turns.first]
        others = np.where(codes % CODES == BLOCKS, -1 - sets[units], others)  # sets, numbered from -1 down
        found, which = np.unique(others, return_inverse=True)
        theirs = [self.turns.sets[-1 - other] if other < 0 else (other,) for other in found.tolist()]
        sets[units] = np.array([self.turns.number_of({*blocks, self.block}) for blocks in theirs])[which]

    def name(self, code):
        """Who that is, in words."""
        warp, block = code % CODES, self.turns.block_of[code // CODES - self.turns.first]
        if warp == BLOCKS:
            return "several blocks"
        name = "several warps" if warp == SEVERAL else f"warp {warp}"
        return name if self.turns.grid == 1 else f"{name} of block {block}"


class Memory:
    """A GPU's memory: numbers at addresses, in pieces that are allocated and given back."""

    BEGIN = 1 << 40

    def __init__(self, size=1 << 28):
        self.bytes = np.full(size, 0xFF, np.uint8)
        self.pieces, self._begins = {}, []  # address: size; the addresses in order
        self._views = {}
        self.uses = Uses(size // UNIT, f"in global memory, at {UNIT} x")
        self.released = {}  # of the address of a counter: what `Seen.release` gave
        self.turn, self.stage = 1, 1  # of the next launch

    def allocate(self, size):
        """The address of so many bytes of 0xFF, a multiple of 512; None if there is no room for them."""
        begin = self.BEGIN + 512
        for address in self._begins:
            if begin + size + 512 <= address:  # bytes that are nobody's lie between
                break
            begin = -(-(address + self.pieces[address] + 512) // 512) * 512
        if begin + size > self.BEGIN + len(self.bytes):
            return None
        self.pieces[begin] = size
        bisect.insort(self._begins, begin)
        self.bytes[begin - self.BEGIN :][:size] = 0xFF
        return begin

    def free(self, address):
        """Give bytes back."""
        del self.pieces[address]
        self._begins.remove(address)

    def piece(self, address, size):
        """The bytes at an address, all of one allocation."""
        self.check(np.array([address], np.uint64), size)
        return self.bytes[address - self.BEGIN :][:size]

    def check(self, addresses, size):
        """Fault unless so many bytes from each address on are of one allocation, and it a multiple of theirs."""
        lowest, highest = int(addresses.min()), int(addresses.max())
        if highest + size > self._end_of(lowest):
            for address in np.unique(addresses).tolist():
                if address + size > self._end_of(address):
                    raise Fault(f"{size} bytes at {address:#x} are nobody's")

    def _end_of(self, address):
        """The end of the allocation in which an address is; 0 if it is in none."""
        n = bisect.bisect(self._begins, address) - 1
        return 0 if n < 0 else self._begins[n] + self.pieces[self._begins[n]]

    def numbers(self, addresses, size):
        """(all numbers of a size, the places of some): for reading and writing them."""
        if (addresses % np.uint64(size)).any():
            raise Fault(f"an address is no multiple of {size}")
        self.check(addresses, size)
        if size not in self._views:
            kind = np.dtype((np.void, size)) if size == VECTOR else np.dtype(f"u{size}")
            self._views[size] = self.bytes.view(kind)
        return self._views[size], (addresses - np.uint64(self.BEGIN)) // np.uint64(size)


class Shared:
    """A block's shared memory, and which warps have used which words of it."""

    def __init__(self, size):
        self.bytes = np.full(-(-size // VECTOR) * VECTOR, 0xFF, np.uint8)
        self.uses, self.seen = Uses(len(self.bytes) // 4, "in shared memory, at 4 x"), Seen(Turns())
        self.size = size

    def places(self, addresses, size):
        """The places in `bytes` of so many bytes at each address."""
        places = addresses.astype(np.int64) - SHARED_BEGIN
        if (places % size).any() or places.min() < 0 or places.max() + size > self.size:
            raise Fault(f"{size} bytes at {places.min()} to {places.max()} of {self.size} in shared memory")
        return places


def units_of(places, size, unit, *more):
    """The units in which so many bytes at each place lie, and as often what belongs to each place."""
    if size <= unit:
        return places // unit, *more
    count = size // unit
    units = (places[:, None] // unit + np.arange(count)).ravel()
    return units, *(np.repeat(x, count) for x in more)


class Counts:
    """What warps do: instructions by name and by line of source (file, line), and cycles of shared memory's banks.

    `cycles` are what accesses take, `least` what they would if no two threads of a warp met at a bank.
    """

    def __init__(self):
        self.instructions, self.lines = collections.Counter(), collections.Counter()
        self.cycles, self.least = 0, 0

    def issued(self, block, operation, line, warps):
        """Some warps of a block, an array of truth values, issue an instruction."""
        number = int(warps.sum())
        self.instructions[operation] += number
        if line is not None:
            self.lines[block.kernel.files[line[0]], line[1]] += number

    def accessed(self, places, size, warps):
        """Threads of some warps, one after the other, use so many bytes of shared memory at each place."""
        for warp in np.unique(warps):
            own = places[warps == warp]
            for part in np.array_split(own, max(1, len(own) * size // (4 * LANES))):
                words = np.unique(part[:, None] // 4 + np.arange(max(1, size // 4)))
                self.cycles += int(np.bincount(words % BANKS).max())
                self.least += -(-len(words) // BANKS)


class Kernel:
    """A program: `parameters` are (name, bytes), `parts` are runs of steps that end where threads may part or meet."""

    def __init__(self, text):
        text = re.sub(r"//[^\n]*", "", text)
        head, body = re.search(r"\.entry\s+(\S+?)\((.*?)\n\}", text, re.S), None
        if head is None or len(re.findall(r"\.entry", text)) != 1 or re.search(r"\.func\b|\.local\b", text):
            raise Fault("this machine carries out one kernel, without functions beside it and without local memory")
        self.name = head[1]
        arguments, body = head[2].split(")", 1)
        declared = re.findall(r"\.param\s+\.(?:align\s+\d+\s+)?(\w+)\s+(\S+?)(?:,|\s|$)", arguments)
        self.parameters = [(name, KINDS[kind].itemsize) for kind, name in declared]
        bound = re.search(r"\.maxntid\s+(\d+)", body)
        self.most_threads = int(bound[1]) if bound else 1024
        self.symbols = set(re.findall(r"\.shared\s+\.align\s+\d+\s+\.b8\s+(\w+)\[", text))
        self.registers, self.labels, self.parts, self.counts = {}, {}, [], {}
        for kind, prefix, count in re.findall(r"\.reg\s+\.(\w+)\s+(%\w+)(?:<(\d+)>)?;", body):
            self.registers[prefix] = KINDS[kind], int(count or 0)
        self._numbers = {}
        for prefix, (kind, count) in self.registers.items():
            for name in [f"{prefix}{n}" for n in range(count)] or [prefix]:
                self._numbers[name] = len(self._numbers), kind
        self.files = {int(n): name for n, name in re.findall(r"\.file\s+(\d+)\s+\"(.*?)\"", text)}
        self._assemble(body[body.index("{") + 1 :])

    def _assemble(self, body):
        steps, parts, line_of_source = [], self.parts, None

        def end(*how):
            parts.append((tuple(steps), how))
            steps.clear()

        for line in body.split("\n"):
            line = line.strip()
            label = re.match(r"(\$\w+):$", line)
            if label:
                if steps:
                    end("go on")
                self.labels[label[1]] = len(parts)
                continue
            if line.startswith(".loc"):
                line_of_source = tuple(map(int, line.split(",")[0].split()[1:3]))
            if not line or line[0] in ".{}":
                continue
            found = re.match(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*?);$", line)
            if not found:
                raise Fault(f"not understood: {line}")
            negated, predicate, operation, operands = found.groups()
            condition = None if predicate is None else (self.value(predicate, KINDS["pred"]), bool(negated))
            if operation in ("bra", "bra.uni"):
                end("branch", operands.strip(), condition)
            elif operation in ("ret", "exit"):
                end("return", condition)
            elif operation in ("bar.sync", "barrier.sync.aligned", "barrier.sync"):
                assert condition is None and operands.strip() == "0"
                end("barrier")
            else:
                try:
                    step = self.step(operation.split("."), split(operands))
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise Fault(f"not carried out: {line}") from error
                steps.append((operation, step, condition, line_of_source))
                if operation.startswith(("ld.relaxed", "ld.acquire", "ld.volatile")):
                    end("poll")
        end("return", None)

    # ---- operands --------------------------------------------------------------------------------------------------

    def value(self, operand, kind):
        """A function of the block that gives an operand's value as numbers of a kind: an array, or one number."""
        if operand in self._numbers:
            number, own = self._numbers[operand]
            if own == kind:
                return lambda block: block.registers[number]
            if own.itemsize == kind.itemsize:
                return lambda block: block.registers[number].view(kind)
            if own.itemsize > kind.itemsize and own.kind == "u":
                narrow = np.dtype(f"u{kind.itemsize}")
                return lambda block: block.registers[number].astype(narrow).view(kind)
            raise ValueError(operand)
        if operand[0] == "%":
            return lambda block: block.special[operand].astype(kind)
        if operand in self.symbols:
            constant = kind.type(SHARED_BEGIN)
        elif re.match(r"0[fF][0-9a-fA-F]{8}$", operand):
            constant = np.array(int(operand[2:], 16), np.uint32).view(np.float32)[()]
        elif re.match(r"0[dD][0-9a-fA-F]{16}$", operand):
            constant = np.array(int(operand[2:], 16), np.uint64).view(np.float64)[()]
        elif kind.kind == "b":
            constant = np.bool_(int(operand))
        else:
            number = int(operand.rstrip("U"), 0) % (1 << 8 * kind.itemsize)
            constant = np.array(number, f"u{kind.itemsize}").view(kind)[()]
        if constant.dtype != kind:
            constant = np.array(constant).view(kind)[()]
        return lambda block: constant

    def target(self, operand, kind):
        """A function put(block, values, mask) that writes an operand, as wide as its register makes it."""
        number, own = self._numbers[operand]
        wide = kind
        if own.itemsize != kind.itemsize:
            if own.itemsize < kind.itemsize or own.kind != "u":
                raise ValueError(operand)
            wide = np.dtype(f"{kind.kind}{own.itemsize}")

        def put(block, values, mask):
            register = block.registers[number]
            register = register if own == wide else register.view(wide)
            if mask is None:
                register[:] = values
            else:
                np.copyto(register, values, where=mask, casting="unsafe")

        return put

    def address(self, operand):
        """A function of the block that gives addresses (uint64, one a thread): of [register + distance] or [symbol]."""
        base, distance = re.match(r"\[(%?\w+)(?:\+(-?\d+))?\]$", operand).groups()
        if base in self._numbers:
            number, own = self._numbers[base]
            far = np.uint64(int(distance or 0) % (1 << 64))
            if own.itemsize == 8:
                return lambda block: block.registers[number] + far
            return lambda block: block.registers[number].astype(np.uint64) + far
        if base not in self.symbols:
            raise ValueError(operand)
        return lambda block: np.full(block.threads, SHARED_BEGIN + int(distance or 0), np.uint64)

    # ---- instructions ----------------------------------------------------------------------------------------------

    def step(self, words, operands):
        """A function (block, mask) that carries an instruction out for the threads of the mask, or for all (None)."""
        name, last = words[0], words[-1]
        if name in ("ld", "st", "red", "ldmatrix", "mma", "shfl", "cp", "cvt", "mov", "setp"):
            return getattr(self, f"_{name}")(words, operands)
        if name in ("bar", "membar", "fence"):
            return lambda block, mask: None
        kinds = [KINDS[last]] * len(operands)
        result = KINDS[last]
        if name == "cvta":
            function = np.positive
        elif name == "selp":
            kinds[3] = KINDS["pred"]
            function = lambda a, b, p: np.where(p, a, b)  # noqa: E731
        elif name in ("shl", "shr"):
            kinds[2], function = KINDS["u32"], functools.partial(shifted, name == "shl")
        elif name in ("mul", "mad") and words[1] == "wide":
            result = KINDS[WIDER[last]]
            kinds[3:] = [result] * (len(operands) - 3)
            function = functools.partial(wide_product, result)
        elif name == "bfi":
            kinds[3:] = [KINDS["u32"]] * 2
            function = inserted
        elif name == "div" and result.kind != "f":
            function = quotient
        elif name == "rem":
            function = lambda x, y: x - quotient(x, y) * y  # noqa: E731
        elif words[:2] == ["fma", "rm"] and last == "f32":
            function = multiply_add_down
        elif name in FUNCTIONS and set(words[1:-1]) <= MODIFIERS.get(name, set()):
            function = FUNCTIONS[name]
        else:
            raise ValueError(name)
        put = self.target(operands[0], result)
        values = [self.value(operand, kind) for operand, kind in zip(operands[1:], kinds[1:], strict=True)]
        if len(values) == 1:
            (x,) = values
            return lambda block, mask: put(block, function(x(block)), mask)
        if len(values) == 2:
            x, y = values
            return lambda block, mask: put(block, function(x(block), y(block)), mask)
        return lambda block, mask: put(block, function(*(value(block) for value in values)), mask)

    def _setp(self, words, operands):
        compare, kind = COMPARISONS[words[1]], KINDS[words[-1]]
        x, y = (self.value(operand, kind) for operand in operands[1:3])
        put = self.target(operands[0], KINDS["pred"])
        if len(words) == 3:
            return lambda block, mask: put(block, compare(x(block), y(block)), mask)
        combine, also = FUNCTIONS[words[2]], self.value(operands[3], KINDS["pred"])
        return lambda block, mask: put(block, combine(compare(x(block), y(block)), also(block)), mask)

    def _mov(self, words, operands):
        kind, (target, source) = KINDS[words[-1]], operands
        if source.startswith("{"):
            parts = split(source[1:-1])
            part = np.dtype(f"u{kind.itemsize // len(parts)}")
            values, put = [self.value(one, part) for one in parts], self.target(target, kind)

            def pack(block, mask):
                both = [np.broadcast_to(value(block), block.threads) for value in values]
                put(block, np.stack(both, axis=1).view(kind)[:, 0], mask)

            return pack
        value = self.value(source, kind)
        if target.startswith("{"):
            parts = split(target[1:-1])
            part = np.dtype(f"u{kind.itemsize // len(parts)}")
            puts = [self.target(one, part) if one != "_" else None for one in parts]

            def unpack(block, mask):
                found = np.ascontiguousarray(np.broadcast_to(value(block), block.threads)).view(part)
                for n, put in enumerate(puts):
                    if put is not None:
                        put(block, found[n :: len(puts)].copy(), mask)

            return unpack
        put = self.target(target, kind)
        return lambda block, mask: put(block, value(block), mask)

    def _cvt(self, words, operands):
        to, of = words[-2:]
        if to in ("bf16", "bf16x2", "tf32"):
            put = self.target(operands[0], KINDS["b16" if to == "bf16" else "b32"])
            values = [self.value(operand, KINDS["f32"]) for operand in operands[1:]]
            if to == "tf32":
                assert words[1] == "rna"
                return lambda block, mask: put(block, tf32(values[0](block)), mask)
            assert words[1] == "rn"

            def round_all(block, mask):
                halves = [bfloat16(value(block)) for value in values]
                put(block, halves[0] if to == "bf16" else halves[0] << np.uint32(16) | halves[1], mask)

            return round_all
        target, source = KINDS[to], KINDS[of]
        value, put = self.value(operands[1], source), self.target(operands[0], target)
        if words[1:] == ["sat", "f32", "f32"]:
            return lambda block, mask: put(block, np.fmin(np.fmax(value(block), np.float32(0)), np.float32(1)), mask)
        if "sat" in words or "ftz" in words:
            raise ValueError(words)
        if source.kind != "f" or (target.kind == "f" and not set(words[1:-2]) & {"rni", "rzi", "rmi", "rpi"}):
            if not set(words[1:-2]) <= {"rn"}:
                raise ValueError(words)
            return lambda block, mask: put(block, np.asarray(value(block)).astype(target), mask)
        whole = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}[words[1]]
        if target.kind == "f":
            return lambda block, mask: put(block, whole(value(block)).astype(target), mask)
        least, most = (np.float64(getattr(np.iinfo(target), end)) for end in ("min", "max"))

        def to_whole(block, mask):
            found = whole(np.asarray(value(block), np.float64))
            inside = np.nan_to_num(np.clip(found, least, np.nextafter(most, 0)))
            put(block, np.where(found >= most, np.iinfo(target).max, inside.astype(target)), mask)

        return to_whole

    def _ld(self, words, operands):
        count, kind = vector_of(words), KINDS[words[-1]]
        if "param" in words:
            name = operands[1][1:-1]
            put = self.target(operands[0], kind)
            return lambda block, mask: put(block, np.frombuffer(block.parameters[name], kind)[0], mask)
        address = self.address(operands[1])
        targets = split(operands[0][1:-1]) if count > 1 else operands[:1]
        puts, size = [self.target(target, kind) for target in targets], count * kind.itemsize
        read = Block.read_shared if "shared" in words else Block.read_global
        if {"relaxed", "acquire"} & set(words):
            assert words[1:] in (["relaxed", "gpu", "global", "u32"], ["acquire", "gpu", "global", "u32"])
            read = Block.acquire if "acquire" in words else Block.read_counter
        if not {"shared", "global"} & set(words):
            raise ValueError(words)

        def load(block, mask):
            found = read(block, address(block), size, mask)
            if count == 1:
                puts[0](block, found.view(kind), mask)
                return
            found = found.view(kind).reshape(-1, count)
            for n, put in enumerate(puts):
                put(block, found[:, n], mask)

        return load

    def _st(self, words, operands):
        count, kind = vector_of(words), KINDS[words[-1]]
        address = self.address(operands[0])
        sources = split(operands[1][1:-1]) if count > 1 else operands[1:]
        values, size = [self.value(source, kind) for source in sources], count * kind.itemsize
        write = Block.write_shared if "shared" in words else Block.write_global
        if not {"shared", "global"} & set(words):
            raise ValueError(words)

        def store(block, mask):
            columns = [np.broadcast_to(value(block), block.threads) for value in values]
            write(block, address(block), size, np.stack(columns, axis=1), mask)

        return store

    def _red(self, words, operands):
        assert words[1:] == ["release", "gpu", "global", "add", "u32"]
        address, value = self.address(operands[0]), self.value(operands[1], KINDS["u32"])

        def add(block, mask):
            at = block.chosen(address(block), mask)
            numbers, places = block.memory.numbers(at, 4)
            block.release(at, mask)
            np.add.at(numbers, places, block.chosen(np.broadcast_to(value(block), block.threads), mask))

        return add

    def _shfl(self, words, operands):
        assert words[1:] == ["sync", "bfly", "b32"] and operands[3:] == ["31", "-1"]
        put = self.target(operands[0], KINDS["b32"])
        x, across = (self.value(operand, KINDS["b32"]) for operand in operands[1:3])

        def exchange(block, mask):
            block.whole_warps(mask)
            lanes = np.arange(block.threads) ^ np.broadcast_to(across(block), block.threads)
            put(block, x(block)[lanes], mask)

        return exchange

    def _cp(self, words, operands):
        if words[2] == "commit_group":
            return lambda block, mask: block.commit(mask)
        if words[2] == "wait_group":
            number = int(operands[0])
            return lambda block, mask: block.wait(number, mask)
        assert words[2:] == ["cg", "shared", "global"] and operands[2] == str(VECTOR)
        target, source = self.address(operands[0]), self.address(operands[1])
        wanted = self.value(operands[3], KINDS["u32"])
        return lambda block, mask: block.begin_copy(
            target(block), source(block), np.broadcast_to(wanted(block), block.threads), mask
        )

    def _ldmatrix(self, words, operands):
        transposed = "trans" in words
        assert [w for w in words[1:] if w != "trans"] == ["sync", "aligned", "m8n8", "x4", "shared", "b16"]
        puts = [self.target(target, KINDS["b32"]) for target in split(operands[0][1:-1])]
        address = self.address(operands[1])

        def load(block, mask):
            block.whole_warps(mask)
            rows = block.read_shared(address(block), VECTOR, mask)
            matrices = rows.view(np.uint16).reshape(-1, 4, 8, 8)
            if transposed:
                matrices = matrices.swapaxes(2, 3)
            found = np.ascontiguousarray(matrices).view(np.uint32)[:, :, GROUP, IN_GROUP]
            for n, put in enumerate(puts):
                put(block, found[:, n].ravel(), mask)

        return load

    def _mma(self, words, operands):
        assert words[1:3] == ["sync", "aligned"] and words[4:6] == ["row", "col"]
        assert words[6:] in (["f32", "bf16", "bf16", "f32"], ["f32", "tf32", "tf32", "f32"])
        k, per_word = {"m16n8k16": (16, 2), "m16n8k8": (8, 1)}[words[3]]
        assert (per_word == 2) == (words[7] == "bf16")
        d, a, b, c = (split(operand[1:-1]) for operand in operands)
        puts = [self.target(one, KINDS["f32"]) for one in d]
        factors = [[self.value(one, KINDS["b32"]) for one in words] for words in (a, b)]
        terms = [self.value(one, KINDS["f32"]) for one in c]
        n, half = np.arange(4), np.arange(per_word)
        # the row and the column of each number that a lane has: (lanes, registers, numbers of a register)
        group, in_group = GROUP[:, None, None], IN_GROUP[:, None, None]
        a_rows = group + n[:, None] % 2 * 8 + 0 * half
        a_columns = per_word * in_group + n[:, None] // 2 * 4 * per_word + half
        b_rows = per_word * in_group + n[:2, None] * 4 * per_word + half
        b_columns = group + 0 * n[:2, None] + 0 * half
        d_rows, d_columns = GROUP[:, None] + n // 2 * 8, 2 * IN_GROUP[:, None] + n % 2

        def numbers(block, values):
            words = np.stack([np.broadcast_to(value(block), block.threads) for value in values], axis=1)
            if per_word == 2:
                words = np.stack([words << np.uint32(16), words & np.uint32(0xFFFF0000)], axis=2)
            else:
                words = (words & np.uint32(0xFFFFE000))[:, :, None]
            return words.view(np.float32).reshape(-1, LANES, *words.shape[1:])

        def multiply(block, mask):
            block.whole_warps(mask)
            A, B = np.empty((block.warps, 16, k)), np.empty((block.warps, k, 8))
            A[:, a_rows, a_columns], B[:, b_rows, b_columns] = (numbers(block, factor) for factor in factors)
            found = (A @ B)[:, d_rows, d_columns].reshape(block.threads, 4)
            for n, put in enumerate(puts):
                put(block, (found[:, n] + terms[n](block)).astype(np.float32), mask)

        return multiply


def split(operands):
    """Operands apart; those in braces are one."""
    return [one.strip() for one in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s{\[][^,]*", operands)]


def vector_of(words):
    """How many numbers a load or a store moves."""
    return next((int(word[1:]) for word in words if re.fullmatch(r"v\d", word)), 1)


def shifted(left, x, n):
    """x << n or x >> n: all bits out for n as large as there are bits."""
    bits = 8 * x.dtype.itemsize
    inside = np.minimum(n, bits - 1).astype(x.dtype)
    if left:
        return np.where(n < bits, x << inside, x.dtype.type(0))
    return x >> inside if x.dtype.kind == "i" else np.where(n < bits, x >> inside, x.dtype.type(0))


def wide_product(result, x, y, z=None):
    """x y (+ z) in numbers twice as wide."""
    product = np.asarray(x).astype(result) * np.asarray(y).astype(result)
    return product if z is None else product + z


def inserted(x, y, begin, length):
    """y with its bits from `begin` on replaced by the lowest of x."""
    one = y.dtype.type(1) if hasattr(y, "dtype") else np.uint64(1)
    ones = ((one << length.astype(one.dtype)) - one) << begin.astype(one.dtype)
    return (y & ~ones) | ((x << begin.astype(one.dtype)) & ones)


def quotient(x, y):
    """x / y, without its fraction; for y = 0 all bits."""
    x, y = np.broadcast_arrays(x, y)
    if x.dtype.kind == "u":
        return np.where(y == 0, ~x.dtype.type(0), x // np.maximum(y, 1))
    safe = np.where(y == 0, 1, y)
    down = x // safe
    return np.where(y == 0, -1, down + ((down < 0) & (down * safe != x)))


def multiply_add(x, y, z):
    """x y + z, rounded once, or almost so."""
    wide = np.float64 if np.result_type(x) == np.float32 else np.longdouble
    return (np.asarray(x).astype(wide) * y + z).astype(np.result_type(x))


def multiply_add_down(x, y, z):
    """x y + z in float32, rounded down."""
    exact = np.asarray(x).astype(np.float64) * y + z
    nearest = exact.astype(np.float32)
    return np.where(nearest > exact, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def bfloat16(x):
    """The bits of the nearest bfloat16, ties to even; uint32."""
    bits = np.asarray(x).view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(x), np.uint32(0x7FFF), nearest)


def tf32(x):
    """The bits of a float32, rounded to 10 bits of mantissa, ties away from zero."""
    bits = np.asarray(x).view(np.uint32)
    return np.where(np.isnan(x), np.uint32(0x7FFFFFFF), bits + np.uint32(0x1000) & np.uint32(0xFFFFE000))


def product_sum(x, y, z):
    """x y + z of whole numbers, or rounded once."""
    return multiply_add(x, y, z) if np.result_type(x).kind == "f" else x * y + z


def power_of_two(x):
    """2^x; zero instead of numbers below the smallest normal one."""
    found = np.exp2(x)
    return np.where(found < np.finfo(found.dtype).tiny, found.dtype.type(0), found)


def copysign(x, y):
    return np.copysign(y, x)


FUNCTIONS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "mad": product_sum, "fma": multiply_add,
    "div": np.divide, "rcp": lambda x: 1 / x, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x), "neg": np.negative,
    "abs": np.abs, "min": np.fmin, "max": np.fmax, "ex2": power_of_two, "lg2": np.log2, "copysign": copysign,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
}  # fmt: skip
MODIFIERS = {
    "add": {"rn"}, "sub": {"rn"}, "mul": {"rn", "lo"}, "mad": {"lo"}, "fma": {"rn"}, "div": {"rn"}, "sqrt": {"rn"},
    "rcp": {"rn", "approx", "ftz"}, "ex2": {"approx", "ftz"}, "lg2": {"approx"}, "rsqrt": {"approx"},
}  # fmt: skip
COMPARISONS = {
    "eq": np.equal, "ne": lambda x, y: (x < y) | (x > y), "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "neu": np.not_equal, "equ": lambda x, y: ~((x < y) | (x > y)),
    "ltu": lambda x, y: ~(x >= y), "leu": lambda x, y: ~(x > y), "gtu": lambda x, y: ~(x <= y),
    "geu": lambda x, y: ~(x < y), "nan": lambda x, y: (x != x) | (y != y), "num": lambda x, y: (x == x) & (y == y),
}  # fmt: skip
COMPARISONS |= {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}


class Block:
    """A block of a launch, in the middle of its program."""

    def __init__(self, kernel, memory, threads, shared_bytes, parameters, number, grid, seen, counts=None):
        self.kernel, self.memory, self.parameters, self.threads = kernel, memory, parameters, threads
        self.number, self.seen, self.counts = number, seen, counts
        self.warps = threads // LANES
        self.warp_of = np.arange(threads) // LANES
        self.shared = Shared(shared_bytes)
        self.used = np.zeros(self.warps, int)  # the last turn in which a warp used global memory
        self.registers = []
        for kind, count in kernel.registers.values():
            dirt = 1 if kind == KINDS["pred"] else 0xFF
            self.registers += list(np.full((max(1, count), threads * kind.itemsize), dirt, np.uint8).view(kind))
        thread, zero, one = np.arange(threads), np.zeros(threads, int), np.ones(threads, int)
        self.special = {"%tid.x": thread, "%ntid.x": threads * one, "%ctaid.x": number * one, "%nctaid.x": grid * one}
        self.special |= {f"%{name}.{axis}": zero for name in ("tid", "ctaid") for axis in "yz"}
        self.special |= {f"%{name}.{axis}": one for name in ("ntid", "nctaid") for axis in "yz"}
        self.special |= {"%dynamic_smem_size": shared_bytes * one, "%laneid": thread % LANES}
        self._commits, self._copies = np.zeros(threads, int), []

    def run(self):
        """Run to the end; yields at each barrier (True), and each time that another block may be waited for (False)."""
        parts, labels = self.kernel.parts, self.kernel.labels
        at, places, waiting = 0, None, None  # one place for all threads, or the place of each: -1 behind the end
        while True:
            mask = None
            if places is not None:
                ready = (places >= 0) & ~waiting
                if not ready.any():
                    if not waiting.any():
                        return
                    if len(set(places[waiting].tolist())) > 1 or not waiting.all():
                        raise Fault("threads wait at a barrier to which others do not come")
                    waiting[:] = False
                    self.begin_turn()
                    yield True
                    continue
                at = int(places[ready].min())
                mask = ready & (places == at)
                if mask.all():
                    mask = places = None
            steps, how = parts[at]
            for operation, step, condition, line in steps:
                self.carry_out(operation, step, condition, line, mask)
            after = at + 1
            if how[0] == "poll":
                yield False
            elif how[0] == "barrier":
                if mask is None:
                    self.begin_turn()
                    yield True
                else:
                    waiting[mask] = True
            elif how[0] == "return" or how[0] == "branch":
                target = -1 if how[0] == "return" else labels[how[1]]
                condition = how[-1]
                if condition is None:
                    after = target
                else:
                    goes = np.broadcast_to(condition[0](self), self.threads) ^ condition[1]
                    if mask is not None or (goes.any() and not goes.all()):
                        if mask is None:
                            places, waiting = np.full(self.threads, at), np.zeros(self.threads, bool)
                            mask = np.ones(self.threads, bool)
                        places[mask] = np.where(goes, target, after)[mask]
                        continue
                    after = target if goes[0] else after
            if mask is not None:
                places[mask] = after
            elif after < 0:
                return
            else:
                at = after

    def begin_turn(self):
        """All threads are at a barrier: what was before it is before what comes."""
        self.seen.begin(), self.shared.seen.begin()

    def carry_out(self, operation, step, condition, line, mask):
        """One instruction."""
        if condition is not None:
            goes = np.broadcast_to(condition[0](self), self.threads) ^ condition[1]
            mask = goes if mask is None else mask & goes
            if not mask.any():
                return
        if self.counts is not None:
            warps = np.ones(self.warps, bool) if mask is None else mask.reshape(-1, LANES).any(axis=1)
            self.counts.issued(self, operation, line, warps)
        try:
            step(self, mask)
        except Fault as fault:
            place = "" if line is None else f", {self.kernel.files[line[0]]}:{line[1]}"
            fault.args = (f"{fault.args[0]}, at {operation}{place}",)
            raise

    def chosen(self, values, mask):
        """The values of the threads of a mask."""
        return values if mask is None else values[mask]

    def whole_warps(self, mask):
        """Fault unless the threads of the mask are whole warps."""
        if mask is not None:
            there = mask.reshape(-1, LANES)
            if (there.any(axis=1) != there.all(axis=1)).any():
                raise Fault("a warp is not together")

    # ---- memory ----------------------------------------------------------------------------------------------------

    def read_global(self, addresses, size, mask):
        """(threads, size) bytes, one row after the other."""
        numbers, places = self.memory.numbers(self.chosen(addresses, mask), size)
        self._note_global(places, size, mask)
        return self._rows(numbers[places].view(np.uint8), size, mask)

    def write_global(self, addresses, size, values, mask):
        numbers, places = self.memory.numbers(self.chosen(addresses, mask), size)
        values = np.ascontiguousarray(self.chosen(values, mask)).view(numbers.dtype).ravel()
        self._note_global(places, size, mask, numbers[places], values)
        numbers[places] = values
        self._check_written(numbers[places], values)

    def _check_written(self, found, values):
        """Fault unless what has been written is there: several threads may have written at once."""
        if (found.view(np.uint8) != values.view(np.uint8).ravel()).any():
            raise Fault("a race: two threads write at once")

    def _note_global(self, places, size, mask, old=None, new=None):
        """Note that numbers of a size are read, or that new ones are written there."""
        if old is not None and size < UNIT:
            raise Fault("bytes are written one by one")
        warps = self.chosen(self.warp_of, mask)
        self.used[warps] = self.seen.turn
        units, warps = units_of(places.astype(np.int64) * size, size, UNIT, warps)
        same = old is not None and old.view(f"u{UNIT}") == new.view(f"u{UNIT}")
        self.memory.uses.note(units, warps, self.seen, old is not None, same)

    def read_counter(self, addresses, size, mask):
        """Counters as they are, at any time."""
        numbers, places = self.memory.numbers(self.chosen(addresses, mask), size)
        return self._rows(numbers[places].view(np.uint8), size, mask)

    def acquire(self, addresses, size, mask):
        """The same; and what was released there has been seen."""
        found = self.read_counter(addresses, size, mask)
        for place in np.unique(self.chosen(addresses, mask)).tolist():
            if place in self.memory.released:
                self.seen.acquire(self.memory.released[place])
        return found

    def release(self, addresses, mask):
        """What the block has done, and seen, until its last barrier, is seen by whoever acquires a counter."""
        warps = np.unique(self.chosen(self.warp_of, mask))
        others = np.delete(self.used, warps) if len(warps) == 1 else self.used
        if (others >= self.seen.since).any():
            raise Fault("a release, but warps have used memory since the last barrier")
        for place in np.unique(addresses).tolist():
            self.memory.released[place] = self.seen.release(self.memory.released.get(place))

    def read_shared(self, addresses, size, mask):
        places = self._places(addresses, size, mask, False)
        return self._rows(self._shared_numbers(size)[places // size].view(np.uint8), size, mask)

    def write_shared(self, addresses, size, values, mask):
        places = self._places(addresses, size, mask, True)
        numbers, values = self._shared_numbers(size), np.ascontiguousarray(self.chosen(values, mask))
        numbers[places // size] = values.view(numbers.dtype).ravel()
        self._check_written(numbers[places // size], values)

    def _places(self, addresses, size, mask, writes):
        places, warps = self.shared.places(self.chosen(addresses, mask), size), self.chosen(self.warp_of, mask)
        units, who = units_of(places, size, 4, warps)
        self.shared.uses.note(units, who, self.shared.seen, writes)
        if self.counts is not None:
            self.counts.accessed(places, size, warps)
        return places

    def _shared_numbers(self, size):
        return self.shared.bytes.view(np.dtype((np.void, size)) if size == VECTOR else f"u{size}")

    def _rows(self, found, size, mask):
        if mask is None:
            return found
        rows = np.zeros((self.threads, size), np.uint8)
        rows[mask] = found.reshape(-1, size)
        return rows.ravel()

    # ---- asynchronous copies: (targets, sources, values, threads, the group of each) until they are waited for -----

    def begin_copy(self, targets, sources, wanted, mask):
        threads = np.arange(self.threads) if mask is None else np.flatnonzero(mask)
        if not np.isin(wanted[threads], (0, VECTOR)).all():
            raise Fault("a copy of a part")
        values, full = np.zeros((self.threads, VECTOR), np.uint8), wanted == VECTOR
        full = full if mask is None else full & mask
        if full.any():
            values[full] = self.read_global(sources, VECTOR, full).reshape(-1, VECTOR)[full]
        self.write_shared(targets, VECTOR, np.full((self.threads, VECTOR), 0xFF, np.uint8), mask)
        sources = np.where(full, sources, np.uint64(0))  # of what is only zeros there is none
        self._copies.append((targets[threads], sources[threads], values[threads], threads, self._commits[threads]))

    def commit(self, mask):
        self._commits[slice(None) if mask is None else mask] += 1

    def wait(self, groups, mask):
        still = []
        for targets, sources, values, threads, group in self._copies:
            done = group < self._commits[threads] - groups
            if mask is not None:
                done &= mask[threads]
            if done.any():
                full = done & (sources != 0)
                if full.any():
                    numbers, places = self.memory.numbers(sources[full], VECTOR)
                    if (numbers[places].view(np.uint8) != values[full].ravel()).any():
                        raise Fault("what is copied has changed before it was waited for")
                there = np.zeros(self.threads, bool)
                there[threads[done]] = True
                at, what = np.zeros(self.threads, np.uint64), np.zeros((self.threads, VECTOR), np.uint8)
                at[threads], what[threads] = targets, values
                self.write_shared(at, VECTOR, what, there)
            if not done.all():
                still.append(tuple(x[~done] for x in (targets, sources, values, threads, group)))
        self._copies = still


def launch(kernel, grid, threads, shared_bytes, parameters, memory, together, counts=None):
    """Run a grid: some blocks by turns, chosen by chance at each barrier, or, where they wait for one another, all.

    Parameters
    ----------
    kernel : Kernel
    grid, threads : int
    shared_bytes : int
    parameters : list of bytes
    memory : Memory
    together : bool
    counts : Counts, optional
        What is to be told of it.
    """
    if threads > kernel.most_threads or threads % LANES:
        raise Fault(f"{threads} threads; at most {kernel.most_threads}, and whole warps")
    named = {name: value for (name, _), value in zip(kernel.parameters, parameters, strict=True)}

    turns = Turns(grid, memory.turn, memory.stage)
    memory.released.clear()

    def block(number):
        seen = Seen(turns, number)
        return Block(kernel, memory, threads, shared_bytes, named, number, grid, seen, counts).run()

    chance = random.Random(grid)
    try:
        with np.errstate(all="ignore"):
            for first in range(0, grid, grid if together else AT_ONCE):
                last = grid if together else min(first + AT_ONCE, grid)
                take_turns([block(number) for number in range(first, last)], chance, together)
    finally:
        memory.turn, memory.stage = turns.number, turns.stage + 1


def take_turns(running, chance, together):
    """Run blocks to their ends, one by chance after the other, each until it may wait for others."""
    asked, patience = 0, PATIENCE * len(running)
    while running:
        n = chance.randrange(len(running))
        moved = next(running[n], None)
        if moved is None:
            running[n] = running[-1]
            running.pop()
        elif not moved and not together:
            raise Fault("a block waits for others, which need not run")
        asked = asked + 1 if moved is False else 0
        if asked > patience:
            raise Fault("blocks wait for ever")
