"""The documentation is true and complete: examples give what they show; every public name says what it takes."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re
import warnings

import pytest

import fastmlp

MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(fastmlp.__path__, "fastmlp.") if not name.startswith("fastmlp.cuda")
)
SKIPPED = {"fastmlp.__main__"}
NEEDS = {"fastmlp.onnx_export": "onnx", "fastmlp.displays": "matplotlib"}


def public():
    """(name, object) of each public function, class, and method or property of a public class."""
    for name in fastmlp.__all__:
        value = getattr(fastmlp, name)
        if inspect.ismodule(value):
            yield from ((f"{name}.{inner}", getattr(value, inner)) for inner in value.__all__)
        else:
            yield name, value


def methods(thing):
    for name, value in vars(thing).items():
        if isinstance(value, (classmethod, staticmethod)):
            value = value.__func__
        if not name.startswith("_") and inspect.isfunction(value):
            yield name, value


def parameters(function):
    """The names of a function's parameters, but for self and catch-alls that are told of as such."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.name not in ("self", "cls") and p.kind not in kinds]


def described(text, name):
    """Whether a line of a numpydoc section begins with the name, alone or among others."""
    return re.search(rf"^\s*(\w+, )*\*{{0,2}}{name}(, \*{{0,2}}\w+)*( :|$)", text, re.M) is not None


@pytest.mark.parametrize("module", [name for name in MODULES if name not in SKIPPED])
def test_examples_give_what_they_show(module):
    if module in NEEDS:
        pytest.importorskip(NEEDS[module])
    if module == "fastmlp.displays":
        import matplotlib

        matplotlib.use("Agg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = doctest.testmod(importlib.import_module(module))
    assert found.failed == 0


def test_public_names_are_documented():
    """A docstring for all; a line for each parameter; what a function returns; an example of each top-level name."""
    missing = []
    for name, value in public():
        text = inspect.getdoc(value) or ""
        if not text:
            missing.append(name)
            continue
        own = [*parameters(value)] if not isinstance(value, type) or not issubclass(value, Exception) else []
        missing += [f"{name}: {parameter}" for parameter in own if not described(text, parameter)]
        if inspect.isfunction(value) and "Returns" not in text and value.__annotations__.get("return") is not None:
            missing += [f"{name}: what it returns"] if value.__annotations__["return"] != "None" else []
        if isinstance(value, type):
            for method, function in methods(value):
                documentation = inspect.getdoc(function) or ""
                if not documentation:
                    missing.append(f"{name}.{method}")
                elif "Parameters\n" in documentation:
                    lacking = [p for p in parameters(function) if not described(documentation, p)]
                    missing += [f"{name}.{method}: {p}" for p in lacking]
    assert missing == []


def test_examples_of_the_names_that_people_begin_with():
    without = {"DivergenceError", "History", "show_versions", "warmup", "datasets", "displays"}
    names = [name for name in fastmlp.__all__ if name not in without]
    assert [name for name in names if ">>>" not in inspect.getdoc(getattr(fastmlp, name))] == []


def test_readmes_examples_run(tmp_path, monkeypatch):
    """Every Python block, one after another, as a reader would; but for the GPU's."""
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    readme = (pathlib.Path(fastmlp.__file__).parents[1] / "README.md").read_text()
    blocks = [block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if 'device="cuda"' not in block]
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in blocks:
            exec(block, names)
    assert len(blocks) >= 10 and names["worse"].shape == (30,) and names["slopes"].shape == (569, 1, 30)
    assert len(names["comparison"]) == 7


def test_the_house_is_described():
    """CONTRIBUTING's table has every module and every benchmark; README every public name of a kind people look for."""
    root = pathlib.Path(fastmlp.__file__).parents[1]
    contributing, readme = (root / "CONTRIBUTING.md").read_text(), (root / "README.md").read_text()
    for path in (root / "fastmlp").rglob("*.py"):
        named = path.name if path.parent.name == "fastmlp" else f"{path.parent.name}/{path.name}"
        assert path.name == "__init__.py" or f"`{named}`" in contributing, named
    for path in (root / "benchmarks").glob("*.py"):
        assert path.name == "__init__.py" or f"`{path.name}`" in contributing, path.name
    for name in fastmlp.__all__:
        assert name in readme, name
