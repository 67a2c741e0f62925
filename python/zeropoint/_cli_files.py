"""The commands on files and folders: ``zeropoint quantize | dequantize | inspect | compare``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

import numpy as np

import zeropoint as zp

from ._checks import CODE_DTYPES, printable
from ._choice import RULES, Choice, ParamsKeywords
from ._cli_output import Progress, WrongUsage, print_json, print_pairs
from ._compare import stats_cells, table
from ._conventions import CONVENTIONS, OFFSET_CONVENTIONS
from ._files.formats import MODELS
from ._files.source import NUMPY, REALS
from ._reference import BY_SPAN

if TYPE_CHECKING:
    from .files import FileInfo, FileSummary, TensorSummary
    from .report import TensorReport

    _Found = TypeVar("_Found", FileInfo, FileSummary)

_Run = Callable[[argparse.Namespace], int | None]
_MANY = 40  # tensors: more are shown in groups of those that are alike
_FEW = 10  # names on one line
_NUMBER = re.compile(r"(?<![^._/-])(\d+)(?![^._/-])")  # in a name: of a layer, of an expert

# The keywords of `choose_params` as options: all of them, by their types
KEYWORDS = get_type_hints(ParamsKeywords)
_CHOICES = {
    "zero_point_from": RULES,
    "convention": [
        name
        for table in (CONVENTIONS, OFFSET_CONVENTIONS)
        for key, row in table.items()
        for name in (key, *row.aliases)
    ],
}
_HELP = {
    "zero_point_from": "default: the convention's default rule",
    "include_zero": "the range of the data as it is, even if it does not hold 0",
    "symmetric": "zero point in the middle",
    "qmin": "first code in use",
    "qmax": "last code in use",
    "convention": f"whose bits; default: numpy; with real offsets: {', '.join(OFFSET_CONVENTIONS)}",
    "nan_code": "a code for NaN, which data do not get: an end of the codes in use, or outside",
    "skip_nan": "leave out NaN; quantize needs --nan-code too, as which they are kept",
    "axis": "a scale for each channel of the axis",
    "block_size": "and for each block along it",
}

#: the options that each format takes
_FORMATS = {
    "zeropoint": ("dtype", *KEYWORDS, "include", "exclude"),
    **{
        name: (*form.options, "include", "ignore")
        for name, form in MODELS.items()
        if name != "zeropoint"
    },
    "gguf": ("include", "exclude"),
    "parquet": (
        *("dtype", *(name for name in KEYWORDS if name != "block_size")),
        *("column", "fit"),
    ),
}
_BY_SUFFIX = ("gguf", "parquet")  #: formats of files with such a suffix, which have no other
_SOURCE = "a .npy, .npz, .safetensors, .gguf or .parquet file, or the folder of a model"


def add_commands(command: Callable[[_Run, str, str], argparse.ArgumentParser]) -> None:
    """Add them by `command`, which makes a parser of a function, a text and an example."""
    quantize = command(
        _quantize,
        "Quantize the float tensors of a file or of a model's folder, for zeropoint or for the "
        "engine that loads the format.",
        "quantize model.safetensors -o model.q8.safetensors --dtype int8 --axis 0 --symmetric",
    )
    quantize.add_argument("file", metavar="MODEL", help=_SOURCE)
    quantize.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="the folder to write if MODEL is one; else a .safetensors file, or .gguf of a .gguf, "
        ".parquet of a .parquet",
    )
    _add(
        quantize,
        "--format",
        choices=[*_FORMATS],
        help="default: zeropoint, or gguf (Q8_0) and parquet where OUT ends so",
    )
    every = quantize.add_argument_group("options of several formats")
    _add(
        every,
        "--include",
        action="append",
        metavar="PATTERN",
        help="quantize only tensors with such names (*, ?, [abc]), copy the others; repeatable",
    )
    _add(
        every,
        "--exclude",
        action="append",
        metavar="PATTERN",
        help="zeropoint, gguf: copy these; repeatable",
    )
    _add(
        every,
        "--ignore",
        action="append",
        metavar="PATTERN",
        help="compressed-tensors, comfyui: copy these, and lm_head; repeatable",
    )
    own = quantize.add_argument_group("options of --format zeropoint and parquet")
    _add(
        own,
        "--dtype",
        choices=[dtype.name for dtype in CODE_DTYPES],
        help="of the codes; default: uint8, where sentence-transformers' own int8 codes need int8",
    )
    add_keywords(own, *KEYWORDS)
    parquet = quantize.add_argument_group("options of --format parquet")
    _add(
        parquet,
        "--column",
        action="append",
        metavar="NAME",
        help="the column to quantize, of floats or float lists; repeatable",
    )
    _add(
        parquet,
        "--fit",
        metavar="all|FILE",
        help="all (default): one pass to choose parameters, one for the codes; or a .json file of "
        "parameters or of a fitted quantizer",
    )
    compressed = quantize.add_argument_group("options of --format compressed-tensors")
    _add(
        compressed,
        "--scheme",
        choices=["W8A8", "W8A16"],
        help="W8A8 (default): a scale for each row, int8 activations; W8A16: for each 128 weights",
    )
    _add(
        compressed,
        "--scale-divisor",
        type=float,
        metavar="X",
        help="scale = max|x| / X; default: 127, compressed-tensors' own tools have 127.5",
    )
    comfyui = quantize.add_argument_group("options of --format comfyui")
    _add(
        comfyui,
        "--per-row",
        action="store_true",
        help="a scale for each row in place of one for each tensor",
    )

    dequantize = command(
        _dequantize,
        "Dequantize a quantized file or a model's folder, whoever wrote it, into one of the same "
        "kind or, of one tensor, a .npy file.",
        "dequantize model.q8.safetensors -o back.safetensors --dtype float32",
    )
    dequantize.add_argument(
        "file",
        metavar="MODEL",
        help="a .safetensors, .gguf or .parquet file, or the folder of a model",
    )
    dequantize.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="a file or folder, as MODEL; or .npy"
    )
    _add(
        dequantize,
        "--dtype",
        choices=[*REALS.values()],
        help="of the values; default: that of each tensor before it was quantized",
    )
    _add(
        quantize,
        "--stats",
        action="store_true",
        help="the SQNR of each tensor in dB, which takes longer",
    )
    for writes in quantize, dequantize:
        writes.add_argument(
            "-v", "--verbose", action="store_true", help="a line for each tensor, even of many"
        )
        writes.add_argument(
            "-q", "--quiet", action="store_true", help="no progress bar, no summary but --json"
        )

    inspect = command(
        _inspect,
        "Say what a file or a model's folder holds, and how its tensors are quantized.",
        "inspect model.safetensors",
    )
    inspect.add_argument("file", metavar="MODEL", help=_SOURCE)
    inspect.add_argument(
        "--stats",
        action="store_true",
        help="SQNR, largest error, saturated elements and codes in use of each float tensor, as "
        "if it were quantized per tensor; codes have none: report --against (not of .parquet "
        "files)",
    )

    compare = command(
        _compare,
        "Which rule suits a tensor of a file or a model's folder, and what else would help: "
        "all of them, with figures.",
        "compare model.safetensors --tensor fc.weight --axis 0",
    )
    compare.add_argument(
        "file",
        metavar="MODEL",
        help="a .npy, .npz, .safetensors or .gguf file, or the folder of a model",
    )
    compare.add_argument("--tensor", metavar="NAME", help="which, if there are several")
    add_keywords(compare, "axis", "block_size", "skip_nan")


def _add(group: Any, flag: str, **how: Any) -> None:
    """An option that is absent from the namespace unless it is given."""
    group.add_argument(flag, default=argparse.SUPPRESS, **how)


def add_keywords(parser: Any, *names: str) -> None:
    exclusive = parser.add_mutually_exclusive_group() if "symmetric" in names else parser
    for name in names:
        group = exclusive if name in ("zero_point_from", "symmetric") else parser
        how = dict[str, Any](type=int, metavar="N")
        if name in _CHOICES:
            how = {"choices": _CHOICES[name]}
        elif KEYWORDS[name] is bool:
            how = {"action": "store_false" if _is_on(name) else "store_true"}
        _add(group, _flag(name), dest=name, help=_HELP.get(name), **how)


def _flag(name: str) -> str:
    """The option of a keyword."""
    return f"--{'no-' * _is_on(name)}{name.replace('_', '-')}"


def _is_on(name: str) -> bool:
    """Whether it is a keyword that is True unless it is given."""
    return KEYWORDS.get(name) is bool and bool(getattr(Choice, name, False))


def given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name in names}


# ---------------------------------------------------------------------------------------------
# Quantize and dequantize


def _quantize(options: argparse.Namespace) -> None:
    from . import files
    from ._files import linear

    keywords = given(options, {name for names in _FORMATS.values() for name in names})
    chosen = _format(options)
    _check_belong(chosen, keywords, is_default="format" not in options)
    if "dtype" in keywords and keywords.get("fit", "all") != "all":
        raise WrongUsage("--dtype is for --fit all; parameters that are given have their own")
    keywords["stats"] = "stats" in options
    if chosen in ("zeropoint", *_BY_SUFFIX):
        function = functools.partial(files.quantize_file, **keywords)
    else:
        if "ignore" in keywords:  # the head stays as well, whatever else does
            keywords["ignore"] = [linear.HEAD, *keywords["ignore"]]
        function = functools.partial(files.quantize_checkpoint, format=chosen, **keywords)
    _convert(function, options)


def _format(options: argparse.Namespace) -> str:
    suffix = options.output.rpartition(".")[2]
    needed = suffix if suffix in _BY_SUFFIX else None
    chosen: str = getattr(options, "format", needed or "zeropoint")
    if chosen != needed and (needed or chosen in _BY_SUFFIX):
        name = needed or chosen
        raise WrongUsage(
            f"--format {chosen} and -o {printable(options.output)} do not go together: {name}, and "
            f"no other format, is written to an OUT that ends in .{name}"
        )
    return chosen


def _check_belong(chosen: str, given: Iterable[str], *, is_default: bool) -> None:
    for name in given:
        if name not in _FORMATS[chosen]:
            others = " or ".join(other for other, names in _FORMATS.items() if name in names)
            raise WrongUsage(
                f"{_flag(name)} is an option of --format {others}; the format here is {chosen}"
                f"{', the default' * is_default}, which takes "
                f"{', '.join(map(_flag, _FORMATS[chosen]))}"
            )


def _dequantize(options: argparse.Namespace) -> None:
    from . import files

    _convert(functools.partial(files.dequantize_file, **given(options, ["dtype"])), options)


def _convert(function: Callable[..., FileSummary], options: argparse.Namespace) -> None:
    """Do it with a progress bar on a terminal, and print the summary."""
    command = options.run.__name__.strip("_")
    with bar(command, options.file, quiet=options.quiet) as progress:
        done = function(options.file, options.output, progress=progress)
    done = _with_dtypes(done)
    if options.json:
        print_json(done.to_dict())
    elif not options.quiet:
        _print_summary(done, f"{command}d", options)


def bar(
    command: str, file: str, *, quiet: bool = False, of_bytes: bool = True
) -> contextlib.AbstractContextManager[Progress | None]:
    """A progress bar, on a terminal alone."""
    if quiet or not sys.stderr.isatty():
        return contextlib.nullcontext()
    return Progress(f"{command} {printable(file)}", of_bytes=of_bytes)


def _print_summary(done: FileSummary, verb: str, options: argparse.Namespace) -> None:
    print_pairs(
        {
            "source": f"{printable(done.source)} ({done.bytes_in:,} bytes)",
            "target": f"{printable(done.target)} ({done.bytes_out:,} bytes)",
        }
    )
    kept = [each for each in done.tensors if each.kept is not None]
    changed = [each for each in done.tensors if each.kept is None]
    in_groups = len(done.tensors) > _MANY and not options.verbose
    groups = _alike(changed) if in_groups else [[each] for each in done.tensors]
    rows = [_row(group) for group in groups]
    absent = {"tensors": not in_groups, "SQNR dB": "stats" not in options}
    header = [name for name in rows[0] if not absent.get(name)]
    print(f"\n{table([header, *([row[name] for name in header] for row in rows)])}\n")
    print(f"{verb}: {_total(changed)}")
    if kept:
        print(f"kept: {_total(kept)}")
    if in_groups:
        for why, names in _by_reason((each.name, each.kept or "") for each in kept).items():
            print(f"  {_listed(names)}: {why}")
    for why, names in _by_reason(done.left_out.items()).items():
        for shown in [names] if len(done.left_out) > _FEW else [[name] for name in names]:
            print(f"left out: {_listed(shown)}: {why}")
    print("error: no value is further off, but for float rounding")


def _row(group: list[TensorSummary]) -> dict[str, str]:
    first = group[0]
    ratios = sorted(each.sqnr_db for each in group if each.sqnr_db is not None)
    codes = f"{first.codes} {_granularity(first.axis, first.block_size)}"
    codes += f", {first.convention}" * (first.convention in OFFSET_CONVENTIONS)
    codes += _nan(first.nan_code)
    return {
        "tensor": _pattern([each.name for each in group]),
        "dtype": first.dtype,
        "tensors": f"{len(group):,}",
        "shape": str(list(first.shape)),
        "bytes": _sizes(group),
        "error": f"{max(each.error_bound or 0 for each in group):.4g}",
        "SQNR dB": " to ".join(
            dict.fromkeys(f"{each:.1f}" for each in (*ratios[:1], *ratios[-1:]))
        ),
        "": codes if first.kept is None else f"kept: {first.kept}",
    }


def _total(tensors: list[TensorSummary]) -> str:
    return f"{len(tensors):,} tensor{'s' * (len(tensors) != 1)}, {_sizes(tensors)} bytes"


def _sizes(tensors: list[TensorSummary]) -> str:
    before = sum(each.bytes_in for each in tensors)
    after = sum(each.bytes_out for each in tensors)
    return f"{before:,}" if before == after else f"{before:,} -> {after:,}"


# What has many tensors has them in layers, whose names differ in a number


def _alike(tensors: Iterable[TensorSummary]) -> list[list[TensorSummary]]:
    """Tensors whose rows differ in error, SQNR and the numbers of their names alone."""
    found: dict[Any, list[TensorSummary]] = {}
    for each in tensors:
        key = replace(each, name=_NUMBER.sub("0", each.name), error_bound=None, sqnr_db=None)
        found.setdefault(key, []).append(each)
    return [*found.values()]


def _pattern(names: list[str]) -> str:
    """The name of all of them, with a * for the numbers in which they differ."""
    columns = zip(*map(_NUMBER.split, names), strict=True)
    return printable("".join(min(each) if len({*each}) == 1 else "*" for each in columns), 200)


def _listed(names: list[str]) -> str:
    """Names on one line, those that differ in numbers as one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_NUMBER.sub("0", name), []).append(name)
    shown = [
        f"{_pattern(group)}{f' ({len(group):,})' * (len(group) > 1)}"
        for group in [*groups.values()][:_FEW]
    ]
    more = len(groups) - len(shown)
    return ", ".join(shown) + f" and {more:,} more" * (more > 0)


