"""Data to try networks on that are too large to come with a package."""

import gzip
import hashlib
import importlib.util
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

__all__ = ["FashionMNIST", "load_fashion_mnist"]

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
VARIABLE = "FASTMLP_FASHION_MNIST"

TRAINING_EXAMPLES = 60000  # the first ones of OpenML's copy

# SHA-256 of each file, decompressed.
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


class FashionMNIST(NamedTuple):
    """Images of clothes, a row each, in ten classes; classes[y] names them.

    Parameters
    ----------
    X_train, X_test : ndarray of uint8, (60000, 784) and (10000, 784)
        Grey levels, 0 ... 255, of 28 x 28 pixels, row by row.
    y_train, y_test : ndarray of uint8, (60000,) and (10000,)
        Their classes, 0 ... 9.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes 0 ... 9."""
        return ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def load_fashion_mnist(folder: str | os.PathLike[str] | None = None) -> FashionMNIST:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 images of 28 x 28 grey levels.

    The four files, gzipped or not, are taken from `folder`; when that is None from the folder that the environment
    variable FASTMLP_FASHION_MNIST names, or from Debian's package dataset-fashion-mnist; when there is neither, the
    data are fetched from OpenML through scikit-learn, which keeps them in its own folder.

    Parameters
    ----------
    folder : path-like, optional
        Where train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte are,
        each with or without ".gz".

    Returns
    -------
    data : FashionMNIST
        X_train (60000, 784), y_train (60000,), X_test (10000, 784) and y_test (10000,), a named tuple, all uint8.

    Raises
    ------
    FileNotFoundError
        If a file is missing in the folder that was named.
    ValueError
        If the bytes are not those of the published files.
    OSError
        If the data had to be fetched and could not be.
    """
    named = folder if folder is not None else os.environ.get(VARIABLE) or None
    if named is not None or DEBIAN.is_dir():
        contents = _read(DEBIAN if named is None else Path(named))
    else:
        contents = _fetch()
    arrays = []
    for (name, expected), content in zip(FILES.items(), contents, strict=True):
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise ValueError(f"{name} has the SHA-256 {found}; {expected} is that of the published file")
        header = 16 if "images" in name else 8
        pixels = np.frombuffer(content, np.uint8, offset=header).copy()
        arrays.append(pixels.reshape(-1, 784) if "images" in name else pixels)
    return FashionMNIST(*arrays)


def _read(folder: Path) -> Iterator[bytes]:
    """The four files' contents."""
    for name in FILES:
        plain, packed = folder / name, folder / f"{name}.gz"
        if plain.exists():
            yield plain.read_bytes()
        elif packed.exists():
            try:
                yield gzip.decompress(packed.read_bytes())
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise ValueError(f"{packed} is damaged: {error}") from None
        else:
            raise FileNotFoundError(f"{folder} has no {name} and no {name}.gz")


def _fetch() -> Iterator[bytes]:
    """What the four files would hold, from OpenML's copy of the data."""
    from sklearn.datasets import fetch_openml

    parser = "auto" if importlib.util.find_spec("pandas") else "liac-arff"  # the faster one needs pandas
    X, y = fetch_openml("Fashion-MNIST", version=1, as_frame=False, return_X_y=True, parser=parser)
    images, labels = np.asarray(X).astype(np.uint8), np.asarray(y).astype(np.uint8)
    for part in (slice(0, TRAINING_EXAMPLES), slice(TRAINING_EXAMPLES, None)):
        yield struct.pack(">iiii", 2051, len(labels[part]), 28, 28) + images[part].tobytes()
        yield struct.pack(">ii", 2049, len(labels[part])) + labels[part].tobytes()
