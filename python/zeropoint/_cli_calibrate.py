"""``zeropoint calibrate``: ranges of an ONNX model's activations, for ONNX Runtime's quantizer."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import _cli_files
from ._checks import CODE_DTYPES, printable
from ._cli_output import WrongUsage, print_json
from .observers import METHODS

_SUFFIXES = (".npz", ".npy")


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add it by `command`, as in `_cli_files.add_commands`."""
    add = command(
        _calibrate,
        "Run an ONNX model on sample data, and write the ranges of its activations: the "
        "calibration cache of ONNX Runtime's quantize_static.",
        "calibrate model.onnx --data samples.npz -o cache.json --batch 8",
    ).add_argument
    add("model", metavar="MODEL.onnx", help="a float model")
    add(
        "--data",
        required=True,
        metavar="DIR|FILE",
        help="a folder of .npz files, each a batch: arrays by the names of inputs; or one .npz "
        "file with the samples along the first axis; or .npy, of a model with one input",
    )
    add("-o", "--output", required=True, metavar="CACHE.json", help="the file to write")
    add("--batch", type=int, metavar="N", help="samples at a time of a FILE; default: 1")
    add("--method", choices=METHODS, default="mse", help="to choose ranges; default: mse")
    add("--percentile", type=float, metavar="P", help="of that method; default: 99.99")
    add(
        "--dtype",
        choices=[dtype.name for dtype in CODE_DTYPES],
        default="int8",
        help="quantize_static's activation_type; default: int8",
    )
    add("--symmetric", action="store_true", help="its ActivationSymmetric")
    for flag, what in ("--include", "observe"), ("--exclude", "leave out"):
        text = f"{what} activations with such names (*, ?, [abc]); repeatable"
        add(flag, action="append", metavar="PATTERN", help=text)
    add("-q", "--quiet", action="store_true", help="no progress bar, no table")


def _calibrate(options: argparse.Namespace) -> None:
    from .interop._onnx_calibration import _table, calibrate
    from .interop._onnx_graph import input_names, load

    data, size = Path(options.data), options.batch
    if size is not None and (size < 1 or data.is_dir()):
        raise WrongUsage("--batch must be 1 or more, for --data FILE; a DIR has a batch in a file")
    if options.percentile is not None and options.method != "percentile":
        raise WrongUsage("--percentile is for --method percentile")
    output = Path(options.output)  # seen to before hours of work are lost, or the model itself
    read = [each for each in (Path(options.model), data) if each.exists()]
    if not output.parent.is_dir() or output.is_dir():
        raise WrongUsage(f"-o {printable(output)} must name a file, in a folder that exists")
    if output.exists() and any(map(output.samefile, read)):
        raise WrongUsage(f"-o {printable(output)} is a file that is read; choose another")
    inputs = input_names(load(options.model, external=False))
    batches, total = _batches(data, inputs, size or 1)
    bar = _cli_files.bar("calibrate", options.model, quiet=options.quiet, of_bytes=False)
    with bar as progress:
        found = calibrate(
            options.model,
            batches,
            method=options.method,
            percentile=99.99 if options.percentile is None else options.percentile,
            tensors=options.include,
            exclude=options.exclude,
            progress=progress and (lambda done, _: progress(done, total)),
        )
    found.save_ort_cache(options.output, options.dtype, symmetric=options.symmetric)
    rows = found._rows(options.dtype, options.symmetric)
    if options.json:
        keys = ("name", "min", "max", "scale", "zero_point")
        tensors = [
            dict(zip(keys, (name, *map(float, ends), int(zero)), strict=True))
            for name, *ends, zero in rows
        ]
        print_json({"batches": found.batches, "method": found.method, "tensors": tensors})
    elif not options.quiet:
        print(_table(rows))
        names = len(found.tensors)
        print(f"\n{names} activations, {found.batches} batches: {printable(output)}")


def _batches(path: Path, inputs: list[str], size: int) -> tuple[Iterable[dict[str, Any]], int]:
    """The feeds of a file or a folder, and their number."""
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES)
        if not found:
            raise ValueError(f"{printable(path)} has no .npz and no .npy files; each is a batch")
        return (_read(each, inputs) for each in found), len(found)
    arrays = _read(path, inputs)
    counts = {name: len(x) for name, x in arrays.items() if x.ndim}  # a number goes to all batches
    if len({*counts.values()}) != 1:
        raise ValueError(
            f"{printable(path)}: the first axis is the samples, as many of each array, but there "
            f"are {counts or 'none'}; for other batches pass a folder of files"
        )
    starts = range(0, max(counts.values()), size)
    return [
        {name: x[start : start + size] if x.ndim else x for name, x in arrays.items()}
        for start in starts
    ], len(starts)


def _read(path: Path, inputs: list[str]) -> dict[str, Any]:
    """The arrays of a file, by the names of inputs."""
    from . import files

    if path.suffix not in _SUFFIXES:
        raise ValueError(f"--data {printable(path)} must be a folder, a .npz or a .npy file")
    names = [each.name for each in files.inspect_file(path).tensors]
    arrays = {name: files.read_tensor(path, name) for name in names}
    if path.suffix == ".npz":
        return arrays
    if len(inputs) != 1:
        raise ValueError(
            f"{printable(path)} is one array, but the model has {len(inputs)} inputs "
            f"({', '.join(map(printable, inputs))}); save a .npz file with these names"
        )
    return dict(zip(inputs, arrays.values(), strict=True))
