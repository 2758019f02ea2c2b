"""A network or an estimator as an ONNX model: the same predictions in other runtimes and languages."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import __version__
from fastmlp.network import Network
from fastmlp.persistence import whole_file

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8  # ONNX 1.12, of 2022: the models need nothing newer, and older runtimes read them
LARGEST = 2**31 - 2**20  # bytes of weights and biases: protobuf writes less than 2 GiB, with all that is around them


class _Graph:
    """Nodes, constants and outputs, as they are added; a value is known by its name."""

    def __init__(self, dtype: Any):
        from onnx import helper

        self.dtype = np.dtype(dtype)
        self.tensor_type = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.outputs: list[onnx.ValueInfoProto] = []

    def constant(self, name: str, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, self.dtype))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def output(self, name: str, tensor_type: int, *shape: int) -> str:
        """Make the last node's value an output of this name, before the outputs that there are."""
        from onnx import helper

        self.nodes[-1].output[0] = name
        self.outputs.insert(0, helper.make_tensor_value_info(name, tensor_type, ["m", *shape]))
        return name


def _softplus(graph: _Graph, z: str) -> str:
    """ln(1 + e^z) = max(z, 0) + ln(1 + u) with u = e^-|z|; ONNX Runtime has no Softplus in float64.

    What rounding takes from a small u in w = 1 + u is added to ln w.
    """
    if graph.dtype == np.float32:
        return graph.add("Softplus", z)
    one = graph.number("one", 1)
    u = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    w = graph.add("Add", u, one)
    lost = graph.add("Sub", u, graph.add("Sub", w, one))
    return graph.add("Add", graph.add("Relu", z), graph.add("Add", graph.add("Log", w), lost))


def _logistic_output(graph: _Graph, z: str) -> str:
    """1 / (1 + e^-z) = logistic(|z|) e^min(z, 0).

    ONNX Runtime's Sigmoid has an absolute error of an ulp of 1: small enough in hidden layers, but small probabilities
    would lose their digits.
    """
    likelier = graph.add("Sigmoid", graph.add("Abs", z))
    return graph.add("Mul", likelier, graph.add("Exp", graph.add("Min", z, graph.number("zero", 0))))


HIDDEN: dict[str, Callable[[_Graph, str], str]] = {
    "identity": lambda graph, z: z,
    "logistic": lambda graph, z: graph.add("Sigmoid", z),
    "tanh": lambda graph, z: graph.add("Tanh", z),
    "relu": lambda graph, z: graph.add("Relu", z),
    "softplus": _softplus,
}
OUTPUT: dict[str, Callable[[_Graph, str], str]] = {
    **HIDDEN,
    "logistic": _logistic_output,
    "softmax": lambda graph, z: graph.add("Softmax", z, axis=1),
    "exp": lambda graph, z: graph.add("Exp", z),
}


def _forward(
    graph: _Graph, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], activation: Any, output: Any
) -> str:
    """h_{W,b}(x) for every row of X (eq. 7), the value of the last node."""
    for name, f, known in (("activation", activation, HIDDEN), ("output", output, OUTPUT)):
        if not isinstance(f, str):
            raise ValueError(f"{name} is {f!r}, which ONNX has no operators for; {', '.join(known)} are allowed")
    size = sum(array.size for array in (*weights, *biases)) * graph.dtype.itemsize
    if size > LARGEST:
        raise ValueError(f"model has {size} bytes of weights and biases; an ONNX model holds at most {LARGEST}")
    a = "X"
    for l, (W, b) in enumerate(zip(weights, biases)):
        W_l = graph.constant(f"W{l}", W.astype(graph.dtype, copy=False))
        b_l = graph.constant(f"b{l}", b.astype(graph.dtype, copy=False))
        f = HIDDEN[activation] if l < len(weights) - 1 else OUTPUT[output]
        a = f(graph, graph.add("Gemm", a, W_l, b_l))
    return a


def _class_table(classes: np.ndarray) -> np.ndarray:
    """Classes in a dtype that ONNX has: integers as int64 where it holds them, strings as objects."""
    if classes.dtype.kind in "iu" and classes.dtype != np.uint64:
        return classes.astype(np.int64)
    if classes.dtype in ("bool", "uint64", "float16", "float32", "float64"):
        return classes
    if all(isinstance(c, str) for c in classes):
        return classes.astype(object)
    raise ValueError(f"classes_ have dtype {classes.dtype}; numbers and strings are allowed")


