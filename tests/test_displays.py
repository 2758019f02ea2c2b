"""Displays: what is drawn are the numbers of the network, and nothing covers anything else."""

import doctest
import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import reference
from cases import data, network, run_python
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp import displays

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")
pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # what is drawn need not be trained well

NO_IMPORTS = """
import json, sys
import fastmlp.displays
print(json.dumps([name for name in ("matplotlib", "sklearn", "pandas") if name in sys.modules]))
"""


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def table(m=60, n_in=2, seed=0):
    """Examples of three classes, and their labels."""
    r = np.random.default_rng(seed)
    y = np.arange(m) % 3
    return r.standard_normal((m, n_in)) + 2.0 * y[:, None], np.array(["a", "b", "c"])[y]


@pytest.fixture(scope="module")
def classifier():
    return fastmlp.MLPClassifier((4,), "tanh", solver="lbfgs", max_iter=20, random_state=0).fit(*table())


@pytest.fixture(scope="module")
def pipeline():
    pandas = pytest.importorskip("pandas")
    X, y = table()
    model = make_pipeline(StandardScaler(), fastmlp.MLPClassifier((4,), solver="lbfgs", max_iter=20, random_state=0))
    return model.fit(pandas.DataFrame(X, columns=["length", "width"]), y)


def texts(ax):
    return [text.get_text() for text in ax.texts]


# ---- all of them ---------------------------------------------------------------------------------------------------


def test_examples():
    failures, tried = doctest.testmod(displays)
    assert tried > 30 and failures == 0


def test_imported_when_used():
    assert json.loads(run_python("-c", NO_IMPORTS)) == []
    assert fastmlp.displays is displays and "displays" in fastmlp.__all__


def test_without_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    net = network([2, 3, 1])
    for draw in (
        displays.ActivationDisplay().plot,
        displays.LossCurveDisplay({"training": [1.0]}).plot,
        lambda: displays.NetworkDisplay.from_network(net),
        lambda: displays.DecisionSurfaceDisplay.from_network(net, [[0, 0], [1, 1]]),
    ):
        with pytest.raises(ImportError, match=r"fastmlp.displays needs matplotlib: pip install 'fastmlp\[plot\]'"):
            draw()


FROM_NETWORK = {
    "NetworkDisplay": (),
    "WeightsDisplay": (),
    "UnitActivationsDisplay": ([[0.0, 0.0]],),
    "DecisionSurfaceDisplay": ([[0.0, 0.0]],),
    "GradientFlowDisplay": ([[0.0, 0.0]], [0]),
    "SaliencyDisplay": ([[0.0, 0.0]],),
}


@pytest.mark.parametrize("name", FROM_NETWORK)
def test_what_is_no_network_or_no_fitted_estimator(name, monkeypatch, classifier):
    monkeypatch.setattr(fastmlp, "saliency", lambda model, X: model, raising=False)
    display, arguments = getattr(displays, name), FROM_NETWORK[name]
    with pytest.raises(TypeError, match="network is MLPClassifier; a fastmlp.Network is allowed"):
        display.from_network(classifier, *arguments)
    with pytest.raises(TypeError, match="estimator is Network; a fitted fastmlp.MLPClassifier or MLPRegressor, alone"):
        display.from_estimator(network([2, 3, 1]), *arguments)
    with pytest.raises(TypeError, match="estimator is Pipeline; "):
        display.from_estimator(make_pipeline(StandardScaler()), *arguments)
    for unfitted in (fastmlp.MLPRegressor(), make_pipeline(StandardScaler(), fastmlp.MLPClassifier())):
        with pytest.raises(NotFittedError):
            display.from_estimator(unfitted, *arguments)


def test_drawn_where_it_is_told():
    """In given axes, in the place of given axes, in axes of a subfigure, in axes without a grid."""
    net, comparison = network([2, 3, 1]), compared()
    figure = plt.figure(layout="constrained")
    left, right = figure.subfigures(1, 2)
    axes = [left.add_subplot(), right.add_subplot()]
    assert displays.NetworkDisplay.from_network(net, ax=axes[0]).ax_ is axes[0]
    found = displays.BaselineDisplay(comparison).plot(axes[1])
    assert found.figure_ is right and not axes[1].axison
    free = plt.figure().add_axes((0.5, 0.5, 0.4, 0.4))
    panels = displays.ActivationDisplay(["relu", "tanh"]).plot(free).axes_
    assert all(0.5 <= edge <= 0.9 + 1e-9 for panel in panels for edge in panel.get_position().extents)
    given = plt.subplots(1, 3)[1]
    assert list(displays.ActivationDisplay(["relu", "tanh", "identity"]).plot(given).axes_) == list(given)
    with pytest.raises(ValueError, match="ax has 3 axes; one, or 2, is allowed"):
        displays.ActivationDisplay(["relu", "tanh"]).plot(given)
    assert len(plt.get_fignums()) == 3


def drawn_boxes(axes):
    """Where each of the axes has all its texts and ticks, in pixels."""
    axes[0].figure.canvas.draw()
    return [panel.get_tightbbox() for panel in axes]


