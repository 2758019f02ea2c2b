"""Pictures in scikit-learn's Display style: the constructor takes data, `plot` draws, `from_...` computes and draws.

They need matplotlib, the extra `fastmlp[plot]`. `estimator` is a fitted fastmlp.MLPClassifier or MLPRegressor, alone or
in a Pipeline, a TransformedTargetRegressor or a search; `network` a fastmlp.Network. Blue is positive, orange-red
negative. A given `ax` is best of a figure with layout="constrained", which makes room for all that is written.

Every method returns the display, whose `figure_` is shown by `matplotlib.pyplot.show()` or saved:

    >>> import os, tempfile
    >>> import fastmlp
    >>> display = fastmlp.displays.NetworkDisplay.from_network(fastmlp.Network([3, 3, 1], random_state=0))
    >>> display.figure_.savefig(os.path.join(tempfile.mkdtemp(), "network.png"))

What `from_...` and the options of `plot` do not allow is a ValueError or a TypeError that names it.
"""

import contextlib
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastmlp import formulas
from fastmlp.conversion import examples_of, fitted_estimator, nested, network_of, seen_targets
from fastmlp.inputs import as_examples, as_hidden_layer, is_whole
from fastmlp.network import HIDDEN_ACTIVATIONS, Network
from fastmlp.training import History

__all__ = [
    "ActivationDisplay",
    "BaselineDisplay",
    "DecisionSurfaceDisplay",
    "GradientFlowDisplay",
    "LearningRateDisplay",
    "LossCurveDisplay",
    "NetworkDisplay",
    "SaliencyDisplay",
    "UnitActivationsDisplay",
    "WeightsDisplay",
]

# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, RED, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PALETTE = (BLUE, RED, GREEN, "#CC79A7", ORANGE, "#56B4E9", "#000000", "#F0E442", "#7F7F7F", "#8C564B")
SMALLEST_IMAGE = 36  # inputs: fewer are a table's columns more often than an image's pixels
N_IMAGES = 8  # examples whose saliency is drawn
LEGIBLE = 5.0  # points: no text is smaller
LEGIBLE_WEIGHTS = 12  # from one layer to the next, biases included: more would cover each other


# ---- what the displays share ---------------------------------------------------------------------------------------


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("fastmlp.displays needs matplotlib: pip install 'fastmlp[plot]'") from error
    return plt


def _one_axes(ax: Any, figsize: tuple[float, float]) -> Any:
    """The axes to draw in: those given, or those of a new figure."""
    if ax is not None:
        return ax
    return _pyplot().subplots(figsize=figsize, layout="constrained")[1]


