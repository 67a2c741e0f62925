"""The command ``zeropoint report``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from . import _cli_files
from ._checks import CODE_DTYPES, printable
from ._cli_output import print_json, print_pairs


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add it by `command`, as `_cli_files.add_commands` does."""
    report = command(
        _report,
        "Write a page of HTML that says what quantizing each tensor of a file or of a model costs, "
        "and what would help.",
        "report model.safetensors -o report.html --symmetric",
    )
    report.add_argument(
        "file",
        metavar="MODEL",
        help="a .npy, .npz, .safetensors or .gguf file, or the folder of a model",
    )
    report.add_argument("-o", "--output", metavar="OUT", required=True, help="a .html file")
    report.add_argument(
        "--against",
        metavar="OTHER",
        help="a file or folder of the same tensors, quantized or not, whose error is shown",
    )
    report.add_argument(
        "--dtype",
        default="int8",
        choices=[dtype.name for dtype in CODE_DTYPES],
        help="of the codes; default: int8",
    )
    _cli_files.add_keywords(report, *_cli_files.KEYWORDS)
    report.add_argument("-q", "--quiet", action="store_true", help="no progress bar, no summary")


def _report(options: argparse.Namespace) -> None:
    from . import report

    with _cli_files.bar("report", options.file, quiet=options.quiet) as progress:
        found = report.write(
            options.file,
            options.output,
            dtype=options.dtype,
            against=options.against,
            progress=progress,
            **_cli_files.given(options, _cli_files.KEYWORDS),
        )
    if options.json:
        print_json(found.to_dict())
    elif not options.quiet:
        source, target, size = options.file, options.output, os.stat(options.output).st_size
        print_pairs(
            {
                "source": f"{printable(source)} ({found.bytes_in:,} bytes of tensors)",
                "target": f"{printable(target)} ({size:,} bytes)",
            }
        )
        if found.against is None:
            what = f"measured: {found.how}"
        else:
            other = printable(found.against, 200)
            what = f"compared with {other}, {len(found.quantized):,} of them quantized there"
        print(f"{len(found.measured):,} of {len(found.tensors):,} tensors {what}")
        for each in () if found.measured else found.tensors[:3]:
            print(f"{printable(each.name, 200)}: {printable(each.note or '', 300)}")
        for each in found.costly:
            print(
                f"{printable(each.name, 200)}: SQNR {each.sqnr_db:.2f} dB, "
                f"{100 * each.cost:.3g} % of the error. {each.advice}"
            )