@pytest.mark.parametrize("size", [(12, 9), (16, 12)])
def test_in_the_middle_of_a_plain_grid(size):
    """Panels made within axes cover neither each other nor the neighbours, where no layout engine makes room."""
    saliency = np.random.default_rng(0).standard_normal((8, 64))
    for display in (
        displays.ActivationDisplay(),
        displays.BaselineDisplay(compared()),
        displays.SaliencyDisplay(saliency, X=np.abs(saliency)),
    ):
        figure, axes = plt.subplots(3, 3, figsize=size)
        place = axes[1, 1].get_position().transformed(figure.transFigure)
        panels = display.plot(axes[1, 1]).axes_
        boxes = drawn_boxes(panels)
        assert sum(one.overlaps(other) for one, other in itertools.combinations(boxes, 2)) == 0
        for box in drawn_boxes([panel for panel in figure.axes if panel not in axes.flat]):
            assert (
                box.x0 > place.x0 - 30 and box.x1 < place.x1 + 10 and place.y0 - 40 < box.y0 and box.y1 < place.y1 + 20
            )
        plt.close(figure)


def test_long_names_stay_above_their_images():
    names = [f"a quite long class name {k}" for k in range(8)]
    W = np.random.default_rng(0).standard_normal((64, 8))
    outputs = np.arange(8)
    saliency = displays.SaliencyDisplay(np.broadcast_to(W.T, (8, 8, 64)), outputs=outputs, output_names=names).plot()
    weights = displays.WeightsDisplay(W, output_names=names).plot()
    for ax in (saliency.axes_[0], weights.ax_):
        ax.figure.canvas.draw()
        boxes = [text.get_window_extent() for text in ax.texts]
        assert sum(one.overlaps(other) for one, other in itertools.combinations(boxes, 2)) == 0
        assert [text[-2:] for text in texts(ax)] == [f" {k}" for k in range(8)]
        assert all(text.get_fontsize() >= 6.9 for text in ax.texts)


def test_around_an_estimator():
    """In a search and a transformed target estimators are found; y is what they see."""
    X, _ = table()
    y = 50.0 + 10.0 * X[:, 0]
    regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", max_iter=20, random_state=0)
    target = TransformedTargetRegressor(make_pipeline(StandardScaler(), regressor), transformer=StandardScaler())
    model = GridSearchCV(target, {"regressor__mlpregressor__alpha": [0.1]}, cv=2).fit(X, y)
    last = model.best_estimator_.regressor_[-1]
    Z, t = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    display = displays.GradientFlowDisplay.from_estimator(model, X, y)
    np.testing.assert_allclose(display.deltas[-1][:, 0], last.predict(Z) - t, atol=1e-12)
    display = displays.UnitActivationsDisplay.from_estimator(model, X)
    np.testing.assert_allclose(display.activations, last.transform(Z), atol=1e-12)
    np.testing.assert_array_equal(displays.WeightsDisplay.from_estimator(model).weights, last.coefs_[0])
    np.testing.assert_array_equal(displays.NetworkDisplay.from_estimator(model).weights[1], last.coefs_[1])
    np.testing.assert_allclose(displays.SaliencyDisplay.from_estimator(model, X).saliency, fastmlp.saliency(last, Z))
    display = displays.DecisionSurfaceDisplay.from_estimator(model, X, y, resolution=3)
    np.testing.assert_allclose(display.response[0, 2], model.predict([[display.x0[2], display.x1[0]]])[0])


# ---- training ------------------------------------------------------------------------------------------------------


def test_loss_curve_of_an_estimator():
    X, y = table()
    model = fastmlp.MLPClassifier((4,), max_iter=5, tol=0.0, random_state=0)
    with pytest.warns(UserWarning):
        make_pipeline(StandardScaler(), model).fit(X, y, mlpclassifier__eval_set=(X, y))
    display = displays.LossCurveDisplay.from_estimator(model, linewidth=3)
    training, validation, scores = display.lines_
    assert training.get_ydata().tolist() == model.loss_curve_ and training.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert validation.get_ydata().tolist() == model.validation_curve_ and training.get_linewidth() == 3
    assert scores.get_ydata().tolist() == model.validation_scores_ and scores.axes is display.score_ax_
    assert display.score_ax_.get_ylabel() == "validation accuracy" and display.ax_.get_yscale() == "linear"


def test_loss_curve_of_lbfgs_is_refused(classifier):
    with pytest.raises(ValueError, match="solver is 'lbfgs', which keeps no loss_curve_; 'adam', 'adamw', 'sgd', 'gd'"):
        displays.LossCurveDisplay.from_estimator(classifier)


def test_loss_curve_of_a_history():
    net = network([3, 4, 1])
    history = net.train(*data(net, 20), optimizer=fastmlp.SGD(0.1), epochs=3, validation=data(net, 5))
    display = displays.LossCurveDisplay.from_history(history)
    assert [line.get_ydata().tolist() for line in display.lines_] == [history.objective, history.validation]
    assert display.score_ax_ is None and display.ax_.get_ylabel() == "objective J(W, b)"
    with pytest.raises(TypeError, match="history is list; a fastmlp.History is allowed"):
        displays.LossCurveDisplay.from_history([1.0])


