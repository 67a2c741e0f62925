"""The one place that says how to install what is missing."""

from __future__ import annotations

import os

PUBLISHED = False  #: whether an index serves the project; under its name others could be there

#: the packages of each extra that a message can name, as in pyproject.toml
EXTRAS = {
    "onnx": ["onnx>=1.19"],
    "onnxruntime": ["onnx>=1.19", "onnxruntime>=1.20"],
    "torch": ["torch>=2.6", "ml_dtypes>=0.5"],
    "litert": ["ai-edge-litert>=2.0"],
    "dask": ["dask[array]>=2025.1"],
    "zarr": ["zarr>=3.1.3,<3.2"],
    "xarray": ["xarray>=2025.7"],
    "bfloat16": ["ml_dtypes>=0.5"],
    "arrow": ["pyarrow>=18"],
    "plot": ["matplotlib>=3.9"],
    "demo": ["wordllama==0.4.0.post1"],
}


def missing(extra: str, what: str) -> ImportError:
    """The error of `what`, a module or a dtype, where the packages of `extra` are not installed."""
    return ImportError(f"{what} needs {' and '.join(EXTRAS[extra])}: {command(extra)}")


def command(extra: str) -> str:
    """The command that installs the packages of `extra`, and works in the current directory."""
    if _in_checkout():
        what = [f".[{extra}]"]
    else:
        what = [f"zeropoint[{extra}]"] if PUBLISHED else EXTRAS[extra]
    return f"pip install {' '.join(map(_quoted, what))}"


def reinstall() -> str:
    """The command that builds and installs zeropoint itself once more."""
    if _in_checkout():
        return "pip install --force-reinstall --no-deps ."
    if PUBLISHED:
        return "pip install --force-reinstall --no-deps --no-cache-dir zeropoint"
    return "pip install --force-reinstall --no-deps DIRECTORY, a checkout of the project"


def _quoted(requirement: str) -> str:
    return f'"{requirement}"'  # a shell reads more into [ and >


def _in_checkout() -> bool:
    """Whether the current directory is the root of a checkout of the project."""
    import tomllib  # here: `import zeropoint` has no need of it

    if not os.path.isfile("pyproject.toml"):
        return False
    try:
        with open("pyproject.toml", "rb") as file:
            return bool(tomllib.load(file)["project"]["name"] == "zeropoint")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # that of another project
        return False
