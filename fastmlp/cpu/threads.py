"""How many threads a call gets, beside others of this process that are under way.

The weights and predictions do not depend on it, so a call takes what is good for all: a fair part of the threads when
several of the program's threads call at once; one thread inside somebody else's parallel region, and in a child that
was forked after its parent's OpenMP threads had started, where GNU's OpenMP would end the process; and one as well
beside another call on Numba's workqueue, which must not be entered twice.
"""

import os
import threading

import numba


class _Calls:
    """The calls under way that asked for more than one thread."""

    def __init__(self):
        self.lock = threading.Lock()
        self.count = 0
        self.serial = False  # whether no parallel region may be entered any more


_calls = _Calls()


def _layer():
    """Numba's threading layer, None before its threads have been started."""
    try:
        return numba.threading_layer()
    except ValueError:
        return None


def _forget_parent():
    serial = _calls.serial or _layer() == "omp"
    _calls.__init__()
    _calls.serial = serial


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def may_be_parallel():
    """Whether the calling thread may enter a parallel region."""
    # a thread that Python has not started is one of somebody's parallel region
    return not (_calls.serial or isinstance(threading.current_thread(), threading._DummyThread))


class ThreadShare:
    """As a context: the threads that a call gets of those that it could use.

    Parameters
    ----------
    wanted : int
    """

    def __init__(self, wanted):
        self.wanted, self.limit = wanted, 0

    def __enter__(self):
        if self.wanted == 1 or not may_be_parallel():
            self.wanted = 1
            return 1
        with _calls.lock:
            _calls.count += 1
            others = _calls.count > 1
            threads = max(1, self.wanted // _calls.count)
        if not others:
            return threads
        if threads == 1 or _layer() == "workqueue":
            return 1
        self.limit = numba.get_num_threads()
        numba.set_num_threads(min(threads, self.limit))
        return threads

    def __exit__(self, *error):
        if self.wanted == 1:
            return
        if self.limit:
            numba.set_num_threads(self.limit)
        with _calls.lock:
            _calls.count -= 1
