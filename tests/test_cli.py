"""The main job: python -m fastmlp demo."""

import re

from cases import run_python


def test_demo():
    """Accuracy, seconds, examples/s and GFLOP/s, then the three baselines of the lecture beside the network."""
    shown = run_python("-m", "fastmlp", "demo", "--epochs", "3").lower()
    baselines = (r"random\w* features", "nearest neighbo", "linear")
    for words in ("accuracy", r"seconds|\d s\b", "examples/s", "gflop/s", *baselines):
        assert re.search(words, shown), (words, shown)


def test_help():
    assert "demo" in run_python("-m", "fastmlp", "--help")
