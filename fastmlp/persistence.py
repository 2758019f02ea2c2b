"""Models and trainings in files: save, load, and checkpoints that a training is resumed from.

A file is in the safetensors format (https://github.com/huggingface/safetensors): arrays by name, and text. Nothing in
it is code, and nothing is executed when it is read. The text has these entries:

    format    "fastmlp"
    version   "1": of what is described here
    kind      "Network", "MLPClassifier", "MLPRegressor", "TableModel" or a checkpoint of one
    values    JSON: settings, counters, curves, the states of random generators
    digest    SHA-256 of all the rest, so that a damaged file is told from a sound one

Arrays are named weights.0, biases.0, weights.1, ... (n_in, n_out) and (n_out,); the optimizer's state
moments.0.weights.0, ...; in checkpoints the best weights so far best.weights.0, ..., and order, the examples' of a fit.
What is read is checked before it is used: the kernels trust shapes, and SciPy and NumPy the states they are given.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp import devices, optimizers
from fastmlp.network import Network
from fastmlp.optimizers import MOMENTS
from fastmlp.supplied import Activation, Loss, described, supplied
from fastmlp.training import check_every

FORMAT, VERSION = "fastmlp", "1"
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
NETWORK_SETTINGS = ("sizes", "activation", "output", "loss", "l2", "init", "dtype", "precision", "dropout")
PIECES = {"activation": Activation, "output": Activation, "loss": Loss}  # settings that users may supply
FUNCTION = "a function"  # in place of a setting that is one, where settings are compared
Arrays = dict[str, np.ndarray]
Values = dict[str, Any]


# ---- files ---------------------------------------------------------------------------------------------------------


def _digest(text: dict[str, str], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps([text[name] for name in ("format", "version", "kind", "values")]).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


def write(path: str | os.PathLike[str], kind: str, values: Values, arrays: Arrays) -> None:
    """Write a file, or leave the one that is there: it is replaced when the new one is whole and on the disk."""
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = {"format": FORMAT, "version": VERSION, "kind": kind, "values": json.dumps(values)}
    content = to_bytes(arrays, {**text, "digest": _digest(text, arrays)})
    with whole_file(path) as part, open(part, "wb") as file:
        file.write(content)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place once it is on the disk, or is deleted after an error."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():  # /dev/null, or a named pipe
        yield target
        return
    part = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        _synchronize(part, os.O_RDWR)
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        with contextlib.suppress(OSError):  # so that the new name outlasts a power failure; not all file systems can
            _synchronize(target.parent, os.O_RDONLY | os.O_DIRECTORY)


def _synchronize(path: Path, flags: int) -> None:
    """Wait until a file or folder is on the disk."""
    number = os.open(path, flags)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read(path: str | os.PathLike[str]) -> tuple[str, Values, Arrays]:
    """Kind, values and arrays of a file.

    Raises
    ------
    OSError
        When there is no such file, or it cannot be read.
    ValueError
        When it is not a file of fastmlp's, is damaged, or of a later version.
    """
    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)  # not the number of an open file, which would be closed
    open(path, "rb").close()  # names what is wrong with a file that cannot be opened
    try:
        with safe_open(path, framework="numpy") as file:
            text = file.metadata() or {}
            if text.get("format") != FORMAT:
                raise ValueError(f"{os.fspath(path)} was not written by fastmlp")
            if text.get("version") != VERSION:
                found = text.get("version")
                raise ValueError(
                    f"{os.fspath(path)} is of version {found} of fastmlp's format; version {VERSION} is known here: "
                    "try a newer fastmlp"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if text["digest"] != _digest(text, arrays):
                raise ValueError(f"{os.fspath(path)} is damaged: what it holds does not match its digest")
            return text["kind"], json.loads(text["values"]), arrays
    except (SafetensorError, KeyError, TypeError, UnicodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is damaged, or was not written by fastmlp: {error}") from None


@contextlib.contextmanager
def wanting(path: Any, what: str) -> Iterator[None]:
    """Say of which file it is that something it should have is missing or wrong."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{os.fspath(path)} lacks what {what} needs, or has it wrong: {error!r}") from error


# ---- values that JSON does not have --------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """NumPy's numbers, tuples and arrays as JSON has them."""
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _arrays_again(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"array", "dtype"}:
            return np.array(value["array"], value["dtype"])
        return {name: _arrays_again(item) for name, item in value.items()}
    return value