def _by_reason(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in pairs:
        found.setdefault(why, []).append(name)
    return found


def _granularity(axis: int | None, block_size: int | None) -> str:
    if axis is None:
        return "per tensor"
    return f"along axis {axis}" + (f" in blocks of {block_size}" if block_size else "")


def _nan(code: int | None) -> str:
    return "" if code is None else f", NaN is {code}"


def _dtype(label: str) -> str:
    """NumPy's name of the dtype that a file calls `label`."""
    label = NUMPY.get(label, REALS.get(label, label))
    try:
        return np.dtype(label).name
    except (TypeError, ValueError):  # NumPy has no such dtype
        return label


def _with_dtypes(found: _Found) -> _Found:
    """The same with NumPy's names of dtypes."""
    tensors = tuple(replace(each, dtype=_dtype(each.dtype)) for each in found.tensors)
    return replace(found, tensors=tensors)


# ---------------------------------------------------------------------------------------------
# Inspect and compare


def _inspect(options: argparse.Namespace) -> None:
    from . import files

    info = _with_dtypes(files.inspect_file(options.file))
    if options.stats and info.format == "parquet":
        raise WrongUsage("--stats measures no .parquet file; leave it out")
    measured = _measured(options.file) if options.stats else {}
    if options.json:
        found = info.to_dict()
        for each in found["tensors"] if options.stats else ():
            stats = measured[each["name"]].stats if each["name"] in measured else None
            each["stats"] = stats and stats.to_dict()
        print_json(found)
        return
    shards = {tensor.file for tensor in info.tensors}
    several = f", {len(shards)} files" * (len(shards) > 1)
    print(f"{printable(info.path)}: {info.format}{several}, {info.bytes:,} bytes")
    sizes = {each.name: each.bytes for each in info.tensors}
    quantized = [each.quantized for each in info.tensors if each.quantized]
    parts = {name for one in quantized for name in one["parts"]}
    header = ["tensor", "dtype", "shape", "bytes", *(["file"] if several else [])]
    header += ["SQNR dB", "max error", "saturated", "codes", ""] if measured else [""]
    rows = []
    for tensor in info.tensors:
        one = tensor.quantized
        if one is None and tensor.name in parts:
            continue
        name, dtype, shape = tensor.name, tensor.dtype, tensor.shape
        size, note = tensor.bytes, "Fortran order" * (tensor.order == "F")
        if one is not None:
            name, dtype, shape = one["name"], one["params"]["dtype"], one["shape"]
            size, note = sum(sizes[part] for part in one["parts"]), _note(one)
        cells = [printable(name, 200), dtype, str(list(shape)), f"{size:,}"]
        cells += [printable(tensor.file, 200)] if several else []
        if measured:
            of = measured.get(name)
            cells += _figures(of)
            why = of.note if of and dtype in REALS.values() else None
            note = ", ".join(filter(None, [note, printable(why or "", 200)]))
        rows.append([*cells, note])
    print(table([header, *rows]))
    in_codes = sum(sizes[name] for name in parts)
    print(
        f"{len(rows):,} tensor{'s' * (len(rows) != 1)}, {sum(sizes.values()):,} bytes; "
        f"{len(quantized):,} quantized, {in_codes:,} bytes"
    )


def _measured(file: str) -> dict[str, TensorReport]:
    """The figures of its tensors, as `zeropoint quantize` has them without options."""
    from .report import measure

    with bar("inspect", file) as progress:
        found = measure(file, "uint8", {}, progress=progress, figures_alone=True)
    return {each.name: each for each in found.tensors}


def _figures(of: TensorReport | None) -> list[str]:
    if of is None or of.stats is None:
        return [""] * 4
    error, _, sqnr, saturated, used, _ = stats_cells(of.stats)
    return [sqnr, error, saturated, used]


def _note(one: dict[str, Any]) -> str:
    """How a tensor is quantized."""
    params = one["params"]
    arrays = "spans" if params["convention"] in BY_SPAN else "scales"
    arrays += " and offsets" * (params["convention"] in OFFSET_CONVENTIONS)
    return (
        f"codes of {one['dtype']}, {one['format']}, {params['convention']} convention, "
        f"{_granularity(params['axis'], params['block_size'])}, "
        f"{arrays} {list(one['params_shape'])}{_nan(params['nan_code'])}"
    )


def _compare(options: argparse.Namespace) -> None:
    from . import files

    name = options.tensor
    tensors = files.inspect_file(options.file).tensors
    if any(each.quantized and name in (each.name, each.quantized["name"]) for each in tensors):
        raise ValueError(
            f"{printable(options.file)}: {printable(name, 200)} is quantized already; pass the "
            "file that it was made of, or dequantize it first"
        )
    if name is None:
        of_codes = {key for each in tensors if each.quantized for key in each.quantized["parts"]}
        names = [
            each.name
            for each in tensors
            if _dtype(each.dtype) in REALS.values() and each.name not in of_codes
        ] or [each.name for each in tensors if len(tensors) == 1]
        if len(names) > 1:
            shown = ", ".join(printable(each, 200) for each in names)[:400]
            raise ValueError(
                f"{printable(options.file)} has {len(names)} float tensors; name one by --tensor: "
                f"{shown}"
            )
        if not names:
            raise ValueError(
                f"{printable(options.file)} has no float tensors; pass a file that has"
            )
        [name] = names
    comparison = zp.compare(files.read_tensor(options.file, name), **given(options, KEYWORDS))
    if options.json:
        print_json(comparison.to_dict())
    else:
        print(comparison)