@pytest.mark.parametrize(
    ("curve", "scale"), [([20.0, 1.0], "log"), ([5.0, 1.0], "linear"), ([20.0, 0], "linear"), ([np.nan, 1], "linear")]
)
def test_loss_curve_scale(curve, scale):
    assert displays.LossCurveDisplay({"training": curve}).plot().ax_.get_yscale() == scale


def test_loss_curve_without_epochs():
    with pytest.raises(ValueError, match="curves has no epoch"):
        displays.LossCurveDisplay({"training": []}).plot()


def test_learning_rate():
    rates = np.logspace(-3, 0, 4)
    result = SimpleNamespace(learning_rates=rates, losses=[2.0, 1.1, 0.9, np.inf], smoothed=[2.0, 1.0, 1.0, np.nan],
                             suggestion=0.02, diverged_at=1.0)  # fmt: skip
    display = displays.LearningRateDisplay(result).plot()
    raw, smoothed, suggestion = display.lines_
    np.testing.assert_array_equal(raw.get_ydata(), [2.0, 1.1, 0.9, np.nan])
    np.testing.assert_array_equal(smoothed.get_ydata(), result.smoothed)
    assert suggestion.get_xdata()[0] == 0.02 and suggestion.get_label() == "suggestion: 0.02"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["loss", "smoothed", "suggestion: 0.02", "diverged at 1"]
    result.diverged_at, result.suggestion, result.smoothed = None, None, [2.0, 1.0, 50.0, 1e9]
    display = displays.LearningRateDisplay(result).plot()
    assert len(display.lines_) == 2
    assert display.ax_.get_ylim()[1] < 3  # what explodes does not flatten the rest


def test_gradient_flow_of_a_network():
    net = network([4, 5, 3, 2], activation="relu")
    X, T = data(net, 30)
    display = displays.GradientFlowDisplay.from_network(net, X, T)
    for l, (delta, gradient) in enumerate(zip(net.deltas(X, T), net.gradients(X, T)[0])):
        sizes = np.abs(delta[delta != 0]).astype(np.float64)
        np.testing.assert_allclose(display.delta_quantiles_[l], np.quantile(sizes, (0, 0.25, 0.5, 0.75, 1)))
        assert display.delta_zeros_[l] == np.mean(delta == 0)
        assert display.gradient_quantiles_[l, 4] == np.abs(gradient).max()
    assert display.ax_.get_yscale() == "log"
    ticks = [label.get_text() for label in display.ax_.get_xticklabels() if label.get_text()]
    assert ticks == [f"{l + 1}\n{share:.0%}" for l, share in enumerate(display.delta_zeros_)]


def test_gradient_flow_of_a_dead_network():
    display = displays.GradientFlowDisplay([np.zeros((3, 2))], [np.zeros((2, 2))]).plot()
    assert np.isnan(display.delta_quantiles_).all() and display.delta_zeros_ == [1.0]
    with pytest.raises(ValueError, match="deltas has 1 layers and gradients 0; the same number, at least 1"):
        displays.GradientFlowDisplay([np.ones(3)], []).plot()


def test_gradient_flow_of_estimators(pipeline):
    X, y = table()
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["length", "width"])
    display = displays.GradientFlowDisplay.from_estimator(pipeline, frame, y)
    one_hot = (y[:, None] == pipeline.classes_).astype(float)
    np.testing.assert_allclose(display.deltas[-1], pipeline.predict_proba(frame) - one_hot, atol=1e-12)
    # at the minimum that L-BFGS looks for, the gradient of the penalized loss is nearly zero
    alone = fastmlp.MLPClassifier((3,), "tanh", solver="lbfgs", alpha=1.0, tol=1e-9, max_iter=500, random_state=0)
    display = displays.GradientFlowDisplay.from_estimator(alone.fit(X, y), X, y)
    assert display.gradient_quantiles_[:, 4].max() < 1e-3
    binary = fastmlp.MLPClassifier((3,), solver="lbfgs", max_iter=5, random_state=0).fit(X, y == "b")
    display = displays.GradientFlowDisplay.from_estimator(binary, X, y == "b")
    np.testing.assert_allclose(display.deltas[-1][:, 0], binary.predict_proba(X)[:, 1] - (y == "b"), atol=1e-12)
    settings = {"hidden_layer_sizes": (3,), "activation": "tanh", "alpha": 1.0, "tol": 1e-9, "max_iter": 900}
    regressor = fastmlp.MLPRegressor(solver="lbfgs", random_state=0, **settings).fit(X, X[:, 0])
    display = displays.GradientFlowDisplay.from_estimator(regressor, X, X[:, 0])
    assert display.gradient_quantiles_[:, 4].max() < 1e-3
    display = displays.GradientFlowDisplay.from_estimator(regressor.fit(X, X), X, X)
    np.testing.assert_allclose(display.deltas[-1], regressor.predict(X) - X, atol=1e-12)
    with pytest.raises(ValueError, match=r"`y` has classes not in `self.classes_`. .*has \['d'\]"):
        displays.GradientFlowDisplay.from_estimator(alone, X[:1], ["d"])
    huber = fastmlp.MLPRegressor("huber", (3,), max_iter=1, solver="lbfgs").fit(X, X[:, 0])
    own = fastmlp.Loss(lambda a, y: (a - y) ** 4, lambda a, y: 4 * (a - y) ** 3)
    regressor = fastmlp.MLPRegressor(own, (3,), solver="lbfgs", max_iter=5, random_state=0).fit(X, X)
    display = displays.GradientFlowDisplay.from_estimator(regressor, X, X)
    np.testing.assert_allclose(display.deltas[-1], 4 * (regressor.predict(X) - X) ** 3, atol=1e-10)
    display = displays.GradientFlowDisplay.from_estimator(huber, X, X[:, 0])
    np.testing.assert_allclose(display.deltas[-1][:, 0], np.clip(huber.predict(X) - X[:, 0], -1, 1), atol=1e-12)