def _classify(graph: _Graph, model: Any, h: str, n_outputs: int) -> None:
    """The outputs "label" and "probabilities": what predict and predict_proba make of h."""
    from onnx import TensorProto

    if n_outputs == 1:
        graph.add("Concat", graph.add("Sub", graph.number("one", 1), h), h, axis=1)
    probabilities = graph.output("probabilities", graph.tensor_type, max(n_outputs, 2))
    if model._label_binarizer.y_type_.startswith("multilabel"):
        graph.add("Cast", graph.add("Greater", probabilities, graph.number("half", 0.5)), to=TensorProto.INT64)
        graph.output("label", TensorProto.INT64, n_outputs)
        return
    # where there was one class only, both columns of probabilities mean it
    classes = model.classes_ if len(model.classes_) > 1 else model.classes_.repeat(2)
    table = graph.constant("classes", _class_table(classes))
    graph.add("Gather", table, graph.add("ArgMax", probabilities, axis=1, keepdims=0))
    graph.output("label", graph.constants[table].data_type)


def to_onnx(model: Any, path: str | os.PathLike[str] | None = None) -> "onnx.ModelProto":
    """Write a network or a fitted estimator as an ONNX model; needs the extra `fastmlp[onnx]`.

    The model's input is "X", (m, n_in) for any m, in the dtype of the weights. Its outputs are what the predictions
    are called here:

    - `Network`: "h", (m, n_out), as `forward` gives it.
    - `MLPRegressor`: "y", as `predict` gives it, (m,) or (m, n_outputs).
    - `MLPClassifier`: "label", as `predict` gives it, with integers as int64; "probabilities", as `predict_proba` gives
      them, (m, n_classes).

    Parameters
    ----------
    model : Network, MLPClassifier or MLPRegressor
    path : str or path-like, optional
        The file that the model is written to as well.

    Returns
    -------
    onnx_model : onnx.ModelProto
        Of opset 17 (ONNX 1.12).

    Raises
    ------
    TypeError
        When the model is something else.
    NotFittedError
        When the estimator is not fitted.
    ValueError
        When the weights take 2 GiB or more, which no ONNX file holds; the classes are neither numbers nor strings; or
        the activation is one that a user has supplied.
    ImportError
        When onnx is not installed.

    Examples
    --------
    >>> import fastmlp
    >>> net = fastmlp.Network([4, 8, 3], output="softmax", loss="log_loss", random_state=0)
    >>> [node.op_type for node in fastmlp.to_onnx(net).graph.node]
    ['Gemm', 'Sigmoid', 'Gemm', 'Softmax']
    """
    try:
        from onnx import helper
    except ImportError as error:
        raise ImportError("to_onnx needs onnx: pip install 'fastmlp[onnx]'") from error
    if isinstance(model, Network):
        sizes, graph = model.sizes, _Graph(model.dtype)
        _forward(graph, model.weights, model.biases, model.activation, model.output)
        graph.output("h", graph.tensor_type, sizes[-1])
    else:
        from sklearn.utils.validation import check_is_fitted

        from fastmlp.estimators import MLPClassifier, MLPRegressor

        if not isinstance(model, (MLPClassifier, MLPRegressor)):
            raise TypeError(f"model is {type(model).__name__}; a Network, MLPClassifier or MLPRegressor is allowed")
        check_is_fitted(model)
        sizes, graph = model._sizes(), _Graph(model._dtype())
        h = _forward(graph, model.coefs_, model.intercepts_, model._f(), model.out_activation_)
        if isinstance(model, MLPClassifier):
            _classify(graph, model, h, sizes[-1])
        elif sizes[-1] == 1:
            graph.add("Squeeze", h, graph.constant("axes", np.array([1])))
            graph.output("y", graph.tensor_type)
        else:
            graph.output("y", graph.tensor_type, sizes[-1])
    X = helper.make_tensor_value_info("X", graph.tensor_type, ["m", sizes[0]])
    name = type(model).__name__
    onnx_model = helper.make_model(
        helper.make_graph(graph.nodes, name, [X], graph.outputs, list(graph.constants.values())),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fastmlp",
        producer_version=__version__,
    )
    if path is not None:
        with whole_file(path) as part:
            part.write_bytes(onnx_model.SerializeToString())
    return onnx_model
