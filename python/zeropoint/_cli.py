"""The command line: ``zeropoint demo | info | verify | quantize | dequantize | inspect | compare
| report | diagnose | calibrate``.

Data goes to stdout, progress and errors to stderr.  Exit codes: see `_EXIT_CODES`.
"""

from __future__ import annotations

import argparse
import importlib.resources
import io
import os
import platform
import sys
import textwrap
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

import zeropoint as zp

from . import _backend, _cli_calibrate, _cli_diagnose, _cli_files, _cli_report
from ._checks import printable
from ._cli_output import Progress, WrongUsage, print_json, print_pairs
from ._compare import table
from ._conventions import CONVENTIONS
from ._extras import command as install_command
from ._extras import reinstall

_EXIT_CODES = """\
exit codes:
  0    done
  1    failed: a file, a value or the data was refused, and then nothing is
       written; or verify found a difference
  2    wrong usage: an unknown command, option or choice, one that is missing
       or of another format, or no number where one is needed
  130  interrupted by Ctrl-C"""


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
    except WrongUsage as error:
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

    _cli_files.add_commands(command)
    _cli_report.add_commands(command)
    _cli_diagnose.add_commands(command)
    _cli_calibrate.add_commands(command)
    return parser


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


# ---------------------------------------------------------------------------------------------
# This machine


def _info(options: argparse.Namespace) -> None:
    core = _backend.core_info()
    facts = {
        "version": zp.__version__,
        "backends": list(zp.backends()),
        "backend": zp.backend(),
        "reason": _backend.reason(),
        "vbmi": core.get("vbmi", False),
        "threads": zp.get_num_threads(),
        "compiler": core.get("compiler"),
        "kernels": len(core.get("kernels", [])),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    if options.json:
        print_json(facts)
        return
    native = f"{facts['kernels']} kernels by {facts['compiler']}, for {len(zp.backends()) - 1} ISAs"
    print_pairs(
        {
            "zeropoint": zp.__version__,
            "backends": ", ".join(zp.backends()) + "; AVX-512 with VBMI" * facts["vbmi"],
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
    with Progress("verify --deep" if deep else "verify") as progress:
        if deep:
            rows = list(_exhaustive.run(progress, all_zero_points=options.all_zero_points))
        else:
            for row in _selfcheck.run():
                rows.append(row)
                progress(len(rows), len(backends) * len(_selfcheck.OPERATIONS))
            rows.sort(key=lambda row: backends.index(row.backend))
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
        print_json(
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
        raise WrongUsage("there is no terminal to ask whether to begin; pass --yes")
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
        print_json({"example": example, "array": measured})
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