# ---- activations ---------------------------------------------------------------------------------------------------


def test_activations():
    names = ("identity", "logistic", "tanh", "relu", "softplus")
    display = displays.ActivationDisplay(names).plot(z_range=(-3, 3), n_points=31)
    for name, (f, derivative) in zip(names, display.lines_):
        function, by_z = reference.FUNCTIONS[name]
        z = f.get_xdata().tolist()
        np.testing.assert_allclose(f.get_ydata(), [function(x) for x in z], atol=1e-14)
        np.testing.assert_allclose(derivative.get_ydata(), [by_z(x) for x in z], atol=1e-14)
    assert [panel.get_title().partition("\n")[0] for panel in display.axes_] == [
        "identity", "logistic (eq. 1)", "tanh (eq. 2)", "ReLU (eq. 3)", "SoftPlus",
    ]  # fmt: skip


def test_own_activation():
    cube = SimpleNamespace(f=lambda z: z**3, df=lambda z: 3 * z**2, name="cube")
    display = displays.ActivationDisplay([cube]).plot(n_points=5)
    assert display.axes_[0].get_title() == "cube"
    assert display.lines_[0][1].get_ydata().tolist() == [48.0, 12.0, 0.0, 12.0, 48.0]
    with pytest.raises(ValueError, match="activations has 'swish'; 'identity', 'logistic', 'tanh', 'relu', 'softplus'"):
        displays.ActivationDisplay(["swish"]).plot()
    with pytest.raises(ValueError, match="activations is empty"):
        displays.ActivationDisplay([]).plot()


@pytest.mark.parametrize("layer", [0, -1])
def test_unit_activations(layer):
    net = network([4, 6, 5, 2], activation="tanh")
    X, y = data(net, 9)[0], np.array(list("cabcabcab"))
    display = displays.UnitActivationsDisplay.from_network(net, X, y, layer=layer)
    a = net.layers(X)[range(2)[layer]][1]
    assert display.rows_.tolist() == [1, 4, 7, 2, 5, 8, 0, 3, 6]
    np.testing.assert_array_equal(display.image_.get_array(), a[display.rows_])
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["a", "b", "c"]
    display = displays.UnitActivationsDisplay.from_network(net, X, y, layer=layer, kind="classes", sort_units=True)
    means = np.array([a[y == name].mean(axis=0) for name in "abc"])
    np.testing.assert_allclose(display.image_.get_array(), means[:, display.units_])
    assert sorted(display.units_) == list(range(a.shape[1]))
    assert (np.diff(means[:, display.units_].argmax(axis=0)) >= 0).all()


def test_unit_activations_take_one_hot_targets():
    net = network([4, 6, 3], output="softmax", loss="log_loss")
    X, y = data(net, 6)[0], np.array([2, 0, 1, 0, 2, 1])
    display = displays.UnitActivationsDisplay.from_network(net, X, np.eye(3)[y], kind="classes")
    a = net.transform(X)
    np.testing.assert_allclose(display.image_.get_array(), [a[y == k].mean(axis=0) for k in range(3)])
    with pytest.raises(ValueError, match=r"y has shape \(6, 3\); \(6,\) is allowed"):
        displays.UnitActivationsDisplay.from_network(net, X, np.ones((6, 3)))


def test_unit_activations_of_estimators(pipeline, classifier):
    X, y = table()
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["length", "width"])
    display = displays.UnitActivationsDisplay.from_estimator(pipeline, frame)
    last = pipeline[-1]
    z = pipeline[0].transform(frame) @ last.coefs_[0] + last.intercepts_[0]
    np.testing.assert_allclose(display.activations, np.maximum(z, 0), atol=1e-12)
    counts = fastmlp.MLPRegressor("poisson", (3,), solver="lbfgs", max_iter=5, random_state=0).fit(X, np.arange(60))
    display = displays.UnitActivationsDisplay.from_estimator(counts, X, np.arange(60.0)[::-1])
    assert display.rows_.tolist() == list(range(60))[::-1]
    assert display.ax_.get_ylabel() == "example, sorted by y"


