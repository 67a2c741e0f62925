"""What one step of a pipeline costs beside the engine: the table of docs/measured.md.

    python -m bench.latency FILE.json --measure            measure, and write FILE.json
    python -m bench.latency FILE.json                      print its table
    python -m bench.latency FILE.json --update PAGE.md     put it between the page's markers

Two steps on one thread, with the models of `examples/pipeline.py`: a wake word hears 30 ms, a
camera's 224 x 224 x 3 pixels become the codes of an int8 model.  Each is done in several ways, and
each way is timed twice: on the real interpreter, and by itself, where setting a tensor, invoking
and getting are a call that does nothing.
"""

from __future__ import annotations

import argparse
import runpy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import zeropoint as zp
from zeropoint.interop import litert

from .machine import ROOT, describe
from .report import load_rows, put, save, time_name
from .timing import Timed, best_times

Array = np.ndarray[Any, np.dtype[Any]]

PIECES = "`quantize` or `image_lookup`, `dequantize`; `out=`"
ENGINE = "LiteRT alone: `set_tensor`, `invoke`, `get_tensor`"
WAYS = "by hand in NumPy", PIECES, "`litert.Runner`", "`litert.Runner`, `out=`", ENGINE
ALONE = " without LiteRT"


@dataclass(frozen=True)
class Row:
    step: str
    way: str  #: of `WAYS`, or a lesser backend on which it is `PIECES`
    seconds: float  #: the whole step, the best of many
    median: float
    alone: float  #: the same without the engine


class Model(NamedTuple):
    """A step: its input, the interpreter of its model, and how NumPy makes codes of the input."""

    x: Array
    interpreter: Any
    lookup: Any  #: None where the input is real values
    by_hand: Callable[[Array], Array]


class Nothing:
    """An interpreter whose calls do nothing: what is left is the part that is not LiteRT's."""

    def __init__(self, interpreter: Any) -> None:
        self.get_input_details = interpreter.get_input_details
        self.get_output_details = interpreter.get_output_details
        index = self.get_output_details()[0]["index"]
        interpreter.invoke()
        result = interpreter.get_tensor(index)
        self.get_tensor = lambda index: result
        self.tensor = lambda index: lambda: result

    def set_tensor(self, index: int, value: Any) -> None:
        pass

    def invoke(self) -> None:
        pass


def models() -> dict[str, Model]:
    example = runpy.run_path(str(ROOT / "examples/pipeline.py"), run_name="pipeline")
    rng = np.random.default_rng(0)
    word = example["opened"](model_path=example["word_model"]())
    image = example["opened"](model_content=example["image_model"]())
    scale, zero_point = word.get_input_details()[0]["quantization"]
    params = litert.params(image.get_input_details()[0])
    mean, std = (np.array(example[name], np.float32) for name in ("MEAN", "STD"))

    def quantized(x: Array, scale: Any, zero_point: Any) -> Array:
        codes: Array = np.clip(np.round(x / scale + zero_point), -128, 127).astype(np.int8)
        return codes

    def pixels(x: Array) -> Array:
        return quantized((x / np.float32(255) - mean) / std, params.scale, params.zero_point)

    return {
        "wake word": Model(
            rng.uniform(0, 26, (1, 3, 40)).astype(np.float32),
            word,
            None,
            lambda x: quantized(x, np.float32(scale), zero_point),
        ),
        "image": Model(
            rng.integers(0, 256, (1, 224, 224, 3), np.uint8),
            image,
            zp.image_lookup(example["MEAN"], example["STD"], params),
            pixels,
        ),
    }