def rng_values(rng: Any) -> Values:
    """The state of a Generator or RandomState, for JSON."""
    legacy = isinstance(rng, np.random.RandomState)
    state = rng.get_state(legacy=False) if legacy else rng.bit_generator.state
    _check_bit_generator(state)
    return {"legacy": legacy, "state": _plain(state)}


def _check_bit_generator(state: Any) -> None:
    """Refuse what is not one of NumPy's own, or whose place in its buffer is not in it: NumPy does not look."""
    name = state["bit_generator"]
    if name not in BIT_GENERATORS:
        raise ValueError(f"random_state has the bit generator {name!r}; {', '.join(BIT_GENERATORS)} are allowed")
    place = state["state"]["pos"] if name == "MT19937" else state.get("buffer_pos", 0)
    if not 0 <= place <= (624 if name == "MT19937" else 4):
        raise ValueError(f"the state of the bit generator {name} is not valid")


def rng_from(values: Values) -> Any:
    """The Generator or RandomState that had this state."""
    state = _arrays_again(values["state"])
    _check_bit_generator(state)
    bit_generator = getattr(np.random, state["bit_generator"])()
    if not values["legacy"]:
        bit_generator.state = state
        return np.random.Generator(bit_generator)
    rng = np.random.RandomState(bit_generator)
    rng.set_state(state)
    return rng


def set_rng(rng: Any, values: Values) -> Any:
    """Give a generator, which others may share, a state; returns it, or a new one where it is of another kind."""
    found = rng_from(values)
    if isinstance(rng, np.random.RandomState) and isinstance(found, np.random.RandomState):
        state = found.get_state(legacy=False)
        if rng.get_state(legacy=False)["bit_generator"] == state["bit_generator"]:
            rng.set_state(state)
            return rng
    elif isinstance(rng, np.random.Generator) and isinstance(found, np.random.Generator):
        if type(rng.bit_generator) is type(found.bit_generator):
            rng.bit_generator.state = found.bit_generator.state
            return rng
    return found


# ---- networks ------------------------------------------------------------------------------------------------------


def layer_arrays(parameters: Any, prefix: str = "") -> Arrays:
    """Weights and biases, given as a pair, by name."""
    weights, biases = parameters
    named = {f"{prefix}weights.{l}": W for l, W in enumerate(weights)}
    return named | {f"{prefix}biases.{l}": b for l, b in enumerate(biases)}


def moment_arrays(moments: Any, prefix: str = "") -> Arrays:
    """An optimizer's state by name."""
    return {
        name: array
        for n, moment in enumerate(moments)
        for name, array in layer_arrays(moment, f"{prefix}moments.{n}.").items()
    }