def test_unit_activations_refuse():
    net = network([2, 3, 3, 1])
    X = np.zeros((4, 2))
    for layer in (2, -3, 0.5, True):
        with pytest.raises(ValueError, match=f"layer is {layer}; an integer from -2 to 1, a hidden layer, is allowed"):
            displays.UnitActivationsDisplay.from_network(net, X, layer=layer)
    with pytest.raises(ValueError, match="the network has no hidden layer"):
        displays.UnitActivationsDisplay.from_network(network([2, 1]), X)
    with pytest.raises(ValueError, match="kind is 'units'; 'examples', 'classes' are allowed"):
        displays.UnitActivationsDisplay(X).plot(kind="units")
    with pytest.raises(ValueError, match="y has no classes"):
        displays.UnitActivationsDisplay(X).plot(kind="classes")
    with pytest.raises(ValueError, match=r"y has shape \(3,\); \(4,\) is allowed"):
        displays.UnitActivationsDisplay(X, y=[1, 2, 3]).plot()


# ---- parameters ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[3, 3, 1], [2, 4, 1], [1, 1], [2, 2, 2, 2]])
def test_every_weight_of_a_small_network_is_legible(sizes):
    """Each is written once, and no two numbers cover each other or a unit, however they are turned."""
    net = network(sizes)
    display = displays.NetworkDisplay.from_network(net)
    expected = [w for W, b in zip(net.weights, net.biases) for w in np.vstack([W, b]).ravel()]
    written = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in display.texts_]
    np.testing.assert_allclose(written, expected, rtol=0.05)
    display.figure_.canvas.draw()
    assert all(text.get_fontsize() > 7 for text in display.texts_)
    to_data, boxes = display.ax_.transData.inverted(), []
    for text in display.texts_:
        text.set_rotation(0)
        width, height = np.diff(to_data.transform(text.get_window_extent()), axis=0)[0]
        boxes.append((*text.get_position(), width, 0.8 * height))
    for (x, y, width, height), (x2, y2, *_) in itertools.combinations(boxes, 2):
        assert abs(x - x2) > width or abs(y - y2) > height
    circles = [patch for patch in display.ax_.patches if hasattr(patch, "center")]
    assert len(circles) == sum(sizes) + len(sizes) - 1
    for x, y, width, _ in boxes:
        assert min(np.hypot(x - c.center[0], y - c.center[1]) - c.radius for c in circles) > 0.3 * width


def test_edges_say_size_and_sign():
    display = displays.NetworkDisplay([[[2.0, -1.0, 0.5]]], [[0.0, 0.5, -50.0]]).plot()
    widths = np.array(display.edges_[0].get_linewidths()) - 0.3
    np.testing.assert_allclose(widths, 3.5 * np.array([1.0, 0.5, 0.25, 0.0, 0.25, 1.0]), atol=1e-12)  # a bias at most 1
    colors = [matplotlib.colors.to_hex(color).upper() for color in display.edges_[0].get_colors()]
    assert colors == [displays.BLUE, displays.RED, displays.BLUE, "#808080", displays.BLUE, displays.RED]
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["weight > 0", "weight < 0", "|weight| = 2"]


def test_wide_network():
    """The first and the last units of wide layers, and dots between; no weights are written."""
    net = network([64, 50, 10])
    display = displays.NetworkDisplay.from_network(net, max_units=5)
    assert display.texts_ == [] and [len(edges.get_segments()) for edges in display.edges_] == [5 * 4, 5 * 4]
    shown = set(texts(display.ax_))
    assert {"$x_{1}$", "$x_{2}$", "$x_{63}$", "$x_{64}$", r"$\vdots$", "$a^{(3)}_{10}$", "+1"} <= shown
    assert "$x_{3}$" not in shown
    largest = max(np.abs(array).max() for array in net.weights)
    share = np.abs(net.weights[0][63, 49]) / largest
    assert np.isclose(display.edges_[0].get_linewidths()[15], 0.3 + 3.5 * share)


def test_names_of_features_and_classes(pipeline):
    shown = texts(displays.NetworkDisplay.from_estimator(pipeline).ax_)
    assert {"length", "width", "P(a)", "P(b)", "P(c)"} <= set(shown)
    shown = texts(displays.NetworkDisplay.from_network(network([2, 2, 1]), feature_names=["u", "v"]).ax_)
    assert {"u", "v", "$h_{W,b}(x)$"} <= set(shown)
    with pytest.raises(ValueError, match="feature_names has 1 names; 2 are allowed"):
        displays.NetworkDisplay.from_network(network([2, 2, 1]), feature_names=["u"])
    with pytest.raises(ValueError, match="max_units is 2; an integer >= 3 is allowed"):
        displays.NetworkDisplay.from_network(network([2, 2, 1]), max_units=2)
    with pytest.raises(ValueError, match="weights and biases have the shapes"):
        displays.NetworkDisplay([np.ones((2, 3))], [np.ones(2)]).plot()


def test_weights_as_images():
    net = network([64, 5, 3])
    display = displays.WeightsDisplay.from_network(net, n_units=3)
    W = net.weights[0]
    assert display.units_.tolist() == np.argsort(-np.linalg.norm(W, axis=0))[:3].tolist()
    drawn = display.image_.get_array()
    np.testing.assert_array_equal(drawn[2:10, :8], W[:, display.units_[0]].reshape(8, 8))
    np.testing.assert_array_equal(drawn[2:10, 9:17], W[:, display.units_[1]].reshape(8, 8))
    np.testing.assert_array_equal(drawn[12:20, :8], W[:, display.units_[2]].reshape(8, 8))
    assert drawn.mask.sum() == drawn.size - 3 * 64
    assert texts(display.ax_) == [str(j + 1) for j in display.units_]
    low, high = display.image_.get_clim()
    assert high == -low == np.abs(W[:, display.units_]).max()
    other = displays.WeightsDisplay.from_network(net, n_units=2, image_shape=(4, 16), columns=2)
    np.testing.assert_array_equal(other.image_.get_array()[1:5, :16], W[:, other.units_[0]].reshape(4, 16))