def ways(model: Model, interpreter: Any) -> dict[str, Callable[[], Any]]:
    """A step in each way, in the order of `WAYS`; each returns the result as real values."""
    given, taken = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    index, result = given["index"], taken["index"]
    p, r, x = litert.params(given), litert.params(taken), model.x
    scale, zero_point = np.float32(r.scale), np.float32(r.zero_point)
    to_codes = p.quantize if model.lookup is None else model.lookup
    codes = to_codes(x)
    y = r.dequantize(np.zeros(taken["shape"], r.dtype))
    sources = None if model.lookup is None else [model.lookup]
    run, results = litert.Runner(interpreter, sources=sources), [y.copy()]

    def by_hand() -> Array:
        interpreter.set_tensor(index, model.by_hand(x))
        interpreter.invoke()
        values: Array = (interpreter.get_tensor(result) - zero_point) * scale
        return values

    def pieces() -> Array:
        to_codes(x, out=codes)
        interpreter.set_tensor(index, codes)
        interpreter.invoke()
        return r.dequantize(interpreter.get_tensor(result), out=y)

    def engine() -> Array:
        interpreter.set_tensor(index, codes)
        interpreter.invoke()
        found: Array = interpreter.get_tensor(result)
        return found

    steps = by_hand, pieces, lambda: run(x)[0], lambda: run(x, out=results)[0], engine
    return dict(zip(WAYS, steps, strict=True))


def measure(seconds: float) -> Iterator[Row]:
    zp.set_num_threads(1)
    for step, model in models().items():
        timed: dict[str, Timed] = {}
        for interpreter, kind in ((model.interpreter, ""), (Nothing(model.interpreter), ALONE)):
            made = ways(model, interpreter)
            _, wanted, *ours = [run() for way, run in made.items() if way != ENGINE]
            if not all(np.array_equal(wanted, each) for each in ours):
                raise AssertionError(f"{step}: the Runner's result is not that of its pieces")
            timed |= {way + kind: Timed(run, nullcontext) for way, run in made.items()}
            for backend in zp.backends()[1:-1]:
                within = partial(zp.use_backend, backend)
                timed[backend + kind] = Timed(made[PIECES], within)
        best = best_times(timed, seconds, rest=False)
        for way, found in best.items():
            if not way.endswith(ALONE):
                yield Row(step, way, found.seconds, found.median, best[way + ALONE].seconds)


def text(head: dict[str, Any], rows: Sequence[Row]) -> str:
    """The table, and where it was measured."""
    steps = list(dict.fromkeys(row.step for row in rows))
    found = {(row.step, row.way): row for row in rows}
    titles = ["us a step"]
    for step in steps:
        titles += [step, "more than LiteRT", "by itself"]
    lines = [titles, ["---"] * len(titles)]
    for way in WAYS:
        cells = [way]
        for step in steps:
            row, more = found[step, way], found[step, way].seconds - found[step, ENGINE].seconds
            parts = ("", "") if way == ENGINE else (f"{more * 1e6:.1f}", f"{row.alone * 1e6:.2f}")
            cells += [f"{row.seconds * 1e6:.1f}", *parts]
        lines.append(cells)
    lesser = dict.fromkeys(row.way for row in rows if row.way not in WAYS)
    also = "; ".join(
        f"on {backend} " + ", ".join(time_name(found[step, backend].alone) for step in steps)
        for backend in lesser
    )
    machine, versions = head["machine"], head["versions"]
    where = (
        f"{machine['cpu']}, backend {head['zeropoint']['backends'][0]}, one thread, load "
        f"{machine['load']}; LiteRT {versions['ai-edge-litert']}, NumPy {versions['numpy']}; "
        f"{head['date'][:10]}, commit {head['commit']}."
    )
    return "\n".join(
        [
            *(f"| {' | '.join(cells)} |" for cells in lines),
            *(["", f"Zeropoint's functions by themselves {also}."] if also else []),
            *("", where),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("run", type=Path, metavar="FILE.json")
    parser.add_argument("--measure", action="store_true", help="measure first")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure (default: 2)")
    parser.add_argument("--update", type=Path, metavar="PAGE.md", help="the page to rewrite")
    options = parser.parse_args(arguments)
    if options.measure:
        rows = list(measure(options.seconds))
        head = describe(["numpy", "ai-edge-litert", "pymicro-wakeword"])
        save(options.run, head, "rows", [asdict(row) for row in rows])
    head, rows = load_rows(options.run, Row)
    return put(text(head, rows), options.update, "latency")


if __name__ == "__main__":
    raise SystemExit(main())
