"""The command line: ``zeropoint demo | info | verify | quantize | dequantize | inspect | compare``.

Data goes to stdout, progress and errors to stderr.  Exit codes: see `_EXIT_CODES`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.resources
import io
import json
import math
import os
import platform
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_type_hints

import numpy as np

import zeropoint as zp

from . import _backend
from ._checks import CODE_DTYPES, printable
from ._choice import RULES, Choice, ParamsKeywords
from ._compare import table
from ._conventions import CONVENTIONS
from ._extras import command as install_command
from ._extras import reinstall
from ._files.source import NUMPY, REALS

if TYPE_CHECKING:
    from .files import FileInfo, FileSummary

    _Found = TypeVar("_Found", FileInfo, FileSummary)


_EXIT_CODES = """\
exit codes:
  0    done
  1    failed: a file, a value or the data was refused, and then nothing is
       written; or verify found a difference
  2    wrong usage: an unknown command, option or choice, one that is missing,
       or no number where one is needed
  130  interrupted by Ctrl-C"""


class _WrongUsage(Exception):
    """Wrong usage that argparse cannot find."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    _prepare_streams()
    parser = _parser()
    try:
        options = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed its help or the error
        return int(stop.code or 0)
    if options.run is None:
        parser.print_help()
        return 0
    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader is gone, and flushing the buffer must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
        print(f"zeropoint: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    except _WrongUsage as error:
        print(f"zeropoint: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("zeropoint: not enough memory", file=sys.stderr)
        return 1


def _prepare_streams() -> None:
    """Make every name of a tensor printable, and replace streams that are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the process was started without it
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="zeropoint",
        description="Exact and fast 8-bit affine quantization.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=None)
    parser.add_argument("--version", action="version", version=f"zeropoint {zp.__version__}")
    parser.add_argument(
        "--cmakedir",
        action=_PrintPath,
        const=("", "share", "cmake", "zeropoint"),
        help="print where find_package(zeropoint CONFIG) finds the C++ library, and exit",
    )
    parser.add_argument(
        "--includes",
        action=_PrintPath,
        const=("-I", "include"),
        help="print the compiler's flag for the C++ headers, and exit",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(
        run: Callable[[argparse.Namespace], int | None], text: str, example: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            run.__name__.strip("_"),
            help=text,
            description=textwrap.fill(text, 79),
            epilog=f"example:\n  zeropoint {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        added.add_argument(
            "--json", action="store_true", help="print JSON (null for what is not finite)"
        )
        return added

    command(
        _demo,
        "What 8 bits cost and save: three numbers, then a real table of word vectors.",
        "demo",
    )
    command(_info, "Version, backends, compiler.", "info --json")
    verify = command(
        _verify,
        "Run every operation of every backend beside the NumPy reference.",
        "verify --verbose",
    )
    verify.add_argument(
        "--deep",
        action="store_true",
        help="whole domains in place of samples, every float32 among them: about half an hour",
    )
    verify.add_argument(
        "--all-zero-points",
        action="store_true",
        help="deep, and every float32 by all 256 zero points: hours, so it asks first",
    )
    verify.add_argument("--yes", action="store_true", help="do not ask")
    verify.add_argument(
        "-v", "--verbose", action="store_true", help="list every operation, and what was checked"
    )

    quantize = command(
        _quantize,
        "Quantize the float tensors of a .npy, .npz or .safetensors file into a .safetensors file, "
        "and those of a .gguf file to Q8_0, as llama.cpp does.",
        "quantize model.safetensors -o model.q8.safetensors --axis 0 --exclude '*.bias'",
    )
    quantize.add_argument("file", metavar="FILE")
    quantize.add_argument("-o", "--output", metavar="FILE", required=True)
    quantize.add_argument(
        "--dtype",
        choices=[dtype.name for dtype in CODE_DTYPES],
        default="uint8",
        help="of the codes",
    )
    _add_keywords(quantize, *_KEYWORDS)
    quantize.add_argument(
        "--include",
        action="append",
        metavar="PATTERN",
        help="quantize only tensors with such names (*, ?, [abc]), copy the others; repeatable",
    )
    quantize.add_argument(
        "--exclude", action="append", metavar="PATTERN", help="copy these; repeatable"
    )

    dequantize = command(
        _dequantize,
        "Dequantize such a file into a .safetensors or, of one tensor, a .npy file.",
        "dequantize model.q8.safetensors -o back.safetensors --dtype float32",
    )
    dequantize.add_argument("file", metavar="FILE")
    dequantize.add_argument("-o", "--output", metavar="FILE", required=True)
    dequantize.add_argument(
        "--dtype",
        choices=[*REALS.values()],
        help="of the values; default: that of each tensor before it was quantized; .gguf: float16",
    )
    for writes in quantize, dequantize:
        writes.add_argument(
            "-q", "--quiet", action="store_true", help="no progress bar, no summary but --json"
        )

    inspect = command(
        _inspect,
        "Say what a .npy, .npz, .safetensors or .gguf file holds.",
        "inspect model.safetensors",
    )
    inspect.add_argument("file", metavar="FILE")

    compare = command(
        _compare,
        "Which rule suits a tensor of a .npy, .npz, .safetensors or .gguf file, and what else "
        "would help: all of them, with figures.",
        "compare model.safetensors --tensor fc.weight --axis 0",
    )
    compare.add_argument("file", metavar="FILE")
    compare.add_argument("--tensor", metavar="NAME", help="which, if the file has several")
    _add_keywords(compare, "axis", "block_size")
    return parser


# The keywords of `choose_params` as options: all of them, by their types
_KEYWORDS = get_type_hints(ParamsKeywords)
_CHOICES = {
    "zero_point_from": RULES,
    "convention": [name for key, row in CONVENTIONS.items() for name in (key, *row.aliases)],
}
_HELP = {
    "zero_point_from": "default: the convention's default rule",
    "include_zero": "the range of the data as it is, even if it does not hold 0",
    "symmetric": "zero point in the middle",
    "qmin": "first code in use",
    "qmax": "last code in use",
    "convention": "whose bits; default: numpy",
    "axis": "a scale for each channel of the axis",
    "block_size": "and for each block along it",
}


def _add_keywords(parser: argparse.ArgumentParser, *names: str) -> None:
    exclusive = parser.add_mutually_exclusive_group() if "symmetric" in names else parser
    for name in names:
        group = exclusive if name in ("zero_point_from", "symmetric") else parser
        option, how = name.replace("_", "-"), dict[str, Any](type=int, metavar="N")
        if name in _CHOICES:
            how = {"choices": _CHOICES[name]}
        elif _KEYWORDS[name] is bool:
            default = getattr(Choice, name)
            option = f"no-{option}" if default else option
            how = {"action": "store_false" if default else "store_true"}
        group.add_argument(
            f"--{option}", dest=name, default=argparse.SUPPRESS, help=_HELP.get(name), **how
        )


def _given_keywords(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name in _KEYWORDS}


# ---------------------------------------------------------------------------------------------
# Output


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))  # it repeats arguments: names of files, by a wildcard


class _PrintPath(argparse.Action):
    """Print the prefix const[0] and the directory const[1:] of the package, and exit."""

    def __init__(self, option_strings: Any, dest: str, const: Any, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, const=const, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        prefix, *names = self.const
        path = importlib.resources.files("zeropoint").joinpath(*names)
        if not path.is_dir():
            parser.exit(
                1,
                "zeropoint: the C++ library is absent, because it could not be built at install "
                f"time; install a C++ compiler, then: {reinstall()}\n",
            )
        print(f"{prefix}{path}")
        parser.exit()


def _print_json(value: Any) -> None:
    text = json.dumps(_plain(value), indent=2, allow_nan=False)
    print(text.replace("\x7f", "\\u007f"))  # the one control character that it leaves


def _plain(value: Any) -> Any:
    """`value` for JSON, which has no NaN and no Inf."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_pairs(pairs: dict[str, Any]) -> None:
    width = max(map(len, pairs)) + 2
    for name, value in pairs.items():
        print(f"{name:{width}}{value!s}")  # as str: a float32 in its own few digits


class _Progress:
    """A bar on stderr where that is a terminal, else a line at each quarter."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.terminal = sys.stderr.isatty()
        self.shown = -1 if self.terminal else 0  # percent

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal and self.shown >= 0:
            print(file=sys.stderr)  # leave the line of the bar, finished or not

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // total if total else 100
        if not self.terminal:
            percent -= percent % 25
        if percent == self.shown:
            return
        self.shown = percent
        if self.terminal:
            bar = "#" * (percent * 30 // 100)
            print(f"\r{self.what} [{bar:30}] {percent:3}%", end="", file=sys.stderr, flush=True)
        else:
            print(f"{self.what}: {percent}%", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------
# Files


def _quantize(options: argparse.Namespace) -> None:
    from . import files

    keywords = {"include": options.include, "exclude": options.exclude, **_given_keywords(options)}
    _convert(functools.partial(files.quantize_file, **keywords), options)


def _dequantize(options: argparse.Namespace) -> None:
    from . import files

    _convert(files.dequantize_file, options)


def _convert(function: Callable[..., FileSummary], options: argparse.Namespace) -> None:
    """Quantize or dequantize a file, with a progress bar on a terminal, and print the summary."""
    bar: contextlib.AbstractContextManager[_Progress | None] = contextlib.nullcontext()
    if not options.quiet and sys.stderr.isatty():
        bar = _Progress(f"{options.run.__name__.strip('_')} {printable(options.file)}")
    with bar as progress:
        done = function(options.file, options.output, progress=progress, dtype=options.dtype)
    done = _with_dtypes(done)
    if options.json:
        _print_json(done.to_dict())
    if options.json or options.quiet:
        return
    _print_pairs(
        {
            "source": f"{printable(done.source)} ({done.bytes_in:,} bytes)",
            "target": f"{printable(done.target)} ({done.bytes_out:,} bytes)",
        }
    )
    lines = [["tensor", "dtype", "shape", "bytes", "error", ""]]
    for tensor in done.tensors:
        codes = f"{tensor.codes} {_granularity(tensor.axis, tensor.block_size)}"
        bound = "0" if tensor.error_bound is None else f"{tensor.error_bound:.4g}"
        lines.append(
            [
                printable(tensor.name, 200),
                tensor.dtype,
                str(list(tensor.shape)),
                f"{tensor.bytes_in:,} -> {tensor.bytes_out:,}",
                bound,
                codes if tensor.kept is None else f"kept: {tensor.kept}",
            ]
        )
    print(f"\n{table(lines)}")
    for name, why in done.left_out.items():
        print(f"left out: {printable(name, 200)}: {why}")
    print("\nerror: at most so much, half of the largest step, plus float rounding")


def _dtype(label: str) -> str:
    """NumPy's name of the dtype that a file calls `label`."""
    label = NUMPY.get(label, REALS.get(label, label))
    try:
        return np.dtype(label).name
    except TypeError:  # NumPy has no such dtype
        return label


def _with_dtypes(found: _Found) -> _Found:
    """The same with NumPy's names of dtypes."""
    tensors = tuple(replace(each, dtype=_dtype(each.dtype)) for each in found.tensors)
    return replace(found, tensors=tensors)


def _granularity(axis: int | None, block_size: int | None) -> str:
    if axis is None:
        return "per tensor"
    return f"along axis {axis}" + (f" in blocks of {block_size}" if block_size else "")


def _inspect(options: argparse.Namespace) -> None:
    from . import files

    info = _with_dtypes(files.inspect_file(options.file))
    if options.json:
        _print_json(info.to_dict())
        return
    print(f"{printable(info.path)}: {info.format}, {info.bytes:,} bytes")
    lines = [["tensor", "dtype", "shape", "bytes", ""]]
    for tensor in info.tensors:
        note = "Fortran order" if tensor.order == "F" else ""
        if tensor.quantized is not None:
            params = tensor.quantized["params"]
            note = (
                f"codes of {tensor.quantized['dtype']}, {params['convention']} convention, "
                f"{_granularity(params['axis'], params['block_size'])}, "
                f"scales {list(tensor.quantized['params_shape'])}"
            )
        shape = str(list(tensor.shape))
        lines.append([printable(tensor.name, 200), tensor.dtype, shape, f"{tensor.bytes:,}", note])
    print(table(lines))


def _compare(options: argparse.Namespace) -> None:
    from . import files

    name = options.tensor
    if name is None:
        tensors = files.inspect_file(options.file).tensors
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
    comparison = zp.compare(files.read_tensor(options.file, name), **_given_keywords(options))
    if options.json:
        _print_json(comparison.to_dict())
    else:
        print(comparison)


# ---------------------------------------------------------------------------------------------
# This machine


def _info(options: argparse.Namespace) -> None:
    core = _backend.core_info()
    facts = {
        "version": zp.__version__,
        "backends": list(zp.backends()),
        "backend": zp.backend(),
        "reason": _backend.reason(),
        "threads": zp.get_num_threads(),
        "compiler": core.get("compiler"),
        "kernels": len(core.get("kernels", [])),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    if options.json:
        _print_json(facts)
        return
    native = f"{facts['kernels']} kernels by {facts['compiler']}, for {len(zp.backends()) - 1} ISAs"
    _print_pairs(
        {
            "zeropoint": zp.__version__,
            "backends": ", ".join(zp.backends()),
            "chosen": f"{zp.backend()} ({_backend.reason()})",
            "threads": str(facts["threads"]),
            "core": native if core else _no_core(),
            "Python": facts["python"],
            "NumPy": facts["numpy"],
        }
    )


def _no_core() -> str:
    return (
        "absent, so calls run on NumPy: correct, but slow.  Install a C++17 compiler (GCC >= 11 or "
        f"Clang >= 14), then: {reinstall()}"
    )


def _verify(options: argparse.Namespace) -> int:
    from . import _exhaustive, _selfcheck

    if not _backend.core_info():
        print(f"The compiled core is {_no_core()}", file=sys.stderr)
    backends = [name for name in zp.backends() if name != "reference"]
    lacking = [name for name in _backend.core_info().get("isas", []) if name not in backends]
    for name in lacking:
        print(f"NOT RUN: {name}: this CPU lacks it", file=sys.stderr)
    kernels = _backend.core_info().get("kernels", [])
    dtypes = [dtype.name for dtype in _selfcheck.REALS]
    deep = options.deep or options.all_zero_points
    if options.all_zero_points and backends and not _agreed(options.yes):
        return 1
    rows: list[Any] = []
    with _Progress("verify --deep" if deep else "verify") as progress:
        if deep:
            rows = list(_exhaustive.run(progress, all_zero_points=options.all_zero_points))
        else:
            for row in _selfcheck.run():
                rows.append(row)
                progress(len(rows), len(backends) * len(_selfcheck.OPERATIONS))
    differences = sum(row.differences for row in rows)
    if not rows:
        what = []
    elif deep:
        what = _exhaustive.description(all_zero_points=options.all_zero_points)
    else:
        what = [
            f"{len(kernels)} kernels on {', '.join(backends)}: {', '.join(kernels)}.",
            f"Data: {', '.join(dtypes)}; per tensor, per channel, per block.",
        ]
    if options.json:
        _print_json(
            {
                "backends": backends,
                "not_run": lacking,
                "kernels": kernels,
                "conventions": list(CONVENTIONS),
                "dtypes": dtypes,
                "checked": what,
                "rows": [row._asdict() for row in rows],
                "differences": differences,
            }
        )
        return 1 if differences or not rows else 0
    if not rows:
        print("Nothing was verified: only the NumPy reference is here.")
        return 1
    if options.verbose:
        _print_rows(rows)
        for sentence in [*what, f"Conventions: {', '.join(CONVENTIONS)}."]:
            print(textwrap.fill(sentence, 100, subsequent_indent="    "))
    else:
        for backend in backends:
            found = [row for row in rows if row.backend == backend]
            cases, elements, wrong = (sum(row[i] for row in found) for i in (2, 3, 4))
            print(
                f"{backend}: {len(found)} operations, {cases:,} calls, {elements:,} elements, "
                f"{wrong} differences"
            )
        if differences:
            print()
            _print_rows([row for row in rows if row.differences])
    if "bfloat16" not in dtypes:
        print("bfloat16 was left out: ml_dtypes is not installed.")
    if differences:
        oracle = "what they must be" if deep else "the NumPy reference"
        print(f"{differences} calls differ from {oracle}.  Please report this.")
    else:
        elements = sum(row.elements for row in rows)
        fine = "are as they must be" if deep else "equal the NumPy reference to the bit"
        print(f"All {elements:,} elements {fine}.")
    return 1 if differences else 0


def _print_rows(rows: list[Any]) -> None:
    lines = [["backend", "operation", "calls", "elements", "differences", ""]]
    lines += [[*map(str, row[:2]), *(f"{n:,}" for n in row[2:5]), row.first] for row in rows]
    print(f"{table(lines)}\n")


def _agreed(yes: bool) -> bool:
    """Print how long all zero points take, and ask for confirmation unless `yes`."""
    from . import _exhaustive

    hours = _exhaustive.hours()
    threads = zp.get_num_threads()
    print(
        f"verify --deep --all-zero-points: about {hours:.{1 if hours < 10 else 0}f} hours here "
        f"({threads} thread{'s' * (threads > 1)})",
        file=sys.stderr,
    )
    if yes:
        return True
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise _WrongUsage("there is no terminal to ask whether to begin; pass --yes")
    print("Begin? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# ---------------------------------------------------------------------------------------------
# The demo


def _demo(options: argparse.Namespace) -> int:
    from . import _demo as demo

    example = demo.example()
    if not options.json:
        print(demo.example_text(example), flush=True)
    measured = demo.measured()
    if options.json:
        _print_json({"example": example, "array": measured})
    elif measured is not None:
        print(demo.measured_text(measured))
    if measured is None:
        print(
            "zeropoint: the second part, a real array, needs a trained embedding table of 16 MB: "
            f"{install_command('demo')}",
            file=sys.stderr,
        )
        return 1
    return 0