def test_weights_as_heat_map(pipeline):
    net = network([64, 36, 3])
    display = displays.WeightsDisplay.from_network(net, layer=-1)  # 36 units are no image unless one says so
    np.testing.assert_array_equal(display.image_.get_array(), net.weights[1])
    display = displays.WeightsDisplay.from_network(net, image_shape=None, cmap="PuOr")
    assert display.image_.get_array().shape == (64, 36) and display.image_.get_cmap().name == "PuOr"
    display = displays.WeightsDisplay.from_estimator(pipeline)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["length", "width"]


def test_weights_refuse():
    for shape in ((8, 7), (64,), 8, "square"):
        with pytest.raises(ValueError, match="image_shape is .*; 'auto', None or .height, width. of 64 inputs"):
            displays.WeightsDisplay(np.ones((64, 2)), image_shape=shape).plot()
    with pytest.raises(ValueError, match="layer is 2; an integer from -2 to 1 is allowed"):
        displays.WeightsDisplay.from_network(network([2, 3, 1]), layer=2)


# ---- the function --------------------------------------------------------------------------------------------------


def test_surface_of_a_network():
    net = network([2, 5, 1], activation="tanh", dtype="float64")
    X, T = np.array([[0.0, 0.0], [2.0, 1.0]]), np.array([0, 1])
    display = displays.DecisionSurfaceDisplay.from_network(net, X, T, resolution=7, margin=0.5)
    assert display.x0.tolist() == np.linspace(-1, 3, 7).tolist() and display.x1[0] == -0.5 and display.level == 0.5
    np.testing.assert_array_equal(display.response[2, 5], net.forward([[display.x0[5], display.x1[2]]])[0, 0])
    colors = [matplotlib.colors.to_hex(color).upper() for color in display.points_.get_facecolors()]
    assert colors == [displays.RED, displays.BLUE]
    values = network([2, 5, 1], output="identity", dtype="float64")
    display = displays.DecisionSurfaceDisplay.from_network(values, X, T[:, None], resolution=7)
    assert display.level is None and display.points_.get_array().tolist() == [0, 1]


def test_surface_of_several_outputs():
    net = network([2, 5, 3], output="softmax", loss="log_loss", dtype="float64")
    X = np.array([[-3.0, -3.0], [3.0, 3.0]])
    display = displays.DecisionSurfaceDisplay.from_network(net, X, np.eye(3)[[2, 0]], resolution=9)
    shown = np.asarray(display.surface_.get_array())
    p = display.response[4, 7]
    color = np.array(matplotlib.colors.to_rgb(displays.PALETTE[p.argmax()]))
    np.testing.assert_allclose(shown[4, 7], 1 - (0.12 + 0.43 * (1.5 * p.max() - 0.5)) * (1 - color))
    assert display.y.tolist() == [2, 0]
    negative = displays.DecisionSurfaceDisplay([0, 1], [0, 1], -np.ones((2, 2, 3)), X=[[0.5, 0.5]]).plot()
    np.testing.assert_allclose(np.asarray(negative.surface_.get_array())[0, 0, 0], 1 - 0.55)
    with pytest.raises(ValueError, match="y has class numbers from 0 to 3; integers from 0 to 2 are allowed"):
        displays.DecisionSurfaceDisplay.from_network(net, X, [0, 3], resolution=9)


def test_surface_of_estimators(pipeline, classifier):
    X, y = table()
    pandas = pytest.importorskip("pandas")
    for model, examples in ((classifier, X), (pipeline, pandas.DataFrame(X, columns=["length", "width"]))):
        display = displays.DecisionSurfaceDisplay.from_estimator(model, examples, y, resolution=9)
        point = np.array([[display.x0[3], display.x1[6]]])
        if model is pipeline:
            point = pandas.DataFrame(point, columns=["length", "width"])
            assert display.ax_.get_xlabel() == "length"
        np.testing.assert_allclose(display.response[6, 3], model.predict_proba(point)[0], atol=1e-12)
        assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["a", "b", "c"]
    binary = fastmlp.MLPClassifier((3,), solver="lbfgs", max_iter=5, random_state=0).fit(X, y == "b")
    display = displays.DecisionSurfaceDisplay.from_estimator(binary, X, y == "b", resolution=9)
    assert display.response.shape == (9, 9) and display.level == 0.5
    regressor = fastmlp.MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs", max_iter=5, random_state=0)
    display = displays.DecisionSurfaceDisplay.from_estimator(regressor.fit(X, X[:, 0]), X, X[:, 0], resolution=9)
    assert display.level is None and display.response.shape == (9, 9)
    display = displays.DecisionSurfaceDisplay.from_estimator(regressor, X, X[:, :1], resolution=9)
    assert display.points_.get_array().tolist() == X[:, 0].tolist()
    with pytest.raises(ValueError, match="the estimator has 2 targets; 1 is allowed"):
        displays.DecisionSurfaceDisplay.from_estimator(regressor.fit(X, X), X)


