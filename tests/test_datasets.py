"""Fashion-MNIST: found, checked, and refused when it is not what was published."""

import gzip
import hashlib
import importlib.util
import struct

import numpy as np
import pytest
import sklearn.datasets

from fastmlp import datasets


def made_up(count, seed):
    """The contents of a file of images and of one of labels."""
    r = np.random.default_rng(seed)
    images, labels = r.integers(0, 256, (count, 784), np.uint8), r.integers(0, 10, count, np.uint8)
    files = (
        struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes(),
        struct.pack(">ii", 2049, count) + labels.tobytes(),
    )
    return images, labels, files


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Sixty and ten images as if they were the published ones; no package of Debian's, no variable."""
    train, test = made_up(60, 0), made_up(10, 1)
    contents = dict(zip(datasets.FILES, (*train[2], *test[2]), strict=True))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(datasets, "FILES", hashes)
    monkeypatch.setattr(datasets, "DEBIAN", tmp_path / "absent")
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    return (*train[:2], *test[:2]), contents


def assert_same(found, expected):
    for array, other in zip(found, expected, strict=True):
        assert array.dtype == np.uint8 and array.flags.writeable
        np.testing.assert_array_equal(array, other)


def test_folders(published, tmp_path, monkeypatch):
    """Plain and gzipped files; the argument comes before the variable, the variable before Debian's package."""
    expected, contents = published
    for folder, suffix, pack in (("plain", "", bytes), ("packed", ".gz", gzip.compress)):
        (tmp_path / folder).mkdir()
        for name, content in contents.items():
            (tmp_path / folder / f"{name}{suffix}").write_bytes(pack(content))
        assert_same(datasets.load_fashion_mnist(tmp_path / folder), expected)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(datasets, "DEBIAN", tmp_path / "packed")
    assert_same(datasets.load_fashion_mnist(), expected)
    monkeypatch.setenv(datasets.VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=r"empty has no train-images-idx3-ubyte"):
        datasets.load_fashion_mnist()
    assert_same(datasets.load_fashion_mnist(str(tmp_path / "plain")), expected)


@pytest.mark.parametrize("parser", ["auto", "liac-arff"])
def test_openml(published, monkeypatch, parser):
    """OpenML's copy, floats and strings, becomes the published bytes."""
    (X, y, X_test, y_test), _ = published
    asked = []

    def fetch_openml(name, **options):
        asked.append((name, options))
        return np.vstack([X, X_test]).astype(float), np.concatenate([y, y_test]).astype(str).astype(object)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch_openml)
    monkeypatch.setattr(datasets, "TRAINING_EXAMPLES", 60)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: parser == "auto" or None)
    assert_same(datasets.load_fashion_mnist(), (X, y, X_test, y_test))
    assert asked == [("Fashion-MNIST", {"version": 1, "as_frame": False, "return_X_y": True, "parser": parser})]


def test_damaged_files_are_refused(published, tmp_path):
    _, contents = published
    name = "t10k-labels-idx1-ubyte"
    for other, content in contents.items():
        (tmp_path / other).write_bytes(content)
    (tmp_path / name).write_bytes(contents[name][:-1] + b"\x0b")
    with pytest.raises(ValueError, match=rf"{name} has the SHA-256"):
        datasets.load_fashion_mnist(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(contents[name])[:-9])
    with pytest.raises(ValueError, match="damaged"):
        datasets.load_fashion_mnist(tmp_path)
    packed = bytearray(gzip.compress(contents[name]))
    packed[len(packed) // 2] ^= 255
    (tmp_path / f"{name}.gz").write_bytes(packed)
    with pytest.raises(ValueError, match="damaged|SHA-256"):
        datasets.load_fashion_mnist(tmp_path)


@pytest.mark.skipif(not datasets.DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_published_files(monkeypatch):
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    data = datasets.load_fashion_mnist()
    assert data.X_train.shape == (60000, 784) and data.X_test.shape == (10000, 784)
    assert all(array.dtype == np.uint8 for array in data)
    assert np.bincount(data.y_train).tolist() == [6000] * 10 and np.bincount(data.y_test).tolist() == [1000] * 10
    assert data.classes[data.y_train[0]] == "Ankle boot" and len(data.classes) == 10
