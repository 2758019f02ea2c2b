"""How the threads of one parallel region work through an epoch's passes together.

A region is entered once for hundreds of passes. The first thread to come leads: it announces a pass, cut into shares;
every thread, the leader too, claims shares until none is left; the leader waits for those still at work and goes on.
A thread that comes late, or never, is not waited for, so the region ends however many threads it is given. Which
thread takes a share does not matter: a share writes only what is its own.

The state is four words, a cache line apart: ENTERED counts the threads that came; CLAIM is the number of the pass
times 2^32 plus the shares claimed, negative when all is over; FINISHED counts shares done; PASS is the address of the
pass, which stands while a share of it is claimed and not finished.
"""

import numpy as np
from numba import prange

from fastmlp.cpu.compiling import entry, kernel
from fastmlp.cpu.vector import atomic_add, atomic_load, atomic_store, call_pass, yield_processor

# Looks at a word before the processor is offered to others: a pass of the other threads ends sooner than this unless
# there are more threads than processors. There is no pause instruction between the looks: hypervisors take a virtual
# processor away that pauses much.
LOOKS = 5000

LINE = 64
ENTERED, CLAIM, FINISHED, PASS = 0, LINE, 2 * LINE, 3 * LINE
WORDS = 4 * LINE // 8
SHIFT = 32
NONE_LEFT = 1 << (SHIFT - 1)  # the claim of a pass whose shares are all taken
CLOSED = -(1 << 62)  # so low that late claims, which add one each, leave it negative


def assemble(team: np.ndarray) -> None:
    """Prepare for a region; called before its threads start."""
    team[ENTERED // 8], team[CLAIM // 8] = 0, NONE_LEFT


@entry(parallel=True)
def run_shares(function, steps, activations, shares):
    """Call the kernel at an address once for each share, on as many threads."""
    for share in prange(shares):
        call_pass(function, steps, activations, np.int64(share), shares)


@kernel
def is_leader(team):
    """Whether the calling thread is the first of the region."""
    return atomic_add(team + ENTERED, 1) == 0


@kernel
def is_open(claim, shares):
    """Whether a share is left."""
    return claim >= 0 and claim & ((1 << SHIFT) - 1) < shares


@kernel
def work_on(team, steps, activations, shares):
    """Claim and do shares of the pass that is announced until none is left."""
    while is_open(atomic_load(team + CLAIM), shares):
        claim = atomic_add(team + CLAIM, 1)  # another pass may have been announced, or the end, since the line above
        if not is_open(claim, shares):
            return
        share = claim & ((1 << SHIFT) - 1)
        call_pass(atomic_load(team + PASS), steps, activations, share, shares)
        atomic_add(team + FINISHED, 1)


@kernel
def lead(team, number, function, steps, activations, shares):
    """Announce pass `number`, work on it, and wait until it is done."""
    atomic_store(team + FINISHED, 0)
    atomic_store(team + PASS, function)
    atomic_store(team + CLAIM, number << SHIFT)
    work_on(team, steps, activations, shares)
    looks = 0
    while atomic_load(team + FINISHED) < shares:
        looks += 1
        if looks > LOOKS:
            yield_processor()


@kernel
def help_along(team, steps, activations, shares):
    """Work on every pass that is announced until the region's work ends."""
    looks, seen = 0, atomic_load(team + CLAIM)
    while seen >= 0:
        work_on(team, steps, activations, shares)
        before, seen = seen, atomic_load(team + CLAIM)
        looks = looks + 1 if seen == before else 0
        if looks > LOOKS:
            yield_processor()


@kernel
def dismiss(team):
    """End the region's work: no pass will follow."""
    atomic_store(team + CLAIM, CLOSED)
