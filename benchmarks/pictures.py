"""Draws the README's pictures of networks with fastmlp.displays.

    pip install -e ".[plot]" && python benchmarks/pictures.py [NAME ...]

NAME is one of activations, network, understanding: all when none is given.
"""

import argparse

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_moons
from sklearn.model_selection import train_test_split

import fastmlp
from fastmlp import displays
from machine import RESULTS


def activations():
    """Every activation function that the lecture draws, and its derivative."""
    return displays.ActivationDisplay().plot().figure_


def network():
    """The lecture's 3-3-1 network, trained to say whether an odd number of its three inputs are 1."""
    X = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(-1, 3)
    T = X.sum(axis=1) % 2
    net = fastmlp.Network([3, 3, 1], init="glorot", loss="log_loss", l2=1e-4, dtype="float64", random_state=3)
    net.train(X, T, optimizer=fastmlp.LBFGS(), epochs=500)
    return displays.NetworkDisplay.from_network(net).figure_


def understanding():
    """Six ways to look into networks: three of one that reads digits, one of half moons, two of depth."""
    figure = plt.figure(figsize=(11.5, 7), layout="constrained")
    parts = figure.subfigures(2, 3, wspace=0.02, hspace=0.02)
    curves, images, units, surface, vanishing, flowing = (part.subplots() for part in parts.flat)

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X / 16, y, test_size=150, random_state=0, stratify=y)
    settings = {"alpha": 0.2, "learning_rate_init": 0.01, "max_iter": 60, "tol": 0.0, "random_state": 0}
    digits = fastmlp.MLPClassifier((20,), "logistic", n_iter_no_change=np.inf, **settings)
    digits.fit(X_train, y_train, eval_set=(X_test, y_test))
    displays.LossCurveDisplay.from_estimator(digits, ax=curves)
    curves.set_title("Training, on digits")
    displays.WeightsDisplay.from_estimator(digits, columns=5, ax=images)
    images.set_title("What its 20 units look for")
    displays.UnitActivationsDisplay.from_estimator(digits, X_test, y_test, sort_units=True, ax=units)
    units.set_title("What its units say to test digits")

    X, y = make_moons(300, noise=0.2, random_state=0)
    moons = fastmlp.MLPClassifier((16, 16), "tanh", solver="lbfgs", alpha=1.0, max_iter=300, random_state=0).fit(X, y)
    displays.DecisionSurfaceDisplay.from_estimator(moons, X, y, ax=surface)
    surface.set_title("Decision surface")

    for ax, activation, title in (
        (vanishing, "logistic", "8 hidden layers, logistic: vanishing"),
        (flowing, "relu", "8 hidden layers, ReLU: flowing"),
    ):
        init = "he" if activation == "relu" else "glorot"
        deep = fastmlp.Network([64, *[64] * 8, 10], activation, "softmax", "log_loss", init=init, random_state=0)
        displays.GradientFlowDisplay.from_network(deep, X_train, y_train, ax=ax)
        ax.set_title(title)
        ax.set_ylim(1e-12, 1e2)
    return figure


PICTURES = {"activations": activations, "network": network, "understanding": understanding}


def main():
    """Draw what was asked for into benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*PICTURES, []], help=", ".join(PICTURES))
    names = parser.parse_args().names or list(PICTURES)
    for name in names:
        path = RESULTS / f"{name}.png"
        PICTURES[name]().savefig(path, dpi=100, pil_kwargs={"optimize": True})
        print(f"{path} ({path.stat().st_size / 1024:.0f} kB)")


if __name__ == "__main__":
    main()
