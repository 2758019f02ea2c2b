"""Optimizer objects are settings: equality, repr, refusals."""

import copy
import math
import pickle

import pytest
from cases import refused

import fastmlp

MAKERS = {
    "GradientDescent": (fastmlp.GradientDescent, {"learning_rate": 0.25}),
    "SGD": (fastmlp.SGD, {"learning_rate": 0.25}),
    "Adam": (fastmlp.Adam, {"learning_rate": 0.25}),
    "LBFGS": (fastmlp.LBFGS, {}),
}
DEFAULTS = [
    (fastmlp.SGD(0.5), fastmlp.SGD(0.5, momentum=0.0, nesterov=False, weight_decay=0.0, max_gradient_norm=None)),
    (
        fastmlp.Adam(),
        fastmlp.Adam(1e-3, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0, max_gradient_norm=None),
    ),
]
CHANGES = [
    (fastmlp.SGD, "learning_rate", 0.5),
    (fastmlp.SGD, "momentum", 0.5),
    (fastmlp.SGD, "nesterov", True),
    (fastmlp.SGD, "weight_decay", 0.5),
    (fastmlp.SGD, "max_gradient_norm", 0.5),
    (fastmlp.Adam, "learning_rate", 0.5),
    (fastmlp.Adam, "beta_1", 0.5),
    (fastmlp.Adam, "beta_2", 0.5),
    (fastmlp.Adam, "epsilon", 0.5),
    (fastmlp.Adam, "weight_decay", 0.5),
    (fastmlp.Adam, "max_gradient_norm", 0.5),
    (fastmlp.GradientDescent, "learning_rate", 0.5),
]


@pytest.mark.parametrize(("short", "long"), DEFAULTS)
def test_defaults(short, long):
    assert short == long


@pytest.mark.parametrize(("make", "arguments"), MAKERS.values(), ids=MAKERS)
def test_equality(make, arguments):
    """Equal settings are equal objects; copies and pickles too; another class never is."""
    one = make(**arguments)
    assert one == make(**arguments) == copy.deepcopy(one) == pickle.loads(pickle.dumps(one))
    assert all(one != other(**more) for other, more in MAKERS.values() if other is not make)


@pytest.mark.parametrize(("make", "setting", "value"), CHANGES)
def test_settings(make, setting, value):
    """Each setting is an attribute, counts in equality and shows in the repr."""
    plain, changed = make(learning_rate=0.25), make(**{"learning_rate": 0.25, setting: value})
    assert getattr(changed, setting) == value
    assert plain != changed
    assert repr(changed).startswith(make.__name__) and str(value) in repr(changed)


@pytest.mark.parametrize(("make", "arguments"), MAKERS.values(), ids=MAKERS)
def test_training_leaves_settings_alone(make, arguments):
    one = make(**arguments)
    net = fastmlp.Network([2, 3, 1], random_state=0)
    net.train([[0.0, 1.0], [1.0, 0.0]], [0.0, 1.0], optimizer=one, epochs=2)
    assert one == make(**arguments)


@pytest.mark.parametrize(
    ("make", "setting", "values"),
    [
        (fastmlp.GradientDescent, "learning_rate", (-0.5, math.nan, math.inf, "fast")),
        (fastmlp.SGD, "learning_rate", (-0.5, math.nan, math.inf, "fast")),
        (fastmlp.Adam, "learning_rate", (-0.5, math.nan, math.inf, "fast")),
        (fastmlp.SGD, "momentum", (-0.5, 1.0, 1.5, math.nan)),
        (fastmlp.SGD, "nesterov", (2, "no")),
        (fastmlp.SGD, "weight_decay", (-0.5, math.nan)),
        (fastmlp.Adam, "weight_decay", (-0.5, math.nan)),
        (fastmlp.SGD, "max_gradient_norm", (0.0, -0.5, math.nan)),
        (fastmlp.Adam, "max_gradient_norm", (0.0, -0.5, math.nan)),
        (fastmlp.Adam, "beta_1", (-0.5, 1.0, 1.5, math.nan)),
        (fastmlp.Adam, "beta_2", (-0.5, 1.0, 1.5, math.nan)),
        (fastmlp.Adam, "epsilon", (0.0, -0.5, math.nan)),
    ],
)
def test_bad_setting(make, setting, values):
    """A ValueError that names the setting and the value found."""
    for value in values:
        with refused(setting, str(value)):
            make(**{"learning_rate": 0.25, setting: value})