def legend_of(display):
    """Names of classes, and their colours."""
    legend = display.ax_.get_legend()
    colors = [matplotlib.colors.to_hex(handle.get_facecolor()[0]).upper() for handle in legend.legend_handles]
    return dict(zip([text.get_text() for text in legend.get_texts()], colors))


def test_surface_names_and_colours_classes():
    X = np.array([[-3.0, -3.0], [3.0, 3.0], [2.0, 3.0]])
    settings = {"resolution": 5}
    tanh = network([2, 5, 1], output="tanh")
    for T, names in (([-1, 1, 1], ["-1", "1"]), ([-1.0, 0.9, 1.0], ["-1", "> 0"]), ([1, 1, 1], ["1"])):
        display = displays.DecisionSurfaceDisplay.from_network(tanh, X, T, **settings)
        assert list(legend_of(display)) == names
    one = displays.DecisionSurfaceDisplay.from_network(network([2, 5, 1]), X, [0, 1, 1], **settings)
    two = network([2, 5, 2], output="softmax", loss="log_loss")
    two = displays.DecisionSurfaceDisplay.from_network(two, X, [0.0, 1.0, 1.0], **settings)
    assert legend_of(one) == legend_of(two) == {"0": displays.RED, "1": displays.BLUE}
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["length", "width"])
    display = displays.DecisionSurfaceDisplay.from_network(tanh, frame, **settings)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("length", "width")


def test_surface_refuses_labels_before_it_draws():
    X, softmax = np.zeros((2, 2)), network([2, 3, 3], output="softmax", loss="log_loss")
    of_two = "y has the type str32; targets, which are numbers, are allowed"
    for net, y, message in (
        (network([2, 3, 1]), ["a", "b"], of_two),
        (softmax, ["a", "b"], "y has the type str32; class numbers, integers from 0 to 2, are allowed"),
        (softmax, [0, 3], "y has class numbers from 0 to 3; integers from 0 to 2 are allowed"),
        (softmax, [0.5, 1], "y has class numbers from 0.5 to 1.0; integers from 0 to 2 are allowed"),
        (softmax, [0], r"y has shape \(1,\); \(2,\) is allowed"),
    ):
        ax = plt.figure().add_subplot()
        with pytest.raises(ValueError, match=message):
            displays.DecisionSurfaceDisplay.from_network(net, X, y, ax=ax)
        assert not ax.has_data()


def test_surface_refuses():
    net = network([2, 3, 1])
    with pytest.raises(ValueError, match="network has 3 inputs; 2 are allowed"):
        displays.DecisionSurfaceDisplay.from_network(network([3, 3, 1]), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"X has shape \(2, 3\); \(m, 2\) with m >= 1 is allowed"):
        displays.DecisionSurfaceDisplay.from_network(net, np.ones((2, 3)))
    with pytest.raises(ValueError, match="resolution is 1; an integer >= 2 is allowed"):
        displays.DecisionSurfaceDisplay.from_network(net, np.ones((2, 2)), resolution=1)
    with pytest.raises(ValueError, match="margin is -1; a number >= 0 is allowed"):
        displays.DecisionSurfaceDisplay.from_network(net, np.ones((2, 2)), margin=-1)


def test_saliency_as_images():
    saliency = np.random.default_rng(0).standard_normal((3, 4, 36))
    X = np.random.default_rng(1).random((3, 36))
    display = displays.SaliencyDisplay(saliency, X=X, outputs=[3, 0, 1]).plot(n_examples=2)
    drawn = display.image_.get_array()
    first = saliency[0, 3].reshape(6, 6)
    np.testing.assert_allclose(drawn[2:8, :6], first / np.abs(first).max())
    np.testing.assert_array_equal(display.axes_[0].images[0].get_array()[1:7, :6], X[0].reshape(6, 6))
    assert len(display.axes_) == 2 and texts(display.axes_[1]) == ["$h_{4}$", "$h_{1}$"]
    display = displays.SaliencyDisplay(saliency).plot()
    largest = np.abs(saliency[0]).max(axis=0).reshape(6, 6)
    np.testing.assert_allclose(display.image_.get_array()[1:7, :6], largest / largest.max())


def test_saliency_of_the_images_that_are_drawn():
    net = network([36, 4, 3], dtype="float64")
    X = np.random.default_rng(0).random((50, 36))
    outputs = np.arange(50) % 3
    display = displays.SaliencyDisplay.from_network(net, X, outputs=outputs, n_examples=5)
    assert display.saliency.shape == (5, 3, 36) and display.outputs.tolist() == [0, 1, 2, 0, 1]
    np.testing.assert_allclose(display.saliency, fastmlp.saliency(net, X)[:5])
    assert displays.SaliencyDisplay.from_network(net, X, image_shape=None).saliency.shape == (50, 3, 36)
    with pytest.raises(ValueError, match="outputs is .*; an integer from 0 to 2, or 50 of them, is allowed"):
        displays.SaliencyDisplay.from_network(net, X, outputs=outputs[:8])


