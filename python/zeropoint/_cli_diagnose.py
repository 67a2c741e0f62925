"""``zeropoint diagnose``: which mistake made the codes of a file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from . import _cli_files
from ._checks import CODE_DTYPES, printable, shown
from ._cli_output import WrongUsage, print_json
from ._conventions import has_offset
from ._params import OffsetParams, Params, QuantParams, from_dict

_RECIPE = ("dtype", "qmin", "qmax", "axis", "block_size", "convention", "nan_code")
_NUMBERS = ("scale", "zero_point", "offset", "span")


def add_commands(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add it by `command`, as in `_cli_files.add_commands`."""
    parser = command(
        _diagnose,
        "Which mistake, or which engine, made these codes of these data: the likeliest named "
        "first, with the codes that it explains.",
        "diagnose weights.npy codes.npy --scale 0.02 --zero-point 128",
    )
    parser.add_argument("x", metavar="X", help="the data: a file of one tensor, such as .npy")
    parser.add_argument("q", metavar="Q", help="the codes, of the same shape")
    numbers = parser.add_argument_group("the parameters: a number, several with commas, or a .npy")
    for name in _NUMBERS:
        flag = f"--{name.replace('_', '-')}"
        numbers.add_argument(flag, default=argparse.SUPPRESS, metavar="V")
    numbers.add_argument(
        "--params",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="or all of them: a .json file that holds params.to_dict()",
    )
    recipe = parser.add_argument_group("what else is meant")
    recipe.add_argument(
        "--dtype",
        default=argparse.SUPPRESS,
        choices=[dtype.name for dtype in CODE_DTYPES],
        help="of the codes; default: that of Q, or uint8",
    )
    _cli_files.add_keywords(recipe, *_RECIPE[1:])


def _diagnose(options: argparse.Namespace) -> None:
    from ._diagnose import diagnose

    params = _read_params(options) if "params" in options else None
    if params is None and "scale" not in options and "span" not in options:
        raise WrongUsage("pass --scale and --zero-point, or --params FILE.json")
    x, q = _tensor(options.x), _tensor(options.q)
    found = diagnose(x, q, params or _params(options, q.dtype))
    if options.json:
        print_json(found.to_dict())
    else:
        print(found)


def _tensor(path: str) -> Any:
    """The only tensor of a file."""
    from . import files

    names = [each.name for each in files.inspect_file(path).tensors]
    if len(names) != 1:
        raise ValueError(
            f"{printable(path)} has {len(names)} tensors; pass a file that has one, such as a .npy"
        )
    return files.read_tensor(path, names[0])


def _read_params(options: argparse.Namespace) -> Params:
    given = _cli_files.given(options, (*_NUMBERS, *_RECIPE))
    if given:
        raise WrongUsage(f"--params has all parameters; leave out {', '.join(sorted(given))}")
    with open(options.params, encoding="utf-8") as file:
        try:
            return from_dict(json.load(file))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{printable(options.params)} does not hold params.to_dict(): {error}"
            ) from None


def _params(options: argparse.Namespace, dtype: Any) -> Params:
    """Parameters of the options; `dtype` is that of the codes."""
    numbers = {name: _number(name, v) for name, v in _cli_files.given(options, _NUMBERS).items()}
    recipe = _cli_files.given(options, _RECIPE)
    recipe.setdefault("dtype", dtype if dtype in CODE_DTYPES else "uint8")
    if "offset" in numbers or "span" in numbers or has_offset(recipe.get("convention")):
        if "zero_point" in numbers:
            raise WrongUsage(
                "a real offset, as of the conventions cf, faiss and sentence-transformers, and "
                "--zero-point exclude each other; pass --offset alone"
            )
        return OffsetParams(**{"scale": None, "offset": 0.0} | numbers, **recipe)
    return QuantParams(**{"zero_point": 0} | numbers, **recipe)


def _number(name: str, text: str) -> Any:
    """A number, a list of them, or what is in a .npy file."""
    if text.endswith(".npy"):
        return _tensor(text)
    kind = int if name == "zero_point" else float
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        flag = f"--{name.replace('_', '-')}"
        raise WrongUsage(
            f"{flag} {shown(text)} must be {'an integer' if kind is int else 'a number'}, several "
            "with commas, or a .npy file"
        ) from None
    return values[0] if len(values) == 1 else values
