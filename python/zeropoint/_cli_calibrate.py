"""``zeropoint calibrate``: ranges of an ONNX model's activations, for ONNX Runtime's quantizer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from . import _cli_files
from ._checks import CODE_DTYPES, printable
from ._cli_output import WrongUsage, print_json
from .observers import METHODS

_SUFFIXES = (".npz", ".npy")


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add it by `command`, as in `_cli_files.add_commands`."""
    parser = command(
        _calibrate,
        "Run an ONNX model on sample data, and write the ranges of its activations as the "
        "calibration cache of ONNX Runtime's quantize_static.",
        "calibrate model.onnx --data samples.npz -o cache.json --batch 8",
    )
    parser.add_argument("model", metavar="MODEL.onnx", help="a float model")
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR|FILE",
        help="a folder of .npz files, each a batch: arrays by the names of the inputs; or one .npz "
        "file of samples along the first axis (a single number goes to all batches).  Of a model "
        "with one input .npy files will do",
    )
    parser.add_argument("-o", "--output", required=True, metavar="CACHE.json", help="to write")
    parser.add_argument("--batch", type=int, metavar="N", help="samples at a time of a FILE (1)")
    parser.add_argument(
        "--method", choices=METHODS, default="mse", help="how ranges are chosen; default: mse"
    )
    parser.add_argument("--percentile", type=float, default=99.99, metavar="P", help="(99.99)")
    parser.add_argument(
        "--dtype",
        choices=[dtype.name for dtype in CODE_DTYPES],
        default="int8",
        help="quantize_static's activation_type; default: int8",
    )
    parser.add_argument("--symmetric", action="store_true", help="its ActivationSymmetric")
    for flag, what in (
        ("--include", "observe activations with such names (*, ?, [abc])"),
        ("--exclude", "leave these out"),
    ):
        parser.add_argument(flag, action="append", metavar="PATTERN", help=f"{what}; repeatable")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar, no table")


def _calibrate(options: argparse.Namespace) -> None:
    from .interop import onnx
    from .interop._onnx_graph import input_names, load

    data = Path(options.data)
    if options.batch is not None and (options.batch < 1 or data.is_dir()):
        raise WrongUsage("--batch must be 1 or more, for --data FILE; a DIR has a batch in a file")
    batches = _Batches(data, input_names(load(options.model, external=False)), options.batch or 1)
    with _cli_files.bar(
        "calibrate", options.model, quiet=options.quiet, of_bytes=False
    ) as progress:
        found = onnx.calibrate(
            options.model,
            batches,
            method=options.method,
            percentile=options.percentile,
            tensors=options.include,
            exclude=options.exclude,
            progress=progress,
        )
    found.save_ort_cache(options.output, options.dtype, symmetric=options.symmetric)
    if options.json:
        rows = found._rows(options.dtype, options.symmetric)
        keys = ("name", "min", "max", "scale", "zero_point")
        tensors = [
            dict(zip(keys, (name, *map(float, (*ends, p.scale)), int(p.zero_point)), strict=True))
            for name, *ends, p in rows
        ]
        print_json({"batches": found.batches, "method": found.method, "tensors": tensors})
    elif not options.quiet:
        print(found._table(options.dtype, options.symmetric))
        print(
            f"\n{len(found.tensors)} activations, {found.batches} batches: "
            f"{printable(options.output)}"
        )


class _Batches:
    """The feeds in a file or a folder."""

    def __init__(self, path: Path, inputs: list[str], size: int) -> None:
        self.path, self.inputs, self.size = path, inputs, size
        self.files: list[Path] = []
        self.arrays: dict[str, Any] = {}
        if path.is_dir():
            self.files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES)
            if not self.files:
                raise ValueError(f"{printable(path)} has no .npz and no .npy files; a batch is one")
            return
        self.arrays = self._read(path)
        counts = {name: len(x) for name, x in self.arrays.items() if x.ndim}
        if len({*counts.values()}) != 1:
            raise ValueError(
                f"{printable(path)}: the first axis is the samples, as many of each array, but "
                f"there are {counts or 'none'}; for other batches pass a folder of files"
            )
        [self.samples] = {*counts.values()}

    def _read(self, path: Path) -> dict[str, Any]:
        """The arrays of a file, by the names of inputs."""
        from . import files

        if path.suffix not in _SUFFIXES:
            raise ValueError(f"--data {printable(path)} must be a folder, a .npz or a .npy file")
        names = [each.name for each in files.inspect_file(path).tensors]
        arrays = {name: files.read_tensor(path, name) for name in names}
        if path.suffix == ".npz":
            return arrays
        if len(self.inputs) != 1:
            raise ValueError(
                f"{printable(path)} is one array, but the model has {len(self.inputs)} inputs "
                f"({', '.join(map(printable, self.inputs))}); save a .npz file with these names"
            )
        return dict(zip(self.inputs, arrays.values(), strict=True))

    def __len__(self) -> int:
        return len(self.files) or -(-self.samples // self.size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if self.files:
            yield from map(self._read, self.files)
            return
        for start in range(0, self.samples, self.size):
            rows = np.s_[start : start + self.size]
            yield {name: x[rows] if x.ndim else x for name, x in self.arrays.items()}