def layers_from(
    arrays: Arrays, sizes: Any, prefix: str = "", dtypes: Any = ("float32", "float64")
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The weights and biases that `layer_arrays` has named, of a network of these sizes; finite."""
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    for l, (n_in, n_out) in enumerate(zip(sizes, sizes[1:], strict=False)):
        for kind, shape, found in (("weights", (n_in, n_out), weights), ("biases", (n_out,), biases)):
            array = arrays[f"{prefix}{kind}.{l}"]
            if array.shape != shape or array.dtype.name not in dtypes or not np.isfinite(array).all():
                raise ValueError(f"{prefix}{kind}.{l} is {array.dtype} {array.shape}; finite floats {shape} are needed")
            found.append(array)
    return weights, biases


def moments_from(
    arrays: Arrays, sizes: Any, count: int, prefix: str = "", dtypes: Any = ("float32", "float64")
) -> list[Any]:
    """The optimizer's state that `moment_arrays` has named, of so many moments."""
    return [layers_from(arrays, sizes, f"{prefix}moments.{n}.", dtypes) for n in range(count)]


def network_settings(network: Network) -> Values:
    """The settings of a network that its training depends on, for JSON."""
    found = {name: getattr(network, name) for name in NETWORK_SETTINGS}
    return {name: _plain(value) if name not in PIECES else comparable(value, name) for name, value in found.items()}


def optimizer_values(optimizer: Any) -> Values | None:
    """An optimizer's class and settings, for JSON; a function is named as such."""
    if optimizer is None:
        return None
    named = {field.name: getattr(optimizer, field.name) for field in fields(optimizer)}
    settings = {name: FUNCTION if callable(value) else _plain(value) for name, value in named.items()}
    return {"name": type(optimizer).__name__, **settings}


def training_state(network: Network, prefix: str = "") -> tuple[Values, Arrays]:
    """What training changes in a network, but for the generator."""
    trainer = network._trainer
    values = {"optimizer": optimizer_values(network._optimizer), "updates": network._updates, "epochs": network._epochs}
    arrays = layer_arrays(trainer.parameters(), prefix) | moment_arrays(trainer.moments(), prefix)
    return values, arrays


def read_training_state(
    network: Network, values: Values, arrays: Arrays, optimizer: Any, prefix: str = ""
) -> tuple[Any, ...]:
    """What `training_state` has found, which was `optimizer`'s, checked; for `put_training_state`."""
    if values["optimizer"] is None:
        optimizer = None
    count = 0 if optimizer is None else optimizers.moments(optimizer)
    parameters = layers_from(arrays, network.sizes, prefix, (network.dtype,))
    moments = moments_from(arrays, network.sizes, count, prefix, (network.dtype,))
    return parameters, moments, optimizer, *_counts(values)


def _counts(values: Values) -> tuple[int, int]:
    updates, epochs = values["updates"], values["epochs"]
    if not (isinstance(updates, int) and isinstance(epochs, int) and updates >= 0 and epochs >= 0):
        raise ValueError(f"updates is {updates!r} and epochs is {epochs!r}; integers >= 0 are needed")
    return updates, epochs


def put_training_state(network: Network, state: tuple[Any, ...]) -> None:
    """Go to a state that `read_training_state` has read."""
    parameters, moments, network._optimizer, network._updates, network._epochs = state
    network._trainer.set_parameters(*parameters)
    network._trainer.set_moments(moments)


def network_values(network: Network) -> tuple[Values, Arrays]:
    """All of a network."""
    with network._lock:
        state, arrays = training_state(network)
        values = {**network_settings(network), "device": network._wanted_device}
        return {**values, "state": state, "rng": rng_values(network._rng)}, arrays


def _pack_network(network: Network) -> tuple[Values, Arrays]:
    values, arrays = network_values(network)
    optimizer = values["state"]["optimizer"]
    if optimizer is not None and FUNCTION in optimizer.values():
        _warn_of_function("learning_rate", "the optimizer starts anew when a loaded network is trained")
    return values, arrays


def _with_pieces(values: Values, pieces: Values) -> Values:
    """Settings with what a user has supplied, which a file can only describe, in its place."""
    wanted = {n for n in PIECES if isinstance(values.get(n), dict) and "supplied" in values[n]}
    for name in pieces:
        if name not in wanted:
            raise ValueError(f"{name} is given and the model has {values.get(name)!r}; it must not be given")
    result = dict(values)
    for name in wanted:
        was = values[name]
        if name not in pieces:
            raise ValueError(
                f"its {name} is {was['name']!r}, which was supplied as functions: a file without code cannot hold "
                f"them; give them again, as load(path, {name}=...)"
            )
        piece = supplied(PIECES[name], pieces[name])
        if piece is None:
            raise ValueError(f"{name} is {pieces[name]!r}; an object with functions f and df is allowed")
        if described(piece)["values"] != was["values"]:
            raise ValueError(f"{name} is {piece!r}, whose f or df has other values than that of the model")
        result[name] = pieces[name]
    return result


def _unpack_network(values: Values, arrays: Arrays, pieces: Values) -> Network:
    values = _with_pieces(values, pieces)
    device = values["device"]
    problem = devices.cuda_problem() if device == "cuda" else None
    if problem is not None:
        warnings.warn(f"a network of a GPU goes on on the CPU: {problem.message}", RuntimeWarning, stacklevel=4)
        device = "cpu"
    settings = {name: values[name] for name in NETWORK_SETTINGS}
    settings["precision"] = devices.kept_precision(settings["precision"], device, stacklevel=4)
    network = Network(**settings, device=device, random_state=0)
    named, optimizer = values["state"]["optimizer"], None
    if named is not None and FUNCTION not in named.values():
        allowed = ("GradientDescent", "SGD", "Adam", "LBFGS")
        if named["name"] not in allowed:
            raise ValueError(f"the optimizer is {named['name']!r}; {', '.join(allowed)} are allowed")
        settings = {name: value for name, value in named.items() if name != "name"}
        optimizer = getattr(optimizers, named["name"])(**settings)
    state, rng = read_training_state(network, values["state"], arrays, optimizer), rng_from(values["rng"])
    put_training_state(network, state)
    network._rng = rng
    return network


def _unpack_checkpoint(values: Values, arrays: Arrays, pieces: Values) -> Network:
    """The network that `train` returns when it finds this checkpoint: with patience that of the best epoch."""
    own, best = values["network"], values["best"]
    if best is None:
        return _unpack_network(own, arrays, pieces)
    arrays = {name[len("best.") :]: array for name, array in arrays.items() if name.startswith("best.")}
    return _unpack_network({**own, "state": best["state"]}, arrays, pieces)


def _warn_of_function(name: str, consequence: str) -> None:
    message = f"{name} is a function, which a file without code cannot hold: {consequence}"
    warnings.warn(message, UserWarning, stacklevel=4)


# ---- estimators ----------------------------------------------------------------------------------------------------

COUNTERS = ("n_iter_", "t_", "_no_improvement_count")
CURVES = ("loss_curve_", "validation_scores_", "validation_curve_")
LOSSES = ("loss_", "best_loss_", "best_validation_score_")
SHAPE = ("n_layers_", "n_outputs_", "n_features_in_", "out_activation_", "feature_names_in_", "classes_")


def parameter_values(estimator: Any) -> Values:
    """An estimator's parameters, for JSON; tuples, dictionaries and generators are marked as such."""
    found = estimator.get_params(deep=False)
    return {name: _parameter(value) if name not in PIECES else comparable(value, name) for name, value in found.items()}


def comparable(value: Any, name: str = "") -> Any:
    """A parameter in a form that is equal for parameters that mean the same."""
    piece = supplied(PIECES[name], value) if name in PIECES else None
    if piece is not None:
        return described(piece)
    if isinstance(value, np.random.RandomState):
        return "a RandomState"
    if isinstance(value, dict):
        return {str(key): comparable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [comparable(item) for item in value]
    return FUNCTION if callable(value) else _plain(value)


def _parameter(value: Any) -> Any:
    if isinstance(value, np.random.RandomState):
        return {"rng": rng_values(value)}
    if isinstance(value, tuple):
        return {"tuple": _plain(value)}
    if isinstance(value, dict):
        return {"pairs": [_plain(pair) for pair in value.items()]}
    return FUNCTION if callable(value) else _plain(value)


def _parameter_from(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "rng" in value:
        return rng_from(value["rng"])
    if "tuple" in value:
        return tuple(value["tuple"])
    return dict(value["pairs"]) if "pairs" in value else _arrays_again(value)


def fitted_values(estimator: Any) -> Values:
    """The counters and curves of a fit, as far as there are any, for JSON."""
    names = (*COUNTERS, *CURVES, *LOSSES)
    return {name: _plain(getattr(estimator, name)) for name in names if hasattr(estimator, name)}


def put_fitted(estimator: Any, values: Values) -> None:
    """Set the counters and curves that `fitted_values` has found."""
    for name in (*COUNTERS, *CURVES, *LOSSES):
        if name in values:
            value = values[name]
            right = isinstance(value, list) if name in CURVES else isinstance(value, (int, float))
            if not (right or value is None):
                raise ValueError(f"{name} is {type(value).__name__}")
            setattr(estimator, name, value)


def _pack_estimator(estimator: Any) -> tuple[Values, Arrays]:
    parameters = parameter_values(estimator)
    for name, value in list(parameters.items()):
        if value == FUNCTION:
            _warn_of_function(name, "a loaded estimator has the default in its place")
            del parameters[name]
    values: Values = {"parameters": parameters}
    arrays: Arrays = {}
    if hasattr(estimator, "coefs_"):
        values["fitted"] = fitted_values(estimator)
        values["shape"] = {name: _plain(getattr(estimator, name)) for name in SHAPE if hasattr(estimator, name)}
        values["sizes"] = list(estimator._sizes())
        arrays = layer_arrays((estimator.coefs_, estimator.intercepts_))
        binarizer, state = getattr(estimator, "_label_binarizer", None), estimator._optimizer
        if binarizer is not None:
            values["targets"] = {"y_type": binarizer.y_type_, "sparse": bool(binarizer.sparse_input_)}
        if state is not None:
            values["optimizer"] = state.values()
            arrays |= moment_arrays(state.moments())
    try:
        json.dumps(values)
    except TypeError as error:
        raise TypeError(f"{type(estimator).__name__} holds what a file without code cannot: {error}") from None
    return values, arrays


def _unpack_estimator(kind: str, values: Values, arrays: Arrays, pieces: Values) -> Any:
    import fastmlp.estimators as estimators
    from fastmlp.fitting import OptimizerState

    parameters = _with_pieces(values["parameters"], pieces)
    parameters = {name: v if name in PIECES else _parameter_from(v) for name, v in parameters.items()}
    estimator = getattr(estimators, kind)(**parameters)
    if "fitted" not in values:
        return estimator
    for name in SHAPE:
        if name in values["shape"]:
            setattr(estimator, name, _arrays_again(values["shape"][name]))
    put_fitted(estimator, values["fitted"])
    sizes = values["sizes"]
    estimator.coefs_, estimator.intercepts_ = layers_from(arrays, sizes)
    estimator._sizes()  # refuses weights that are not of n_features_in_
    if "targets" in values:
        from sklearn.preprocessing import LabelBinarizer

        binarizer = estimator._label_binarizer = LabelBinarizer()
        binarizer.classes_ = estimator.classes_
        binarizer.y_type_, binarizer.sparse_input_ = values["targets"]["y_type"], values["targets"]["sparse"]
    estimator._optimizer = None
    if "optimizer" in values:
        moments = moments_from(arrays, sizes, MOMENTS[values["optimizer"]["settings"]["rule"]])
        estimator._optimizer = OptimizerState.of(values["optimizer"], moments)
    return estimator


# ---- save and load -------------------------------------------------------------------------------------------------


def pack(model: Any) -> tuple[str, Values, Arrays]:
    """Kind, values and arrays of a model; see `save`."""
    kind = type(model).__name__
    if type(model) is Network:
        return kind, *_pack_network(model)
    if type(model).__module__ == "fastmlp.estimators":
        return kind, *_pack_estimator(model)
    if type(model).__module__ == "fastmlp.tables":
        return kind, *model.pack()
    raise TypeError(f"model is {kind}; Network, MLPClassifier and MLPRegressor are allowed")


def unpack(kind: str, values: Values, arrays: Arrays, pieces: Values) -> Any:
    """The model that has been packed; see `load`. pieces: what users supply, by the names of the settings."""
    try:
        if kind == "Network":
            return _unpack_network(values, arrays, pieces)
        if kind == "Network checkpoint":
            return _unpack_checkpoint(values, arrays, pieces)
        if kind in ("MLPClassifier", "MLPRegressor"):
            return _unpack_estimator(kind, values, arrays, pieces)
        if kind == "TableModel":
            from fastmlp.tables import TableModel

            return TableModel.unpack(values, arrays, pieces)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"what a {kind} needs is missing or wrong: {error!r}") from error
    if kind.endswith(" checkpoint"):
        raise ValueError(f"it is a {kind}; pass it to fit as checkpoint=")
    raise ValueError(f"it holds a {kind}, which this fastmlp does not know")


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Write a model to a file, in one piece or not at all: a file that is there is replaced when the new one is whole.

    The file has the weights, the settings, the optimizer's state and, of a Network, that of the random generator, so
    that training goes on with the same bits after `load`. It is a safetensors file without code; `fastmlp.persistence`
    says what is in it. A setting that is a function (a schedule, a scorer) is left out, with a warning; an
    activation or a loss of your own is given again to `load`.

    Parameters
    ----------
    model : Network, MLPClassifier, MLPRegressor, or the TableModel of the command line
    path : path-like

    Raises
    ------
    TypeError
        When the model is something else, or holds what a file cannot.
    OSError
        When the file cannot be written; one that was there is left as it was.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastmlp
    >>> net = fastmlp.Network([4, 8, 3], random_state=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.fastmlp")
    >>> fastmlp.save(net, path)
    >>> X = np.ones((5, 4))
    >>> bool((fastmlp.load(path).forward(X) == net.forward(X)).all())
    True
    """
    write(path, *pack(model))


def load(path: str | os.PathLike[str], **pieces: Any) -> Any:
    """The model that `save` has written to a file, or the network whose training has left a checkpoint there.

    Nothing in the file is executed. A network of a GPU comes back on the CPU, with a warning, where there is no GPU.

    Parameters
    ----------
    path : path-like
    activation, output, loss : Activation, Activation, Loss
        What was supplied as functions when the model was made, for a file holds no code; only where it was.

    Returns
    -------
    model : Network, MLPClassifier, MLPRegressor or TableModel

    Raises
    ------
    OSError
        When there is no such file, or it cannot be read.
    ValueError
        When it was not written by `save`, is damaged, or of a later version of the format; or a supplied function is
        not given, or another one.

    Examples
    --------
    >>> import math, os, tempfile
    >>> import fastmlp
    >>> sine = fastmlp.Activation(math.sin, math.cos)
    >>> path = os.path.join(tempfile.mkdtemp(), "net.fastmlp")
    >>> fastmlp.save(fastmlp.Network([4, 8, 3], activation=sine, random_state=0), path)
    >>> fastmlp.load(path, activation=sine)
    Network([4, 8, 3], activation=Activation('sin'), output='logistic', loss='squared_error')
    """
    for name in pieces:
        if name not in PIECES:
            raise TypeError(f"load() got an unexpected keyword argument {name!r}; {', '.join(PIECES)} are allowed")
    packed = read(path)
    try:
        return unpack(*packed, pieces)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} cannot be loaded: {error}") from error


# ---- checkpoints ---------------------------------------------------------------------------------------------------


class Checkpoint:
    """The file that a training is written to after every few epochs, and resumed from.

    Parameters
    ----------
    path : path-like
    every : int >= 1
        Epochs from one writing to the next.
    kind : str
        Of what is trained.
    run : dict
        What the training depends on; a file of another run is refused.

    Raises
    ------
    ValueError
        When `every` or `path` is wrong.
    """

    def __init__(self, path: Any, every: Any, kind: str, run: Values):
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"checkpoint is {path!r}; None or the path of a file is allowed")
        check_every(every)
        self.path, self.every = Path(os.path.realpath(path)), int(every)
        if self.path.is_dir() or not self.path.parent.is_dir():
            reason = "a folder" if self.path.is_dir() else "in no folder that there is"
            raise ValueError(f"checkpoint is {os.fspath(path)!r}, {reason}; the path of a file is allowed")
        if not os.access(self.path.parent, os.W_OK):
            raise ValueError(f"checkpoint is {os.fspath(path)!r}; the folder cannot be written to")
        self.kind, self.run = f"{kind} checkpoint", json.loads(json.dumps(_plain(run)))
        own = re.compile(re.escape(f".{self.path.name}.") + r"\d+-\d+\.part")
        for left in self.path.parent.iterdir():
            if own.fullmatch(left.name):  # by a process that was killed
                left.unlink(missing_ok=True)

    def read(self) -> tuple[Values, Arrays] | None:
        """What was written last, by a run like this one; None when there is nothing yet.

        Raises
        ------
        ValueError
            When the file is damaged, or of another run.
        """
        if not self.path.exists():
            return None
        kind, values, arrays = read(self.path)
        if kind != self.kind:
            raise ValueError(f"{self.path} is a {kind}, not a {self.kind}; take another file")
        found, own = values["run"], self.run
        names = [*own, *(name for name in found if name not in own)]
        other = [f"{n} was {found.get(n)} and is {own.get(n)}" for n in names if found.get(n) != own.get(n)]
        if other:
            raise ValueError(
                f"{self.path} is a checkpoint of another run: {'; '.join(other)}. Take another file, or the settings "
                "and data that it was written with"
            )
        return values, arrays

    def write(self, values: Values, arrays: Arrays) -> None:
        """Replace the file; a disk that is full, or gone, is warned of, and the training goes on."""
        try:
            write(self.path, self.kind, {**_plain(values), "run": self.run}, arrays)
        except OSError as error:
            warnings.warn(
                f"the checkpoint {self.path} could not be written ({error.strerror or error}); training goes on, and "
                "the one written before stands",
                RuntimeWarning,
                stacklevel=2,
            )