def test_saliency_as_bars():
    saliency = np.array([[[1.0, -3.0, 0.5]], [[1.0, 1.0, -0.5]]])
    display = displays.SaliencyDisplay(saliency, feature_names=["u", "v", "w"]).plot(n_features=2)
    assert [bar.get_width() for bar in display.bars_] == [2.0, 1.0]
    display = displays.SaliencyDisplay(saliency[:1, 0]).plot()
    assert [bar.get_width() for bar in display.bars_] == [-3.0, 1.0, 0.5]
    with pytest.raises(ValueError, match="outputs is 1; an integer from 0 to 0, or 2 of them, is allowed"):
        displays.SaliencyDisplay(saliency, outputs=1).plot()
    with pytest.raises(ValueError, match=r"saliency has shape \(3,\)"):
        displays.SaliencyDisplay(np.ones(3)).plot()


def test_saliency_of_models(monkeypatch, pipeline):
    def saliency(model, X):  # of a network without hidden layers, of its linear outputs
        W = np.transpose((model.weights if isinstance(model, fastmlp.Network) else model.coefs_)[0])
        return np.broadcast_to(W, (len(X), *W.shape))

    monkeypatch.setattr(fastmlp, "saliency", saliency, raising=False)
    net = network([2, 3], output="identity")
    X = np.eye(2)
    display = displays.SaliencyDisplay.from_network(net, X)
    chosen = net.forward(X).argmax(axis=1)
    np.testing.assert_allclose(sorted(bar.get_width() for bar in display.bars_),
                               sorted(np.abs(net.weights[0].T[chosen]).mean(axis=0)))  # fmt: skip
    X, y = table()
    linear = fastmlp.MLPClassifier((), solver="lbfgs", max_iter=5, random_state=0).fit(X, y)
    display = displays.SaliencyDisplay.from_estimator(linear, X[:1], outputs=2)
    assert display.axes_[0].get_xlabel() == "saliency of c"
    assert [bar.get_width() for bar in display.bars_] == sorted(linear.coefs_[0][:, 2], key=lambda w: -abs(w))
    display = displays.SaliencyDisplay.from_estimator(linear, X)
    assert display.outputs.tolist() == linear.predict_proba(X).argmax(axis=1).tolist()
    binary = fastmlp.MLPClassifier((), solver="lbfgs", max_iter=5, random_state=0).fit(X, y == "a")
    assert displays.SaliencyDisplay.from_estimator(binary, X[:1]).axes_[0].get_xlabel() == "saliency of P(True)"


# ---- comparison ----------------------------------------------------------------------------------------------------


def compared():
    scores = {"network": (0.9, 0.94), "linear model": (0.8, 0.9), "nearest neighbours": (0.91, 0.91)}
    rows = [
        SimpleNamespace(name=name, scores=found, score=np.mean(found), spread=np.std(found), fit_seconds=10.0**-k,
                        predict_seconds=0.01)
        for k, (name, found) in enumerate(scores.items())
    ]  # fmt: skip
    verdict = "The network is ahead of the linear model, and level with nearest neighbours. " * 3
    return SimpleNamespace(rows=rows, metric="accuracy", verdict=verdict, network="network")


def test_baselines():
    comparison = compared()
    display = displays.BaselineDisplay(comparison).plot()
    left, right = display.axes_
    labels = left.get_yticklabels()
    assert [label.get_text() for label in labels] == ["network", "linear model", "nearest neighbours"]
    assert [label.get_fontweight() for label in labels] == ["bold", "normal", "normal"]
    assert [bar.get_width() for bar in display.bars_] == [1.0, 0.1, 0.01] and right.get_xscale() == "log"
    assert [bar.get_facecolor()[:3] == matplotlib.colors.to_rgb(displays.BLUE) for bar in display.bars_] == [1, 0, 0]
    assert texts(left) == [f"{row.score:.3f} \N{PLUS-MINUS SIGN} {row.spread:.3f}" for row in comparison.rows]
    centers = [container[0].get_xdata()[0] for container in left.containers]
    assert centers == [row.score for row in comparison.rows]
    assert left.get_xlabel() == "accuracy"
    assert display.figure_.get_suptitle().replace("\n", " ") == comparison.verdict.strip()


def test_baselines_in_narrow_axes():
    """Names and scores stand above the points, and the verdict, which would lie on the neighbours, is left out."""
    left, _ = displays.BaselineDisplay(compared()).plot(plt.subplots(3, 3, figsize=(9, 7))[1][0, 0]).axes_
    assert texts(left) == ["network: 0.920", "linear model: 0.850", "nearest neighbours: 0.910"]
    assert left.get_title(loc="left") == "" and not any(label.get_visible() for label in left.get_yticklabels())


def test_far_behind():
    """What only guesses is pointed to, so that the others are told apart; a single split has no spread."""
    comparison = compared()
    comparison.rows.insert(0, SimpleNamespace(name="guess", scores=(0.1,), score=0.1, spread=np.nan, fit_seconds=1e-3))
    left, _ = displays.BaselineDisplay(comparison).plot().axes_
    low, high = left.get_xlim()
    assert 0.7 < low < 0.8 and 0.94 < high < 1.1
    assert texts(left)[0] == "0.100" and left.texts[0].xy == (low, 0)