def _many_axes(
    ax: Any, rows: int, columns: int, figsize: tuple[float, float], room: tuple[float, float] = (0, 0), **grid: Any
) -> np.ndarray:
    """Axes in rows and columns, flat: those given, or within the axes given, or in a new figure.

    room is what is left free at the left and the right, in points, where no layout engine makes room.
    """
    if isinstance(ax, (list, tuple, np.ndarray)):
        found = np.asarray(ax, dtype=object).ravel()
        if len(found) != rows * columns:
            raise ValueError(f"ax has {len(found)} axes; one, or {rows * columns}, is allowed")
        return found
    place = _one_axes(ax, figsize)
    place.set_axis_off()
    widths = [1.0]
    if place.figure.get_layout_engine() is None:
        width = _points(place)[0]
        widths = [room[0], max(width - sum(room), 0.3 * width), room[1]]
        grid = {"wspace": 0.3, "hspace": 0.6} | grid
    settings = {"width_ratios": widths, "wspace": 0}
    if place.get_subplotspec() is not None:
        outer = place.get_subplotspec().subgridspec(1, len(widths), **settings)
    else:
        x0, y0, x1, y1 = place.get_position().extents
        outer = place.figure.add_gridspec(1, len(widths), left=x0, bottom=y0, right=x1, top=y1, **settings)
    return np.asarray(outer[len(widths) // 2].subgridspec(rows, columns, **grid).subplots(squeeze=False)).ravel()


def _diverging(pale: bool = False) -> Any:
    """A colour map from RED by white to BLUE, and beyond them to dark ones; pale where points lie on it."""
    ends = ("#F0B890", "#FFFFFF", "#90C4E0") if pale else ("#6B2F00", RED, "#F7F7F7", BLUE, "#003A5C")
    return _pyplot().matplotlib.colors.LinearSegmentedColormap.from_list("fastmlp", ends)


def _points(ax: Any) -> tuple[float, float]:
    """Width and height of axes in points, about, as a layout may still change them."""
    return 72 / ax.figure.dpi * ax.bbox.width, 72 / ax.figure.dpi * ax.bbox.height


def _plain(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)


def _whole(name: str, value: Any, smallest: int) -> int:
    if not is_whole(value) or value < smallest:
        raise ValueError(f"{name} is {value!r}; an integer >= {smallest} is allowed")
    return int(value)


def _network(network: Any) -> Network:
    if not isinstance(network, Network):
        raise TypeError(f"network is {type(network).__name__}; a fastmlp.Network is allowed")
    return network


def _seen(estimator: Any, X: Any = None) -> tuple[Network, Any, dict[str, list[str] | None]]:
    """A Network with an estimator's weights, what it sees of X, and the names of its inputs and outputs."""
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import validate_data

    last, transform = fitted_estimator(estimator)
    if X is not None:
        X = validate_data(last, transform(X), reset=False, accept_sparse="csr")
    features = getattr(last, "feature_names_in_", None)
    before = [around[:-1] for around in nested(estimator) if isinstance(around, Pipeline) and len(around.steps) > 1]
    if features is None and before and hasattr(before[-1], "feature_names_in_"):
        with contextlib.suppress(AttributeError):  # of a step that has no names for what it makes
            features = before[-1].get_feature_names_out()
    outputs = getattr(last, "classes_", None)
    if outputs is not None:
        outputs = [f"P({name})" for name in (outputs if len(last.intercepts_[-1]) > 1 else outputs[-1:])]
    names = {"feature_names": None if features is None else list(map(str, features)), "output_names": outputs}
    return network_of(last, 1), X, names


def _one_column(y: Any) -> Any:
    """Labels of shape (m,), of one-hot targets the numbers of the classes; other y as it is."""
    y = None if y is None else np.asarray(y)
    if y is None or y.ndim != 2:
        return y
    if y.shape[1] == 1:
        return y[:, 0]
    return y.argmax(axis=1) if np.all(np.count_nonzero(y, axis=1) == 1) else y


def _class_numbers(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"y has the classes {unknown.tolist()}; those of the fit, {classes.tolist()}, are allowed")
    return np.searchsorted(classes, y)


def _names(name: str, names: Any, n: int) -> list[str] | None:
    if names is not None and len(names) != n:
        raise ValueError(f"{name} has {len(names)} names; {n} are allowed")
    return None if names is None else [str(found) for found in names]


def _image_shape(image_shape: Any, n: int, guess: bool = True) -> tuple[int, int] | None:
    """Height and width of images of n inputs, guessed where "auto" and n is a square; None where they are no images."""
    side = math.isqrt(n)
    if isinstance(image_shape, str) and image_shape == "auto":
        return (side, side) if guess and side * side == n >= SMALLEST_IMAGE else None
    if image_shape is None:
        return None
    if not isinstance(image_shape, (tuple, list)) or len(image_shape) != 2 or math.prod(image_shape) != n:
        raise ValueError(f"image_shape is {image_shape!r}; 'auto', None or (height, width) of {n} inputs is allowed")
    return int(image_shape[0]), int(image_shape[1])


def _mosaic(ax: Any, images: np.ndarray, labels: Sequence[str], columns: int, **kwargs: Any) -> Any:
    """Images of shape (n, height, width) side by side as one, each with its label above."""
    n, height, width = images.shape
    rows, above, between = math.ceil(n / columns), max(1, round(0.3 * height)), max(1, round(0.12 * width))
    if not any(labels):
        above = between
    whole = np.full((rows * (height + above), columns * (width + between) - between), np.nan)
    for k, image in enumerate(images):
        top, left = (k // columns) * (height + above) + above, (k % columns) * (width + between)
        whole[top : top + height, left : left + width] = image
    points = min(np.divide(_points(ax), whole.shape[::-1]))  # a pixel
    letters = max([len(label) for label in labels if "$" not in label], default=0)
    wide = width * points / 0.55  # what an image has room for: letters times font size
    size = min(10.0, 0.75 * above * points, max(wide / max(letters, 1), 7.0))
    drawn = ax.imshow(np.ma.masked_invalid(whole), **kwargs)
    for k, label in enumerate(labels):
        if size >= LEGIBLE:
            top, left = (k // columns) * (height + above) + above, (k % columns) * (width + between)
            text = label if "$" in label else _shortened(label, int(wide / size))
            ax.text(left + width / 2 - 0.5, top - 0.7, text, fontsize=size, ha="center", va="bottom")
    ax.set_axis_off()
    return drawn


def _shortened(text: str, letters: int) -> str:
    """Text with an ellipsis in its middle where it is too long: names often differ at their ends only."""
    if len(text) <= letters:
        return text
    start = max(letters - 1, 1) // 2
    return text[:start] + "\N{HORIZONTAL ELLIPSIS}" + text[len(text) - max(letters - 1 - start, 1) :]


def _number_units(axis: Any, units: np.ndarray) -> None:
    """Ticks that count units from 1."""
    axis.set_major_locator(_pyplot().MaxNLocator("auto", integer=True))
    axis.set_major_formatter(lambda at, _: str(units[int(at)] + 1) if 0 <= at < len(units) else "")


def _limit(*arrays: np.ndarray) -> float:
    """The largest size, for a colour map with zero in its middle."""
    return max(float(np.abs(array).max(initial=0.0)) for array in arrays) or 1.0


# ---- training ------------------------------------------------------------------------------------------------------


class LossCurveDisplay:
    """The loss of each epoch, and the validation score where there is one.

    Parameters
    ----------
    curves : mapping of str to sequence of float
        A name and a value an epoch.
    scores : sequence of float, optional
        A score an epoch, drawn on an axis of its own at the right.
    loss_name : str, default="loss"
    score_name : str, default="validation score"

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
    score_ax_ : matplotlib Axes or None
    lines_ : list of matplotlib Line2D
        One a curve, then that of the scores.

    Examples
    --------
    >>> from fastmlp.displays import LossCurveDisplay
    >>> display = LossCurveDisplay({"training": [2.0, 0.5, 0.1], "validation": [2.1, 0.7, 0.4]}).plot()
    >>> display.ax_.get_yscale()
    'log'
    """

    def __init__(
        self,
        curves: Mapping[str, Sequence[float]],
        *,
        scores: Sequence[float] | None = None,
        loss_name: str = "loss",
        score_name: str = "validation score",
    ):
        self.curves, self.scores, self.loss_name, self.score_name = curves, scores, loss_name, score_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> "LossCurveDisplay":
        """Draw loss_curve_, and validation_curve_ and validation_scores_ where there are any.

        Parameters
        ----------
        estimator : fitted MLPClassifier or MLPRegressor, or model that has one in it
        ax, **kwargs
            Those of `plot`.

        Raises
        ------
        ValueError
            When the estimator's solver is "lbfgs", which keeps no loss_curve_.
        """
        last, _ = fitted_estimator(estimator)
        if not hasattr(last, "loss_curve_"):
            allowed = "'adam', 'adamw', 'sgd', 'gd' are allowed"
            raise ValueError(f"the estimator's solver is {last.solver!r}, which keeps no loss_curve_; {allowed}")
        curves = {"training": last.loss_curve_}
        if getattr(last, "validation_curve_", None):
            curves["validation"] = last.validation_curve_
        measure = "accuracy" if hasattr(last, "classes_") else "$R^2$"
        measure = "score" if callable(last.scoring) else last.scoring or measure
        scores = getattr(last, "validation_scores_", None) or None
        return cls(curves, scores=scores, score_name=f"validation {measure}").plot(ax, **kwargs)

    @classmethod
    def from_history(cls, history: History, *, ax: Any = None, **kwargs: Any) -> "LossCurveDisplay":
        """Draw what `Network.train` returned.

        Parameters
        ----------
        history : History
        ax, **kwargs
            Those of `plot`.
        """
        if not isinstance(history, History):
            raise TypeError(f"history is {type(history).__name__}; a fastmlp.History is allowed")
        curves = {"training": history.objective}
        if history.validation:
            curves["validation"] = history.validation
        return cls(curves, loss_name="objective J(W, b)").plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, log: bool | None = None, **kwargs: Any) -> "LossCurveDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure's when not given.
        log : bool, optional
            Whether losses are on a logarithmic axis; when not given, where they are positive and span more than a
            factor of ten.
        **kwargs
            For the lines (`Axes.plot`).

        Returns
        -------
        self
        """
        curves = {name: np.asarray(values, np.float64) for name, values in self.curves.items()}
        if not curves or not all(len(values) for values in curves.values()):
            raise ValueError("curves has no epoch; at least one a curve is allowed")
        ax = _one_axes(ax, (6.0, 4.0))
        self.ax_, self.figure_, self.score_ax_ = ax, ax.figure, None
        self.lines_ = []
        for k, (name, values) in enumerate(curves.items()):
            style = {"color": PALETTE[k % len(PALETTE)], "label": name, "marker": "o" if len(values) == 1 else ""}
            self.lines_ += ax.plot(np.arange(1, len(values) + 1), values, **(style | kwargs))
        finite = np.concatenate([values[np.isfinite(values)] for values in curves.values()])
        if log is None:
            log = len(finite) > 0 and finite.min() > 0 and finite.max() > 10 * finite.min()
        ax.set(xlabel="epoch", ylabel=self.loss_name, yscale="log" if log else "linear")
        ax.xaxis.get_major_locator().set_params(integer=True)
        low, high = ax.get_ylim()
        if log and high > 5 * low:
            ax.yaxis.set_major_formatter("{x:g}")
            few = high < 150 * low  # so few powers of ten that there is room for numbers between them
            ax.yaxis.set_minor_formatter((lambda x, _: f"{x:g}" if f"{x:e}"[0] in "235" else "") if few else "")
        _plain(ax)
        if self.scores is not None:
            self.score_ax_ = ax.twinx()
            style = {"color": GREEN, "label": self.score_name, "linestyle": "--"}
            self.lines_ += self.score_ax_.plot(np.arange(1, len(self.scores) + 1), self.scores, **(kwargs | style))
            self.score_ax_.set_ylabel(self.score_name, color=GREEN)
            self.score_ax_.tick_params(axis="y", colors=GREEN)
            self.score_ax_.spines["top"].set_visible(False)
        if len(self.lines_) > 1:
            # losses fall and scores rise: what is between them at the right is free
            place = "upper right" if self.scores is None else "center right"
            ax.legend(loc=place, frameon=False)
        return self


class LearningRateDisplay:
    """A learning-rate range test: the loss at each learning rate, and the rate that it suggests.

    Parameters
    ----------
    result : fastmlp.learning_rate.LearningRateRange
        Or what has its attributes: learning_rates, losses, smoothed, suggestion and diverged_at.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
    lines_ : list of matplotlib Line2D
        The losses, the smoothed ones, the suggestion if there is one.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastmlp.displays import LearningRateDisplay
    >>> result = SimpleNamespace(learning_rates=[0.01, 0.1, 1.0], losses=[1.0, 0.5, float("inf")],
    ...                          smoothed=[1.0, 0.6, float("inf")], suggestion=0.1, diverged_at=1.0)
    >>> display = LearningRateDisplay(result).plot()
    >>> display.ax_.get_xscale()
    'log'
    """

    def __init__(self, result: Any):
        self.result = result

    def plot(self, ax: Any = None, **kwargs: Any) -> "LearningRateDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure's when not given.
        **kwargs
            For the smoothed line (`Axes.plot`).

        Returns
        -------
        self
        """
        rates, losses, smoothed = (
            np.asarray(getattr(self.result, name), np.float64) for name in ("learning_rates", "losses", "smoothed")
        )
        losses, smoothed = (np.where(np.isfinite(values), values, np.nan) for values in (losses, smoothed))
        suggestion, diverged_at = self.result.suggestion, self.result.diverged_at
        ax = _one_axes(ax, (6.0, 4.0))
        self.ax_, self.figure_ = ax, ax.figure
        self.lines_ = ax.plot(rates, losses, color=BLUE, alpha=0.3, linewidth=1, label="loss")
        self.lines_ += ax.plot(rates, smoothed, **({"color": BLUE, "linewidth": 2, "label": "smoothed"} | kwargs))
        if suggestion is not None:
            label = f"suggestion: {suggestion:.2g}"
            self.lines_ += [ax.axvline(suggestion, color=GREEN, linestyle="--", label=label)]
        if diverged_at is not None:
            ax.axvspan(diverged_at, max(rates.max(initial=0.0), 1.3 * diverged_at), color=RED, alpha=0.15)
            ax.axvline(diverged_at, color=RED, linestyle=":", label=f"diverged at {diverged_at:.2g}")
        ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
        seen = smoothed[np.isfinite(smoothed)]
        if len(seen):
            # what explodes at the end would flatten all that matters
            low, start = seen.min(), seen[0]
            top = min(seen.max(), start + 0.5 * max(start - low, 0.1 * abs(start)))
            if top > low:
                ax.set_ylim(low - 0.1 * (top - low), top + 0.1 * (top - low))
        ax.legend(loc="lower left", frameon=False)
        _plain(ax)
        return self


class GradientFlowDisplay:
    """|delta^(l)| and |dJ/dW| of each layer: where they vanish or explode on their way back through the network.

    A dot is the median, a thick line reaches from quartile to quartile, a thin one from the smallest to the largest.
    Zeros, which a logarithmic axis has no place for, are left out; below each layer is the share of zeros among delta.

    Parameters
    ----------
    deltas : sequence of array-like
        delta^(2), ..., delta^(L) (eq. 8-9).
    gradients : sequence of array-like
        dJ/dW^(1), ..., dJ/dW^(L-1) (eq. 10).

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
    delta_quantiles_, gradient_quantiles_ : ndarray of shape (L - 1, 5)
        Smallest, quartile, median, quartile and largest of the sizes that are not zero; NaN where all are.
    delta_zeros_, gradient_zeros_ : ndarray of shape (L - 1,)
        The shares of zeros.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import Network
    >>> from fastmlp.displays import GradientFlowDisplay
    >>> net = Network([4, 3, 3, 1], random_state=0)
    >>> display = GradientFlowDisplay.from_network(net, np.eye(4), np.ones(4))
    >>> bool(display.delta_quantiles_[0, 2] < display.delta_quantiles_[2, 2])
    True
    """

    def __init__(self, deltas: Sequence[Any], gradients: Sequence[Any]):
        self.deltas, self.gradients = deltas, gradients

    @classmethod
    def from_network(cls, network: Network, X: Any, T: Any, *, ax: Any = None, **kwargs: Any) -> "GradientFlowDisplay":
        """Compute delta and the gradients of J for some examples, and draw.

        Parameters
        ----------
        network : Network
        X : array-like of shape (m, n_in)
        T : array-like of shape (m, n_out), or what `Network.train` takes
        ax, **kwargs
            Those of `plot`.
        """
        network = _network(network)
        return cls(network.deltas(X, T), network.gradients(X, T)[0]).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, ax: Any = None, **kwargs: Any) -> "GradientFlowDisplay":
        """Compute delta and the gradients of the loss for some examples, and draw.

        Parameters
        ----------
        estimator : fitted MLPClassifier or MLPRegressor, or model that has one in it
            All examples count alike, whatever its class_weight; outputs are summed over, as in its training, of whose
            loss scikit-learn shows the mean over them.
        X : array-like of shape (m, n_features)
        y : array-like of shape (m,) or (m, n_outputs)
        ax, **kwargs
            Those of `plot`.
        """
        last, transform = fitted_estimator(estimator)
        X, T = examples_of(last, transform(X), seen_targets(estimator, y))
        return cls.from_network(network_of(last, X.shape[0]), X, T, ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> "GradientFlowDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure's when not given.
        **kwargs
            For the lines (`Axes.vlines`).

        Returns
        -------
        self
        """
        layers = len(self.deltas)
        if layers == 0 or len(self.gradients) != layers:
            found = f"deltas has {layers} layers and gradients {len(self.gradients)}"
            raise ValueError(f"{found}; the same number, at least 1, is allowed")
        ax = _one_axes(ax, (max(5.0, 1.6 + 0.7 * layers), 4.0))
        self.ax_, self.figure_ = ax, ax.figure
        self.delta_quantiles_, self.delta_zeros_ = self._summary(self.deltas)
        self.gradient_quantiles_, self.gradient_zeros_ = self._summary(self.gradients)
        kinds = (
            (-0.17, RED, "D", r"$|\partial J / \partial W^{(l)}|$", self.gradient_quantiles_),
            (0.17, BLUE, "o", r"$|\delta^{(l+1)}|$", self.delta_quantiles_),
        )
        for offset, color, marker, label, quantiles in kinds:
            at = np.arange(1, layers + 1) + offset
            thick = {"linewidth": 5, "alpha": 0.45}
            ax.vlines(at, quantiles[:, 0], quantiles[:, 4], **({"color": color, "linewidth": 1} | kwargs))
            ax.vlines(at, quantiles[:, 1], quantiles[:, 3], **({"color": color} | thick | kwargs))
            ax.plot(at, quantiles[:, 2], color=color, marker=marker, markersize=5, linestyle="", label=label)
        ax.set(yscale="log", xlabel="layer l", xlim=(0.5, layers + 0.5))
        ax.xaxis.set_major_locator(_pyplot().MaxNLocator("auto", integer=True))
        if self.delta_zeros_.max() >= 0.005:
            zeros = {l + 1: f"{l + 1}\n{share:.0%}" for l, share in enumerate(self.delta_zeros_)}
            ax.xaxis.set_major_formatter(lambda l, _: zeros.get(l, ""))
            ax.tick_params(axis="x", labelsize=8)
            ax.set_xlabel(r"layer l, and how many $\delta^{(l+1)}$ are zero")
        seen = np.concatenate([self.delta_quantiles_, self.gradient_quantiles_])
        if np.isfinite(seen).any():
            low, high = np.log10(np.nanmin(seen)), np.log10(np.nanmax(seen))
            span = max(high - low, 1.0)
            ax.set_ylim(10 ** (low - 0.05 * span), 10 ** (high + 0.2 * span))
        ax.legend(loc="upper center", ncols=2, frameon=False, columnspacing=1.0, handletextpad=0.1)
        _plain(ax)
        return self

    @staticmethod
    def _summary(arrays: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        quantiles, zeros = np.full((len(arrays), 5), np.nan), np.zeros(len(arrays))
        for l, array in enumerate(arrays):
            sizes = np.abs(np.asarray(array, np.float64)).ravel()
            if len(sizes):
                zeros[l] = np.mean(sizes == 0)
            if np.any(sizes > 0):
                quantiles[l] = np.quantile(sizes[sizes > 0], (0, 0.25, 0.5, 0.75, 1))
        return quantiles, zeros


# ---- activations ---------------------------------------------------------------------------------------------------

# What is written beside each curve: the equation's number, f and f'.
EQUATIONS = {
    "identity": ("", r"$f(z) = z$", "$1$"),
    "logistic": (" (eq. 1)", r"$f(z) = 1 \,/\, (1 + e^{-z})$", r"$a \, (1 - a)$"),
    "tanh": (" (eq. 2)", r"$f(z) = \tanh z = 2 \,/\, (1 + e^{-2z}) - 1$", "$1 - a^2$"),
    "relu": (" (eq. 3)", r"$f(z) = 0$ for $z < 0$, $z$ for $z \geq 0$", "$1$ for $z > 0$, else $0$"),
    "softplus": ("", r"$f(z) = \ln(1 + e^z)$", r"$1 \,/\, (1 + e^{-z})$"),
}
TITLES = {"relu": "ReLU", "softplus": "SoftPlus"}


class ActivationDisplay:
    """Activation functions f and their derivatives f', as the lecture draws them (eq. 1-3).

    Parameters
    ----------
    activations : sequence, default=("logistic", "tanh", "relu", "softplus")
        Names ("identity" is the fifth), or objects whose `f(z)` and `df(z)` are functions of one number, with a `name`
        if they like: fastmlp.Activation.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One an activation.
    figure_ : matplotlib Figure
    lines_ : list of (Line2D, Line2D)
        f and f' of each.

    Examples
    --------
    >>> from fastmlp.displays import ActivationDisplay
    >>> display = ActivationDisplay(["logistic", "relu"]).plot()
    >>> f, derivative = display.lines_[0]
    >>> float(derivative.get_ydata().max())
    0.25
    """

    def __init__(self, activations: Sequence[Any] = ("logistic", "tanh", "relu", "softplus")):
        self.activations = activations

    def plot(
        self,
        ax: Any = None,
        *,
        z_range: tuple[float, float] = (-4.0, 4.0),
        n_points: int = 401,
        columns: int | None = None,
        **kwargs: Any,
    ) -> "ActivationDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, optional
            A panel for each activation, or the place in which panels are made; a new figure when not given. Narrow
            panels are without formulas; best is a figure with layout="constrained".
        z_range : (float, float), default=(-4.0, 4.0)
        n_points : int >= 2, default=401
            Values of z.
        columns : int >= 1, optional
            Panels in a row: 2, or 3 from five activations on.
        **kwargs
            For the lines (`Axes.plot`).

        Returns
        -------
        self
        """
        activations = [self.activations] if isinstance(self.activations, str) else list(self.activations)
        if not activations:
            raise ValueError("activations is empty; at least one is allowed")
        functions = [self._functions(activation) for activation in activations]
        z = np.linspace(*z_range, _whole("n_points", n_points, 2))
        default = min(len(functions), 2 if len(functions) <= 4 else 3)
        columns = default if columns is None else _whole("columns", columns, 1)
        rows = math.ceil(len(functions) / columns)
        count = isinstance(ax, (list, tuple, np.ndarray))
        shape = (1, len(functions)) if count else (rows, columns)
        axes = _many_axes(ax, *shape, figsize=(4.2 * columns, 3.1 * rows))
        for unused in axes[len(functions) :]:
            unused.set_axis_off()
        self.axes_, self.figure_, self.lines_ = axes[: len(functions)], axes[0].figure, []
        for panel, (title, derivative_label, f, derivative) in zip(self.axes_, functions):
            values = np.array([f(x) for x in z.tolist()], np.float64)
            slopes = np.array([derivative(x) for x in z.tolist()], np.float64)
            small = _points(panel)[0] < 150  # has no room for formulas
            label = r"$f\,'(z)$" + (f" = {derivative_label}" if derivative_label and not small else "")
            style = {"linewidth": 2.2}
            lines = panel.plot(z, values, **(style | {"color": BLUE, "label": "$f(z)$"} | kwargs))
            lines += panel.plot(z, slopes, **(style | {"color": RED, "linestyle": "--", "label": label} | kwargs))
            self.lines_.append(tuple(lines))
            panel.axhline(0, color="0.7", linewidth=0.8, zorder=0)
            panel.axvline(0, color="0.7", linewidth=0.8, zorder=0)
            low, high = panel.get_ylim()
            panel.set(xlabel="$z$", xlim=z_range, ylim=(low, high + 0.3 * (high - low)))
            panel.set_title(title.partition("\n")[0] if small else title, fontsize=8 if small else 11)
            if small:
                panel.tick_params(labelsize=6)
                panel.set_xlabel("")
            if not small or panel is self.axes_[0]:
                panel.legend(loc="upper left", framealpha=0.8, edgecolor="none", fontsize=6 if small else 9)
            _plain(panel)
        return self

    @staticmethod
    def _functions(activation: Any) -> tuple[str, str, Any, Any]:
        """Title, the formula of f', f and f' as functions of z."""
        if isinstance(activation, str) and activation in EQUATIONS:
            number, formula, slope = EQUATIONS[activation]
            f, by_a = getattr(formulas, activation), getattr(formulas, f"{activation}_derivative")
            return f"{TITLES.get(activation, activation)}{number}\n{formula}", slope, f, lambda z: by_a(f(z))
        f, df = getattr(activation, "f", None), getattr(activation, "df", None)
        if not callable(f) or not callable(df):
            allowed = f"{', '.join(map(repr, HIDDEN_ACTIVATIONS))} or an object with functions f(z) and df(z)"
            raise ValueError(f"activations has {activation!r}; {allowed} is allowed")
        return str(getattr(activation, "name", None) or type(activation).__name__), "", f, df


class UnitActivationsDisplay:
    """Activations of the units of a layer: a row an example, or the mean of each class; a column a unit.

    Parameters
    ----------
    activations : array-like of shape (m, n_units)
    y : array-like of shape (m,), optional
        Labels, or numbers: rows are sorted by them.
    layer_name : str, default="hidden layer"

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
    image_ : matplotlib AxesImage
    rows_, units_ : ndarray of int
        The examples (or classes) and the units, in the order in which they are drawn.

    Examples
    --------
    >>> from fastmlp.displays import UnitActivationsDisplay
    >>> display = UnitActivationsDisplay([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]], y=["b", "a", "a"]).plot()
    >>> display.rows_
    array([1, 2, 0])
    """

    def __init__(self, activations: Any, *, y: Any = None, layer_name: str = "hidden layer"):
        self.activations, self.y, self.layer_name = np.asarray(activations), y, layer_name

    @classmethod
    def from_network(
        cls, network: Network, X: Any, y: Any = None, *, layer: int = -1, ax: Any = None, **kwargs: Any
    ) -> "UnitActivationsDisplay":
        """Compute the activations of a hidden layer (eq. 7), and draw.

        Parameters
        ----------
        network : Network
        X : array-like of shape (m, n_in)
        y : array-like of shape (m,) or (m, n_out), optional
            Labels, or numbers: rows are sorted by them. Of one-hot targets those of the classes.
        layer : int, default=-1
            The hidden layer: 0 is the first, -1 the last.
        ax, **kwargs
            Those of `plot`.
        """
        n_hidden = len(_network(network).weights) - 1
        number = as_hidden_layer(layer, n_hidden) + 1
        name = f"hidden layer {number}" if n_hidden > 1 else "the hidden layer"
        return cls(network.transform(X, layer), y=_one_column(y), layer_name=name).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any = None, **kwargs: Any) -> "UnitActivationsDisplay":
        """As `from_network`, of a fitted estimator, whose X and y are those that it takes."""
        network, X, _ = _seen(estimator, X)
        return cls.from_network(network, X, y, **kwargs)

    def plot(
        self, ax: Any = None, *, kind: str = "examples", sort_units: bool = False, colorbar: bool = True, **kwargs: Any
    ) -> "UnitActivationsDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure's when not given.
        kind : {"examples", "classes"}, default="examples"
            A row an example, sorted by y; or a row a class, the mean of its examples.
        sort_units : bool, default=False
            Whether units stand in the order of the class on whose examples they are most active on average.
        colorbar : bool, default=True
        **kwargs
            For the image (`Axes.imshow`).

        Returns
        -------
        self
        """
        if kind not in ("examples", "classes"):
            raise ValueError(f"kind is {kind!r}; 'examples', 'classes' are allowed")
        a = self.activations
        if a.ndim != 2 or 0 in a.shape:
            raise ValueError(f"activations has shape {a.shape}; (m, n_units), neither of them 0, is allowed")
        y = None if self.y is None else np.asarray(self.y)
        if y is not None and y.shape != a.shape[:1]:
            raise ValueError(f"y has shape {y.shape}; {a.shape[:1]} is allowed")
        classes, numbers = np.unique(y, return_inverse=True) if y is not None else (np.empty(0), np.empty(0, int))
        labelled = 0 < len(classes) <= (20 if y is not None and y.dtype.kind == "f" else len(classes))
        if not labelled and (kind == "classes" or sort_units):
            raise ValueError(f"y has no classes; kind={kind!r} and sort_units={sort_units} need them")
        self.units_ = np.arange(a.shape[1])
        if labelled:
            means = np.array([a[numbers == k].mean(axis=0) for k in range(len(classes))])
            if sort_units:
                self.units_ = np.lexsort((-means.max(axis=0), means.argmax(axis=0)))
        if kind == "classes":
            shown, self.rows_ = means, np.arange(len(classes))
        else:
            shown, self.rows_ = a, np.arange(len(a)) if y is None else np.argsort(numbers, kind="stable")
        shown = shown[self.rows_][:, self.units_]
        ax = _one_axes(ax, (6.0, 4.0))
        self.ax_, self.figure_ = ax, ax.figure
        style: dict[str, Any] = {"aspect": "auto", "cmap": "viridis", "interpolation": "nearest"}
        if shown.min() < 0:
            style |= {"cmap": _diverging(), "vmin": -_limit(shown), "vmax": _limit(shown)}
        self.image_ = ax.imshow(shown, **(style | kwargs))
        ax.set_xlabel(f"unit of {self.layer_name}" + (", sorted" if sort_units else ""))
        _number_units(ax.xaxis, self.units_)
        ax.set_ylabel("example" if y is None else "class" if labelled else "example, sorted by y")
        if labelled:
            counts = np.ones(len(classes)) if kind == "classes" else np.bincount(numbers)
            ends = np.cumsum(counts)
            for end in ends[:-1]:
                ax.axhline(end - 0.5, color="white", linewidth=0.8)
            step = math.ceil(len(classes) * 11 / _points(ax)[1])  # no closer than 11 points
            ax.set_yticks((ends - counts / 2 - 0.5)[::step], [str(name) for name in classes[::step]])
            ax.tick_params(axis="y", length=0)
        if colorbar:
            ax.figure.colorbar(self.image_, ax=ax, label="activation a" if kind == "examples" else "mean activation a")
        return self


# ---- parameters ----------------------------------------------------------------------------------------------------


class NetworkDisplay:
    """Units and weights as a graph: width is the size of a weight, colour its sign, +1 a bias unit.

    No bias is drawn wider than the largest weight.

    Parameters
    ----------
    weights : sequence of array-like, (n_in, n_out) each
    biases : sequence of array-like, (n_out,) each
    feature_names, output_names : sequence of str, optional
        Written beside inputs and outputs.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
    edges_ : list of matplotlib LineCollection
        One a layer of weights.
    texts_ : list of matplotlib Text
        The values of weights and biases, where they are written.

    Examples
    --------
    >>> import fastmlp
    >>> from fastmlp.displays import NetworkDisplay
    >>> display = NetworkDisplay.from_network(fastmlp.Network([3, 3, 1], random_state=0))
    >>> len(display.texts_)  # (3 + 1) * 3 + (3 + 1) * 1
    16
    """

    def __init__(
        self,
        weights: Sequence[Any],
        biases: Sequence[Any],
        *,
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ):
        self.weights, self.biases = [np.asarray(W) for W in weights], [np.asarray(b) for b in biases]
        self.feature_names, self.output_names = feature_names, output_names

    @classmethod
    def from_network(
        cls,
        network: Network,
        *,
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "NetworkDisplay":
        """Draw a Network.

        Parameters
        ----------
        network : Network
        feature_names, output_names : sequence of str, optional
        ax, **kwargs
            Those of `plot`.
        """
        network = _network(network)
        names = {"feature_names": feature_names, "output_names": output_names}
        return cls(network.weights, network.biases, **names).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, **kwargs: Any) -> "NetworkDisplay":
        """As `from_network`, of a fitted estimator, with the names of features and classes that it knows."""
        network, _, names = _seen(estimator)
        return cls.from_network(network, **(names | kwargs))

    def plot(
        self, ax: Any = None, *, max_units: int = 8, show_values: bool | None = None, **kwargs: Any
    ) -> "NetworkDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure's when not given.
        max_units : int >= 3, default=8
            Of a layer with more, the first and the last are drawn, with dots between.
        show_values : bool, optional
            Whether the weights are written, as far as there is room for legible numbers; when not given, where no layer
            has more than 12 weights and biases.
        **kwargs
            For the lines (`LineCollection`).

        Returns
        -------
        self
        """
        _whole("max_units", max_units, 3)
        sizes = self._sizes()
        features = _names("feature_names", self.feature_names, sizes[0])
        outputs = _names("output_names", self.output_names, sizes[-1])
        shown = [self._slots(n, max_units) for n in sizes]
        most = max((n_in + 1) * n_out for n_in, n_out in zip(sizes, sizes[1:]))
        values = most <= LEGIBLE_WEIGHTS if show_values is None else show_values
        tallest = max(map(len, shown))
        gap = max(3.4 if values and most <= LEGIBLE_WEIGHTS else 5.0 if values else 2.4, 0.45 * tallest)
        # x and y of units, in radii that are alike in both directions; bias units stand below
        ys = [(len(slots) - 1) / 2 - np.arange(len(slots)) for slots in shown]
        radius, last = 0.33, (len(sizes) - 1) * gap
        left = -radius - 0.2 - 0.13 * max(map(len, features or [""]))
        right = last + radius + 0.6 + (0.13 * max(map(len, outputs)) if outputs else 1.2)
        bottom, top = -(tallest - 1) / 2 - 2.5, (tallest - 1) / 2 + 0.5
        scale = 0.85 if values else 0.6
        ax = _one_axes(ax, (max(4.0, scale * (right - left)), scale * (top - bottom)))
        self.ax_, self.figure_ = ax, ax.figure
        self.edges_: list[Any] = []
        self.texts_: list[Any] = []
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        ax.set_axis_off()
        # the figure is larger than its margins say, where a constrained layout gives axes without ticks all of it
        points = min(np.divide(_points(ax), (right - left, top - bottom))) / 0.85
        largest = max(_limit(W) for W in self.weights)
        for l, (W, b) in enumerate(zip(self.weights, self.biases)):
            joined = np.vstack([W, b])
            sources = [(i, y) for i, y in zip(shown[l], ys[l]) if i is not None] + [(sizes[l], ys[l][-1] - 1)]
            targets = [(j, y) for j, y in zip(shown[l + 1], ys[l + 1]) if j is not None]
            pairs = [(float(joined[i, j]), y, end) for i, y in sources for j, end in targets]
            self._draw_edges(pairs, l * gap, gap, largest, radius, points if values else 0.0, kwargs)
        size = min(12.0, 0.72 * radius * points)
        for l, (slots, y_of) in enumerate(zip(shown, ys)):
            for j, y in zip(slots, y_of):
                if j is None:
                    ax.text(l * gap, y, r"$\vdots$", ha="center", va="center", fontsize=1.6 * size)
                    continue
                symbol = f"$x_{{{j + 1}}}$" if l == 0 else f"$a^{{({l + 1})}}_{{{j + 1}}}$"
                self._draw_unit(l * gap, y, radius, symbol, size)
                if l == 0 and features and size >= LEGIBLE:
                    ax.text(-radius - 0.12, y, features[j], ha="right", va="center", fontsize=size)
                if l == len(sizes) - 1:
                    h = r"$h_{W,b}(x)$" if sizes[-1] == 1 else f"$h_{{W,b}}(x)_{{{j + 1}}}$"
                    arrow = {"arrowstyle": "->", "color": "0.3"}
                    ends = {"xy": (last + radius + 0.5, y), "xytext": (last + radius, y)}
                    ax.annotate("", **ends, arrowprops=arrow | {"shrinkA": 0, "shrinkB": 0})
                    if size >= LEGIBLE:
                        ax.text(last + radius + 0.55, y, outputs[j] if outputs else h, va="center", fontsize=size)
            if l < len(sizes) - 1:
                self._draw_unit(l * gap, y_of[-1] - 1, radius, "+1", size, dashed=True)
            if size >= LEGIBLE:
                wide = f"layer {l + 1}" if sizes[l] <= max_units else f"layer {l + 1}\n{sizes[l]} units"
                ax.text(l * gap, bottom + 0.85, wide, ha="center", va="center", fontsize=0.85 * size, color="0.3")
        written = f"|weight| = {self._written(largest)}"
        looks = ((BLUE, 2.5, "weight > 0"), (RED, 2.5, "weight < 0"), ("0.5", 3.8, written))
        handles = [_pyplot().Line2D([], [], color=color, linewidth=width, label=label) for color, width, label in looks]
        if size >= LEGIBLE:
            ax.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=0.85 * size)
        return self

    def _sizes(self) -> list[int]:
        """Widths of the layers; an error where weights and biases do not fit each other."""
        found = [array.shape for array in (*self.weights, *self.biases)]
        right = len(self.weights) == len(self.biases) > 0 and all(W.ndim == 2 for W in self.weights)
        if right:
            sizes = [len(self.weights[0]), *(W.shape[1] for W in self.weights)]
            right = found == [*zip(sizes, sizes[1:]), *((n,) for n in sizes[1:])]
        if not right:
            raise ValueError(f"weights and biases have the shapes {found}; those of a network's layers are allowed")
        return sizes

    @staticmethod
    def _slots(n: int, max_units: int) -> list[int | None]:
        """The units of a layer that are drawn, with None for dots."""
        if n <= max_units:
            return list(range(n))
        first = math.ceil((max_units - 1) / 2)
        return [*range(first), None, *range(n - (max_units - 1 - first), n)]

    @staticmethod
    def _written(value: float) -> str:
        text = f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"
        return text.replace("-", "\N{MINUS SIGN}")

    def _draw_unit(self, x: float, y: float, radius: float, symbol: str, size: float, dashed: bool = False) -> None:
        style = {"facecolor": "white", "edgecolor": "0.2", "linewidth": 1.2, "linestyle": ":" if dashed else "-"}
        self.ax_.add_patch(_pyplot().Circle((x, y), radius, zorder=3, **style))
        if size >= LEGIBLE:
            self.ax_.text(x, y, symbol, ha="center", va="center", fontsize=size, zorder=4)

    def _draw_edges(
        self,
        pairs: list[tuple[float, float, float]],
        x: float,
        gap: float,
        largest: float,
        radius: float,
        points: float,
        style: dict[str, Any],
    ) -> None:
        """Lines from heights to heights, each a weight; with more than 0 points a unit of length also their values."""
        from matplotlib.collections import LineCollection

        weights, starts, ends = np.transpose(pairs)
        colors = [BLUE if w > 0 else RED if w < 0 else "0.5" for w in weights]
        segments = [((x, start), (x + gap, end)) for start, end in zip(starts, ends)]
        looks = {
            "linewidths": 0.3 + 3.5 * np.minimum(np.abs(weights) / largest, 1.0),
            "colors": colors,
            "zorder": 1,
            "alpha": 0.8,
        }
        self.edges_.append(self.ax_.add_collection(LineCollection(segments, **(looks | style)), autolim=False))
        size = min(9.0, 0.15 * points)
        if size < LEGIBLE:
            return
        texts = [self._written(w) for w in weights]
        half = 0.5 * np.array([0.62 * size * (1 + max(map(len, texts))), 1.15 * size]) / points
        places = self._places(starts, ends, gap, radius, half)
        for text, color, t, start, end in zip(texts, colors, places, starts, ends):
            look: dict[str, Any] = {"fontsize": size, "color": color, "zorder": 2}
            look |= {"ha": "center", "va": "center", "rotation": math.degrees(math.atan2(end - start, gap))}
            look["bbox"] = {"facecolor": "white", "edgecolor": "none", "boxstyle": "square,pad=0.05"}
            self.texts_.append(self.ax_.text(x + t * gap, start + t * (end - start), f" {text} ", **look))

    @staticmethod
    def _places(starts: np.ndarray, ends: np.ndarray, gap: float, radius: float, half: np.ndarray) -> np.ndarray:
        """How far along its line each label stands, from 0 to 1: where it is clear of other lines and labels.

        half is half a label's length and height. Clearances are counted in them: from 1 on nothing touches.
        """
        margin = (radius + 1.2 * half[0]) / gap
        t = np.linspace(margin, 1 - margin, 60)
        y = starts[:, None] + t * (ends - starts)[:, None]  # (lines, places)
        along = np.linspace(-1, 1, 5) * half[0] / gap  # a label's own line, other lines: at five points of the label
        at = starts[:, None, None] + (t[:, None] + along) * (ends - starts)[:, None, None]
        distance = np.abs(at[:, None] - at[None])
        distance[np.diag_indices(len(starts))] = np.inf
        clear = distance.min(axis=(1, 3)) / half[1]
        chosen = clear.argmax(axis=1)
        for _ in range(4):
            for k in range(len(starts)):
                others = np.delete(np.arange(len(starts)), k)
                across = np.abs(t[:, None] - t[chosen[others]]) * gap / (2 * half[0])
                down = np.abs(y[k][:, None] - y[others, chosen[others]]) / (2 * half[1])
                from_labels = np.maximum(across, down).min(axis=1, initial=np.inf)
                # of places that are clear, the one nearest to a third of the way
                score = np.minimum(np.minimum(clear[k], from_labels), 1.3) - 0.5 * np.abs(t - 1 / 3)
                chosen[k] = score.argmax()
        return t[chosen]


class WeightsDisplay:
    """Weights of a layer: those of each unit as an image, or all of them as a heat map.

    Parameters
    ----------
    weights : array-like of shape (n_in, n_out)
    image_shape : "auto", (height, width) or None, default="auto"
        Of the images that the inputs are. "auto" is a square where n_in is one, from 6 x 6 on; None is no image.
    feature_names, output_names : sequence of str, optional
        Of inputs and units of the layer, for the heat map.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
    image_ : matplotlib AxesImage
    units_ : ndarray of int
        The units that are drawn, in their order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.displays import WeightsDisplay
    >>> display = WeightsDisplay(np.eye(64)[:, :10] * np.arange(10)).plot(n_units=3)
    >>> display.units_  # those with the largest weights
    array([9, 8, 7])
    """

    def __init__(
        self,
        weights: Any,
        *,
        image_shape: Any = "auto",
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ):
        self.weights, self.image_shape = np.asarray(weights), image_shape
        self.feature_names, self.output_names = feature_names, output_names

    @classmethod
    def from_network(
        cls,
        network: Network,
        *,
        layer: int = 0,
        image_shape: Any = "auto",
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "WeightsDisplay":
        """Draw the weights of a layer of a Network.

        Parameters
        ----------
        network : Network
        layer : int, default=0
            Which of `network.weights`. Those of layers behind the first are no images unless image_shape says so.
        image_shape : "auto", (height, width) or None, default="auto"
        feature_names, output_names : sequence of str, optional
            Of the network's inputs and outputs, for its first and its last layer.
        ax, **kwargs
            Those of `plot`.
        """
        n = len(_network(network).weights)
        if not is_whole(layer) or not -n <= layer < n:
            raise ValueError(f"layer is {layer!r}; an integer from {-n} to {n - 1} is allowed")
        number, W = range(n)[layer], network.weights[layer]
        shape = _image_shape(image_shape, len(W), guess=number == 0)
        features = feature_names if number == 0 else None
        outputs = output_names if number == n - 1 else None
        return cls(W, image_shape=shape, feature_names=features, output_names=outputs).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, **kwargs: Any) -> "WeightsDisplay":
        """As `from_network`, of a fitted estimator, with the names of features and classes that it knows."""
        network, _, names = _seen(estimator)
        return cls.from_network(network, **(names | kwargs))

    def plot(
        self,
        ax: Any = None,
        *,
        n_units: int | None = None,
        columns: int | None = None,
        colorbar: bool = True,
        **kwargs: Any,
    ) -> "WeightsDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure's when not given.
        n_units : int >= 1, optional
            Units at most, those with the largest weights (Euclidean): 20 images, or a heat map of all.
        columns : int >= 1, optional
            Images in a row.
        colorbar : bool, default=True
        **kwargs
            For the image (`Axes.imshow`).

        Returns
        -------
        self
        """
        W = self.weights
        if W.ndim != 2 or 0 in W.shape:
            raise ValueError(f"weights has shape {W.shape}; (n_in, n_out), neither of them 0, is allowed")
        features = _names("feature_names", self.feature_names, W.shape[0])
        outputs = _names("output_names", self.output_names, W.shape[1])
        image_shape = _image_shape(self.image_shape, W.shape[0])
        limit = (20 if image_shape else W.shape[1]) if n_units is None else _whole("n_units", n_units, 1)
        self.units_ = np.arange(W.shape[1])
        if limit < W.shape[1]:
            self.units_ = np.argsort(-np.linalg.norm(W, axis=0), kind="stable")[:limit]
        W = W[:, self.units_]
        style: dict[str, Any] = {"cmap": _diverging(), "vmin": -_limit(W), "vmax": _limit(W)}
        style |= {"interpolation": "nearest"} | kwargs
        labels = [outputs[j] if outputs else f"{j + 1}" for j in self.units_]
        if image_shape:
            default = min(len(labels), math.ceil(math.sqrt(len(labels))))
            columns = default if columns is None else _whole("columns", columns, 1)
            ax = _one_axes(ax, (6.0, 0.6 + 6.0 * math.ceil(len(labels) / columns) / columns))
            self.image_ = _mosaic(ax, W.T.reshape(-1, *image_shape), labels, columns, **style)
        else:
            ax = _one_axes(ax, (6.0, 4.0))
            self.image_ = ax.imshow(W, **({"aspect": "auto"} | style))
            ax.set(xlabel="unit", ylabel="input")
            for axis, names, room in ((ax.xaxis, outputs and labels, 0), (ax.yaxis, features, 1)):
                if names and len(names) * (11 if room else 50) <= _points(ax)[room]:
                    axis.set_ticks(range(len(names)), names)
                    axis.label.set_visible(False)
                else:
                    _number_units(axis, np.arange(len(W)) if room else self.units_)
        self.ax_, self.figure_ = ax, ax.figure
        if colorbar:
            ax.figure.colorbar(self.image_, ax=ax, label="weight")
        return self


# ---- the function that a network computes --------------------------------------------------------------------------


class DecisionSurfaceDisplay:
    """What a network of two inputs says all over the plane, and the examples.

    One output is drawn as a filled contour, with a line at the level that decides; of several outputs the largest gives
    the colour, the paler the less certain.

    Parameters
    ----------
    x0, x1 : array-like of shape (n,) and (k,)
        The grid: values of the first and of the second input.
    response : array-like of shape (k, n) or (k, n, n_out)
        The outputs there.
    X : array-like of shape (m, 2), optional
        Examples.
    y : array-like of shape (m,), optional
        With several outputs their class numbers; with one their targets.
    level : float, optional
        Of the line with one output; no line when not given.
    feature_names, class_names : sequence of str, optional

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes, Figure
    surface_ : matplotlib QuadContourSet or AxesImage
    points_ : matplotlib PathCollection or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import Network
    >>> from fastmlp.displays import DecisionSurfaceDisplay
    >>> X, T = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    >>> display = DecisionSurfaceDisplay.from_network(Network([2, 4, 1], random_state=0), X, T, resolution=20)
    >>> display.response.shape
    (20, 20)
    """

    def __init__(
        self,
        x0: Any,
        x1: Any,
        response: Any,
        *,
        X: Any = None,
        y: Any = None,
        level: float | None = None,
        feature_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
    ):
        self.x0, self.x1, self.response = np.asarray(x0), np.asarray(x1), np.asarray(response)
        self.X, self.y, self.level = X, y, level
        self.feature_names, self.class_names = feature_names, class_names

    @classmethod
    def from_network(
        cls,
        network: Network,
        X: Any,
        y: Any = None,
        *,
        resolution: int = 200,
        margin: float = 0.1,
        level: Any = "auto",
        ax: Any = None,
        **kwargs: Any,
    ) -> "DecisionSurfaceDisplay":
        """Compute h over the range of X, and draw.

        Parameters
        ----------
        network : Network of two inputs
        X : array-like of shape (m, 2)
        y : array-like of shape (m,) or (m, n_out), optional
            Labels or targets; the examples are drawn in their colours.
        resolution : int >= 2, default=200
            Points of the grid in each direction.
        margin : float >= 0, default=0.1
            What is drawn beyond the range of X, in parts of it.
        level : "auto", float or None, default="auto"
            Where a single output has its line; "auto" is 0.5 for a logistic output, 0 for tanh, else none.
        ax, **kwargs
            Those of `plot`.
        """
        if _network(network).sizes[0] != 2:
            raise ValueError(f"network has {network.sizes[0]} inputs; 2 are allowed")
        if isinstance(level, str):
            level = {"logistic": 0.5, "tanh": 0.0}.get(network.output)
        x0, x1, grid = cls._grid(X, resolution, margin)
        h = network.forward(grid)
        h = h[:, 0] if h.shape[1] == 1 else h
        response = h.reshape(len(x1), len(x0), *h.shape[1:])
        names = list(map(str, X.columns)) if hasattr(X, "columns") else None
        y = _one_column(y)
        y = y.argmax(axis=1) if y is not None and y.ndim == 2 else y  # probabilities, or targets of -1 and 1
        examples = {"X": np.asarray(X), "y": y, "feature_names": names}
        return cls(x0, x1, response, level=level, **examples).plot(ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        resolution: int = 200,
        margin: float = 0.1,
        ax: Any = None,
        **kwargs: Any,
    ) -> "DecisionSurfaceDisplay":
        """Compute probabilities, or a regressor's predictions, over the range of X, and draw.

        Parameters
        ----------
        estimator : fitted MLPClassifier or MLPRegressor, or model that has one in it
            Of two features and one target.
        X : array-like or frame of shape (m, 2)
        y : array-like of shape (m,), optional
        resolution, margin, ax, **kwargs
            As for `from_network`.
        """
        last, _ = fitted_estimator(estimator)
        y = _one_column(y)
        x0, x1, grid = cls._grid(X, resolution, margin)
        names = None
        if hasattr(X, "columns"):
            names = [str(name) for name in X.columns]
            grid = type(X)(dict(zip(X.columns, grid.T)))
        classes = getattr(last, "classes_", None)
        if classes is None:
            response, level = np.asarray(estimator.predict(grid)), None
        else:
            response, level = estimator.predict_proba(grid), 0.5
            if last.out_activation_ == "logistic" and len(last.intercepts_[-1]) == 1:
                response = response[:, -1]
            y = None if y is None else _class_numbers(y, classes)
        if response.ndim == 2 and (classes is None or last.out_activation_ == "logistic"):
            raise ValueError(f"the estimator has {response.shape[1]} targets; 1 is allowed")
        response = response.reshape(len(x1), len(x0), *response.shape[1:])
        called = {"feature_names": names, "class_names": None if classes is None else list(map(str, classes))}
        return cls(x0, x1, response, X=np.asarray(X), y=y, level=level, **called).plot(ax, **kwargs)

    @staticmethod
    def _grid(X: Any, resolution: int, margin: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values of both inputs, and all pairs of them as examples."""
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != 2 or len(X) == 0:
            raise ValueError(f"X has shape {X.shape}; (m, 2) with m >= 1 is allowed")
        _whole("resolution", resolution, 2)
        if not margin >= 0:
            raise ValueError(f"margin is {margin!r}; a number >= 0 is allowed")
        low, high = X.min(axis=0).astype(np.float64), X.max(axis=0).astype(np.float64)
        beyond = margin * np.where(high > low, high - low, 1.0)
        x0, x1 = np.linspace(low - beyond, high + beyond, resolution).T
        return x0, x1, np.stack(np.meshgrid(x0, x1), axis=-1).reshape(-1, 2)

    def plot(
        self,
        ax: Any = None,
        *,
        colorbar: bool = True,
        legend: bool = True,
        scatter_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> "DecisionSurfaceDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure's when not given.
        colorbar : bool, default=True
            With one output.
        legend : bool, default=True
            Which colour is which class, where the examples have classes.
        scatter_kwargs : mapping, optional
            For the examples (`Axes.scatter`).
        **kwargs
            For the surface (`Axes.contourf` with one output, `Axes.imshow` with several).

        Returns
        -------
        self
        """
        response = self.response
        if response.ndim not in (2, 3) or response.shape[:2] != (len(self.x1), len(self.x0)):
            allowed = (len(self.x1), len(self.x0))
            raise ValueError(f"response has shape {response.shape}; {allowed}, or that and n_out, is allowed")
        numbers, class_names = self._classes()
        ax = _one_axes(ax, (6.0, 4.2))
        self.ax_, self.figure_, self.points_ = ax, ax.figure, None
        values = None
        # one output and two of them: the same colours for the same classes
        n_out = response.shape[2] if response.ndim == 3 else 1
        palette = (RED, BLUE) if n_out <= 2 else [PALETTE[k % 10] for k in range(n_out)]
        colors = np.array([_pyplot().matplotlib.colors.to_rgb(color) for color in palette])
        if response.ndim == 3:
            self._regions(ax, colors, kwargs)
        else:
            style: dict[str, Any] = {"levels": 21, "cmap": "viridis"}
            seen = [response] if self.y is None else [response, np.asarray(self.y, np.float64)]
            low, high = min(float(v.min()) for v in seen), max(float(v.max()) for v in seen)
            if self.level is not None:
                reach = max(abs(low - self.level), abs(high - self.level)) or 1.0
                low, high = self.level - reach, self.level + reach
                style["cmap"] = _diverging(pale=True)
            high = high if high > low else low + 1.0
            style["levels"] = np.linspace(low, high, 21)
            self.surface_ = ax.contourf(self.x0, self.x1, response, **(style | kwargs))
            if self.level is not None and response.min() < self.level < response.max():
                ax.contour(self.x0, self.x1, response, levels=[self.level], colors="0.15", linewidths=1.5)
            if colorbar:
                label = f"P({self.class_names[-1]})" if self.class_names else "$h_{W,b}(x)$"
                bar = ax.figure.colorbar(self.surface_, ax=ax, label=label)
                bar.locator = _pyplot().MaxNLocator(5)
                bar.update_ticks()
            if self.level is None:
                values = {"cmap": self.surface_.cmap, "vmin": low, "vmax": high}
        if self.X is not None:
            style = {"s": 20, "edgecolors": "white", "linewidths": 0.6, "zorder": 3}
            if self.y is None:
                style |= {"color": "0.2"}
            elif values is not None:
                style |= {"c": self.y, "edgecolors": "0.2"} | values
            else:
                style |= {"c": colors[numbers]}
            self.points_ = ax.scatter(*np.asarray(self.X).T, **(style | dict(scatter_kwargs or {})))
            if legend and len(numbers):
                handles = [ax.scatter([], [], color=colors[k], label=class_names[k]) for k in np.unique(numbers)]
                ax.legend(handles=handles, loc="best", framealpha=0.8, handletextpad=0.2, title="class")
        names = self.feature_names or ("$x_1$", "$x_2$")
        ax.set(xlabel=names[0], ylabel=names[1], xlim=self.x0[[0, -1]], ylim=self.x1[[0, -1]])
        return self

    def _regions(self, ax: Any, colors: np.ndarray, kwargs: dict[str, Any]) -> None:
        """The class of the largest output: its colour, as strong as it is certain, and where classes meet."""
        h = self.response
        n, largest = h.shape[2], h.argmax(axis=2)
        certain = np.ones(h.shape[:2])
        if h.min() >= 0:
            share = h.max(axis=2) / np.maximum(h.sum(axis=2), np.finfo(np.float64).tiny)
            certain = (share - 1 / n) / (1 - 1 / n)
        strength = (0.12 + 0.43 * certain)[..., None]
        extent = (self.x0[0], self.x0[-1], self.x1[0], self.x1[-1])
        style = {"origin": "lower", "extent": extent, "aspect": "auto", "interpolation": "bilinear"}
        self.surface_ = ax.imshow(1 - strength * (1 - colors[largest]), **(style | kwargs))
        for k in range(n):
            lead = h[..., k] - np.delete(h, k, axis=2).max(axis=2)
            if lead.min() < 0 < lead.max():
                ax.contour(self.x0, self.x1, lead, levels=[0], colors="0.15", linewidths=1)

    def _classes(self) -> tuple[np.ndarray, list[str]]:
        """The number of each example's class, none where y has no classes, and the names of the classes."""
        if self.y is None:
            return np.empty(0, int), []
        y, several = np.asarray(self.y), self.response.ndim == 3
        n = self.response.shape[2] if several else 2
        if y.dtype.kind not in "biuf":
            wanted = f"class numbers, integers from 0 to {n - 1}," if several else "targets, which are numbers,"
            raise ValueError(f"y has the type {y.dtype.name}; {wanted} are allowed")
        if self.X is not None and y.shape != (len(self.X),):
            raise ValueError(f"y has shape {y.shape}; {(len(self.X),)} is allowed")
        if several:
            if y.size and (y.min() < 0 or y.max() >= n or (y % 1).any()):
                allowed = f"integers from 0 to {n - 1} are allowed"
                raise ValueError(f"y has class numbers from {y.min()} to {y.max()}; {allowed}")
            return y.astype(int), list(self.class_names or map(str, range(n)))
        if self.level is None:
            return np.empty(0, int), []
        sides = [np.unique(y[y <= self.level]), np.unique(y[y > self.level])]
        signs = [f"<= {self.level:g}", f"> {self.level:g}"]
        names = [f"{side[0]:g}" if len(side) == 1 else sign for side, sign in zip(sides, signs)]
        return (y > self.level).astype(int), list(self.class_names or names)


class SaliencyDisplay:
    """How an output changes with each input: dh/dx, as images beside the examples, or as bars.

    Parameters
    ----------
    saliency : array-like of shape (m, n_out, n_in) or (m, n_in)
        What `fastmlp.saliency` returns, or of one output an example.
    X : array-like of shape (m, n_in), optional
        The examples, to be drawn above their saliency where they are images.
    outputs : int or array-like of int of shape (m,), optional
        Of which output, or of which for each example; when not given, the largest size over the outputs.
    image_shape : "auto", (height, width) or None, default="auto"
        As for `WeightsDisplay`.
    feature_names, output_names : sequence of str, optional

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        Images: of the examples, if there are any, and of the saliency; bars: one.
    figure_ : matplotlib Figure
    image_ : matplotlib AxesImage or None
    bars_ : matplotlib BarContainer or None

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp.displays import SaliencyDisplay
    >>> display = SaliencyDisplay(np.array([[[0.5, -2.0]]]), feature_names=["height", "weight"]).plot()
    >>> [label.get_text() for label in display.axes_[0].get_yticklabels()]
    ['weight', 'height']
    """

    def __init__(
        self,
        saliency: Any,
        *,
        X: Any = None,
        outputs: Any = None,
        image_shape: Any = "auto",
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
    ):
        self.saliency, self.X, self.outputs, self.image_shape = np.asarray(saliency), X, outputs, image_shape
        self.feature_names, self.output_names = feature_names, output_names

    @classmethod
    def from_network(
        cls,
        network: Network,
        X: Any,
        *,
        outputs: Any = None,
        image_shape: Any = "auto",
        feature_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "SaliencyDisplay":
        """Compute the saliency of a Network (`fastmlp.saliency`), and draw.

        Parameters
        ----------
        network : Network
        X : array-like of shape (m, n_in)
        outputs : int or array-like of int of shape (m,), optional
            That with the largest h of each example when not given.
        image_shape, feature_names, output_names
            Those of the constructor.
        ax, **kwargs
            Those of `plot`.
        """
        import fastmlp

        n_out = _network(network).sizes[-1]
        X = as_examples(X, network.sizes[0])
        m, n = X.shape[0], _whole("n_examples", kwargs.get("n_examples", N_IMAGES), 1)
        if outputs is not None:
            outputs = cls._chosen(outputs, m, n_out)
        if _image_shape(image_shape, network.sizes[0]) is not None:  # no more are drawn
            X, outputs = X[:n], None if outputs is None else outputs[:n]
        saliency = fastmlp.saliency(network, X)
        if outputs is None:
            outputs = network.forward(X).argmax(axis=1)
        names = {"feature_names": feature_names, "output_names": output_names}
        return cls(saliency, X=X, outputs=outputs, image_shape=image_shape, **names).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, **kwargs: Any) -> "SaliencyDisplay":
        """As `from_network`, of a fitted estimator, with the names of features and classes that it knows.

        Of steps before the estimator it is the saliency of what they make of X.
        """
        last, _ = fitted_estimator(estimator)
        network, X, names = _seen(estimator, X)
        if network.sizes[-1] > 1 and hasattr(last, "classes_"):
            names["output_names"] = list(map(str, last.classes_))
        return cls.from_network(network, X, **(names | kwargs))

    def plot(
        self,
        ax: Any = None,
        *,
        n_examples: int = N_IMAGES,
        n_features: int = 20,
        colorbar: bool = True,
        **kwargs: Any,
    ) -> "SaliencyDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, optional
            A new figure's when not given. Two rows of images are made within it, best in a figure with
            layout="constrained".
        n_examples : int >= 1, default=8
            Images at most, each divided by its largest size: the saliency of an output that is nearly certain is small
            all over. Bars are the mean size over all examples; of a single one its signed saliency.
        n_features : int >= 1, default=20
            Bars at most, those of the largest.
        colorbar : bool, default=True
        **kwargs
            For the images (`Axes.imshow`) or the bars (`Axes.barh`).

        Returns
        -------
        self
        """
        _whole("n_examples", n_examples, 1)
        _whole("n_features", n_features, 1)
        saliency, labels = self._of_outputs()
        m, n_in = saliency.shape
        features = _names("feature_names", self.feature_names, n_in) or [f"input {i + 1}" for i in range(n_in)]
        shape = _image_shape(self.image_shape, n_in)
        self.image_ = self.bars_ = None
        if shape is None:
            ax = ax[0] if isinstance(ax, (list, tuple, np.ndarray)) else ax
            sizes = saliency[0] if m == 1 else np.abs(saliency).mean(axis=0)
            order = np.argsort(-np.abs(sizes), kind="stable")[:n_features]
            panel = _one_axes(ax, (6.0, 1.0 + 0.28 * len(order)))
            style: dict[str, Any] = {"color": [BLUE if s >= 0 else RED for s in sizes[order]]}
            self.bars_ = panel.barh([features[i] for i in order], sizes[order], **(style | kwargs))
            panel.invert_yaxis()
            panel.axvline(0, color="0.3", linewidth=0.8)
            of_one = f"saliency of {labels[0]}".removesuffix(" of ")
            panel.set_xlabel(of_one if m == 1 else f"mean size of the saliency of {m} examples")
            _plain(panel)
            self.axes_ = np.array([panel])
        else:
            n = min(m, n_examples)
            rows = 1 if self.X is None else 2
            figsize, room = (1.1 * n + 1.2, 0.3 + 1.35 * rows), (0.0, 50.0 if colorbar else 0.0)
            self.axes_ = _many_axes(ax, rows, 1, figsize, room, hspace=0.02)
            style = {"interpolation": "nearest"}
            if self.X is not None:
                X = self.X.toarray() if hasattr(self.X, "toarray") else np.asarray(self.X)
                self.axes_[0].set_anchor("S")
                self.axes_[1].set_anchor("N")
                _mosaic(self.axes_[0], X[:n].reshape(n, *shape), [""] * n, n, cmap="gray_r", **style)
            shown = np.array([s / _limit(s) for s in saliency[:n]])
            signed = shown.min() < 0
            style |= {"cmap": _diverging() if signed else "Blues", "vmin": -1.0 if signed else 0.0, "vmax": 1.0}
            self.image_ = _mosaic(self.axes_[-1], shown.reshape(n, *shape), labels[:n], n, **(style | kwargs))
            if colorbar:
                label = "saliency,\nof its largest"
                self.axes_[0].figure.colorbar(self.image_, ax=list(self.axes_), label=label, panchor=False)
        self.figure_ = self.axes_[0].figure
        return self

    def _of_outputs(self) -> tuple[np.ndarray, list[str]]:
        """(m, n_in), of the outputs that were asked for, and a label for each example."""
        saliency = self.saliency
        if saliency.ndim not in (2, 3) or 0 in saliency.shape:
            raise ValueError(f"saliency has shape {saliency.shape}; (m, n_out, n_in) or (m, n_in), none 0, is allowed")
        m = len(saliency)
        if saliency.ndim == 2:
            return saliency, [""] * m
        n_out = saliency.shape[1]
        names = _names("output_names", self.output_names, n_out)
        if self.outputs is None and n_out > 1:
            return np.abs(saliency).max(axis=1), [""] * m
        outputs = self._chosen(0 if self.outputs is None else self.outputs, m, n_out)
        if names is None:
            names = [f"$h_{{{k + 1}}}$" for k in range(n_out)] if n_out > 1 else ["h"]
        return saliency[np.arange(m), outputs], [names[k] for k in outputs]

    @staticmethod
    def _chosen(outputs: Any, m: int, n_out: int) -> np.ndarray:
        """An output for each of m examples."""
        found = np.asarray(outputs)
        right = found.dtype.kind in "iu" and found.shape in ((), (m,))
        if not right or found.size and (found.min() < 0 or found.max() >= n_out):
            allowed = f"an integer from 0 to {n_out - 1}, or {m} of them, is allowed"
            raise ValueError(f"outputs is {outputs!r}; {allowed}")
        return np.broadcast_to(found, m)


# ---- comparison ----------------------------------------------------------------------------------------------------


class BaselineDisplay:
    """A network beside the lecture's baselines: scores with their spread, and the time that each fit took.

    Parameters
    ----------
    comparison : fastmlp.baselines.Comparison
        Or what has its attributes: rows (each with name, scores, score, spread and fit_seconds), metric, verdict and
        network, the name of the network's row.

    Attributes
    ----------
    axes_ : ndarray of two matplotlib Axes
        Scores, and fit times.
    figure_ : matplotlib Figure
    bars_ : matplotlib BarContainer
        The fit times.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from fastmlp.displays import BaselineDisplay
    >>> rows = [SimpleNamespace(name=name, scores=(score,), score=score, spread=0.0, fit_seconds=1.0)
    ...         for name, score in (("network", 0.98), ("linear model", 0.95))]
    >>> comparison = SimpleNamespace(rows=rows, metric="accuracy", verdict="The network is ahead.", network="network")
    >>> display = BaselineDisplay(comparison).plot()
    >>> [label.get_text() for label in display.axes_[0].get_yticklabels()]
    ['network', 'linear model']
    """

    def __init__(self, comparison: Any):
        self.comparison = comparison

    def plot(self, ax: Any = None, **kwargs: Any) -> "BaselineDisplay":
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or two of them, optional
            A new figure's when not given, above which the verdict is written. Two panels are made within one,
            best in a figure with layout="constrained".
        **kwargs
            For the scores (`Axes.errorbar`).

        Returns
        -------
        self
        """
        rows, metric = list(self.comparison.rows), self.comparison.metric
        height = 1.5 + 0.45 * len(rows)
        names = 6.5 * max(len(row.name) for row in rows) + 8  # points
        several = ax is None or isinstance(ax, (list, tuple, np.ndarray))
        narrow = not several and _points(ax)[0] < 2.5 * names  # names stand above the scores, not beside them
        left, right = self.axes_ = _many_axes(
            ax, 1, 2, (8.0, height), (0.0 if narrow else names, 0.0), width_ratios=(1.6, 1)
        )
        self.figure_ = left.figure
        if ax is None:
            self.figure_.suptitle(textwrap.fill(self.comparison.verdict, 95), fontsize="medium")
        at = np.arange(len(rows))
        colors = [BLUE if row.name == self.comparison.network else "0.5" for row in rows]
        for y, row, color in zip(at, rows, colors):
            left.plot(row.scores, [y] * len(row.scores), "|", color=color, alpha=0.5, markersize=9)
            style = {"fmt": "o", "color": color, "capsize": 3, "markersize": 6, "linewidth": 1.8}
            left.errorbar(row.score, y, xerr=row.spread if np.isfinite(row.spread) else None, **(style | kwargs))
        left.set_yticks(at, [row.name for row in rows])
        for label, row in zip(left.get_yticklabels(), rows):
            label.set_fontweight("bold" if row.name == self.comparison.network else "normal")
        left.set(xlabel="$R^2$" if metric == "R^2" else metric, ylim=(len(rows) - 0.5, -0.7))
        worst, *others = sorted(rows, key=lambda row: row.score)
        seen = [score for row in others for score in (*row.scores, row.score)]
        far = len(rows) > 2 and others[0].score - worst.score > 2 * (max(seen) - min(seen))
        if far:  # what guesses would press all others together: it is only pointed to
            room = 0.35 * (max(seen) - min(seen) or 0.01)
            left.set_xlim(min(seen) - 2 * room, max(seen) + room)
        left.margins(x=0.25)
        low = left.get_xlim()[0]
        for y, row, color in zip(at, rows, colors):
            spread = f" \N{PLUS-MINUS SIGN} {row.spread:.3f}" if np.isfinite(row.spread) else ""
            text = {"xytext": (0, 7), "textcoords": "offset points", "ha": "center", "fontsize": 9, "color": color}
            place = (row.score, y)
            if narrow:
                at_left = {"xycoords": ("axes fraction", "data"), "ha": "left", "fontsize": 7}
                left.annotate(f"{row.name}: {row.score:.3f}", (0.0, y), **(text | at_left | {"xytext": (2, 5)}))
            if far and row is worst:
                left.plot(low, y, "<", color=color, clip_on=False)
                place, text = (low, y), text | {"xytext": (8, 0), "ha": "left", "va": "center"}
            if not narrow and _points(left)[1] >= 22 * len(rows):  # else there is no room for numbers between the rows
                left.annotate(f"{row.score:.3f}{spread}", place, **text)
        left.grid(axis="x", color="0.9")
        left.set_axisbelow(True)
        seconds = [row.fit_seconds for row in rows]
        self.bars_ = right.barh(at, seconds, color=colors, height=0.5)
        written = [f"{s:.2g} s" if s >= 0.01 else f"{1000 * s:.2g} ms" for s in seconds]
        right.bar_label(self.bars_, written, padding=3, fontsize=7 if narrow else None)
        positive = [s for s in seconds if s > 0] or [1.0]
        right.set(xscale="log", xlabel="fit, seconds", ylim=left.get_ylim(), yticks=[])
        lowest, highest = min(positive) / 3, max(positive)
        right.set_xlim(lowest, highest * (highest / lowest) ** 0.5)  # room for what is written behind the bars
        if narrow:
            left.tick_params(labelleft=False)
            for panel in self.axes_:
                panel.tick_params(labelsize=7)
                panel.xaxis.label.set_fontsize(8)
        for panel in self.axes_:
            _plain(panel)
        return self
