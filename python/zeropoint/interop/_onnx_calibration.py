"""Ranges of an ONNX model's activations: `calibrate`, and the `Calibration` that it returns."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from .. import _checks, _html, _patterns
from .._compare import table
from .._extras import missing
from .._files.target import replacing
from .._params import QuantParams
from ..observers import METHODS, HistogramObserver, MinMaxObserver, _percent
from ._onnx_graph import Array, Model, input_names, load, with_outputs

if TYPE_CHECKING:  # where onnx is missing, _onnx_graph says so
    import onnx

Observer: TypeAlias = MinMaxObserver | HistogramObserver

#: the types of ONNX Runtime that its static quantizer takes
_FLOATS: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}


def calibrate(
    model: Model,
    batches: Iterable[Mapping[str, Any]],
    *,
    method: str = "mse",
    percentile: float = 99.99,
    tensors: _patterns.Patterns = None,
    exclude: _patterns.Patterns = (),
    providers: Iterable[Any] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Calibration:
    """Run a float model on sample data in ONNX Runtime, and observe its activations.

    Each batch is shown to an observer for each activation and then forgotten: memory does not grow
    with the batches, and their shapes may differ.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``, or the path of a model; more than 2 GB need the path.
    batches
        Any iterable of feeds: dictionaries of arrays by the names of the model's inputs.  Read
        once.  A ``CalibrationDataReader`` will do.
    method, percentile
        The default of `Calibration.params`: those of `HistogramObserver.params`.  ``"minmax"``
        keeps two numbers of an activation, the others a histogram of 32 KiB, which serves all.
    tensors
        Names of activations, or patterns; not in the bodies of If, Loop and Scan.  None: inputs and
        outputs of the operators that ``quantize_static`` quantizes.  Only float32 and float16.
    exclude
        The same, of those to leave out.
    providers
        Those of ``onnxruntime.InferenceSession``; None: the CPU.
    progress
        Called as ``progress(done, total)``, in batches; total is 0 where `batches` has no length.

    Raises
    ------
    ImportError
        onnxruntime is not installed.
    TypeError
        `model`, `batches` or a feed is of another type.
    ValueError
        NaN or Inf in an activation, with its name and the batch.  A feed without an input, or with
        an unknown one; what ONNX Runtime does not load or run; no batches; no activations.
    """
    _checks.name(method, "method", METHODS)
    percent = _percent(percentile)
    run = _Run(model, _patterns.checked(tensors, "tensors"), exclude, providers)
    observers = {name: _kind(method)() for name in run.dtypes}
    done, total = 0, len(batches) if isinstance(batches, Sized) else 0
    for done, feed in enumerate(_feeds(batches), 1):
        for name, x in run(feed, f"batch {done - 1}"):
            try:
                observers[name].update(x)
            except ValueError as error:
                bad = np.argwhere(~np.isfinite(x))
                raise ValueError(
                    f"activation {name!r} of batch {done - 1} has {len(bad)} NaN or Inf of "
                    f"{x.size} elements, the first at index {tuple(map(int, bad[0]))}; leave it "
                    "out by exclude=, and its nodes by quantize_static's nodes_to_exclude=; or "
                    "correct the batch"
                ) from error
        if progress is not None:
            progress(done, total)
    if not done:
        raise ValueError("batches is empty; pass at least one feed, {input name: array}")
    return Calibration._of(observers, run.dtypes, method, percent, done)


def _kind(method: str) -> type[Observer]:
    return MinMaxObserver if method == "minmax" else HistogramObserver


def _feeds(batches: Any) -> Iterator[Mapping[str, Any]]:
    if hasattr(batches, "get_next"):  # ONNX Runtime's reader, which need not be an iterator
        return iter(batches.get_next, None)
    if isinstance(batches, (Mapping, str)) or not isinstance(batches, Iterable):
        raise TypeError(
            "batches must be an iterable of feeds, {input name: array}, not "
            f"{type(batches).__name__}; pass [feed] for a single one"
        )
    return iter(batches)


class _Run:
    """A model in ONNX Runtime, whose activations are outputs."""

    def __init__(
        self,
        model: Model,
        tensors: list[str] | None,
        exclude: _patterns.Patterns,
        providers: Iterable[Any] | None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise missing("onnxruntime", "calibrate") from error
        proto = load(model, external=False)
        graph = proto.graph
        inputs = input_names(proto)
        names = dict.fromkeys(inputs)
        names.update(dict.fromkeys(name for node in graph.node for name in node.output if name))
        wanted = _default(graph) if tensors is None else _patterns.chosen(tensors, names, "tensors")
        wanted -= _patterns.chosen(_patterns.checked(exclude, "exclude") or (), names, "exclude")
        there = {*inputs, *(each.name for each in graph.output)}
        data = with_outputs(proto, [name for name in names if name in wanted - there])
        options = onnxruntime.SessionOptions()
        # as its own calibrators do: what is fused has no activation within
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3  # shapes may differ from those that the model declares
        if isinstance(model, (str, os.PathLike)):
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path",
                os.path.dirname(os.path.abspath(os.fspath(model))),
            )
        chosen = ["CPUExecutionProvider"] if providers is None else [*providers]
        known = tuple(onnxruntime.get_available_providers())
        for each in chosen:  # which would be replaced by the CPU, with a warning
            _checks.name(each[0] if isinstance(each, tuple) else each, "providers", known)
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=chosen)
        except Exception as error:  # ONNX Runtime's own
            raise ValueError(
                f"ONNX Runtime does not load the model: {_checks.printable(error)}"
            ) from error
        self.inputs = {each.name: each.type for each in self.session.get_inputs()}
        self.optional = {each.name for each in self.session.get_overridable_initializers()}
        types = self.inputs | {each.name: each.type for each in self.session.get_outputs()}
        #: of the activations, in the order of the graph
        self.dtypes = {
            name: _FLOATS[types[name]]
            for name in names
            if name in wanted and types.get(name) in _FLOATS
        }
        if not self.dtypes:
            among = f"tensors {_checks.shown(tensors)} that exclude= leaves"
            if tensors is None:
                among = "operators that quantize_static quantizes; pass tensors='*' for all"
            if any(each.HasField("g") for node in graph.node for each in node.attribute):
                among += (
                    ".  What is in the bodies of If, Loop and Scan neither of them looks into; use "
                    "a model without"
                )
            raise ValueError(f"model has no float32 or float16 activations of {among}")
        self.outputs = [name for name in self.dtypes if name not in self.inputs]

    def __call__(self, feed: Mapping[str, Any], what: str) -> Iterator[tuple[str, Array]]:
        """The activations of one feed."""
        arrays = self._checked(feed, what)
        try:
            found = self.session.run(self.outputs, arrays) if self.outputs else []
        except Exception as error:  # ONNX Runtime's own
            raise ValueError(
                f"{what}: ONNX Runtime does not run it: {_checks.printable(error)}"
            ) from error
        arrays.update(zip(self.outputs, found, strict=True))
        return ((name, arrays[name]) for name in self.dtypes)

    def _checked(self, feed: Mapping[str, Any], what: str) -> dict[str, Any]:
        if not isinstance(feed, Mapping):
            raise TypeError(f"{what} must be {{input name: array}}, not {type(feed).__name__}")
        for name in self.inputs:
            if name not in feed:
                raise ValueError(f"{what} lacks input {name!r}; it has {_checks.shown([*feed])}")
        arrays = {}
        for name, value in feed.items():
            if name not in self.inputs and name not in self.optional:
                raise ValueError(
                    f"{what} has {_checks.shown(name)}, which is no input of the model; "
                    + _patterns.nearest(str(name), self.inputs)
                )
            x = arrays[name] = np.asarray(value)
            dtype = _FLOATS.get(self.inputs.get(name, ""), x.dtype)
            if x.dtype != dtype:
                raise ValueError(
                    f"{what}: input {name!r} is {x.dtype}, but the model takes {dtype}; pass "
                    f"x.astype({str(dtype)!r})"
                )
        return arrays


def _default(graph: onnx.GraphProto) -> set[str]:
    """What the nodes take and make that ``quantize_static`` quantizes by default."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    kinds = {*QDQRegistry, *QLinearOpsRegistry}
    nodes = [node for node in graph.node if node.op_type in kinds]
    return {name for node in nodes for name in (*node.input, *node.output)}


# ---------------------------------------------------------------------------------------------
# What quantize_static makes of a range

_Written: TypeAlias = tuple[tuple[Any, Any], tuple[Any, int]]  #: a range; scale and zero point


def _static(low: Any, high: Any, qmin: int, qmax: int, symmetric: bool) -> _Written:
    """``compute_scale_zp`` of onnxruntime.quantization: in float64, rounded to the ends' type."""
    kind = type(high)
    half = kind is np.float16
    scale = (float(high) - float(low)) / (qmax - qmin)
    stored = kind(scale)
    least = np.finfo(kind).smallest_subnormal if half else np.finfo(kind).tiny
    if (stored if half else scale) < least:
        return (low, high), (kind(1), 0)
    zero = (qmin + qmax) / 2 if symmetric else qmin - float(low) / scale
    return (low, high), (stored, int(np.rint(zero)))


def _stored(params: QuantParams, dtype: np.dtype[Any], symmetric: bool) -> _Written:
    """The range for which the static quantizer writes `params`, or what is nearest.

    One end is what the codes reach, or just less; the other makes up for its rounding.
    """
    qmin, qmax = params.qmin, params.qmax
    if symmetric and qmin < 0:
        qmin = -qmax
    scale, zero = float(params.scale), int(params.zero_point)
    span, most = (qmax - qmin) * scale, np.finfo(dtype).max
    upper = symmetric or qmax - zero >= zero - qmin
    found = []
    with np.errstate(over="ignore"):
        far = span / 2 if symmetric else max(qmax - zero, zero - qmin) * scale
        middle = np.minimum(dtype.type(far), most)
        for end in (middle, np.nextafter(middle, dtype.type(0))):
            other = end if symmetric else np.clip(dtype.type(span - float(end)), 0, most)
            ends = (0 - other, end) if upper else (-end, other)
            found.append(_static(*ends, qmin, qmax, symmetric))
    return next((each for each in found if each[1] == (params.scale, zero)), found[0])


# ---------------------------------------------------------------------------------------------


class Calibration:
    """The activations of a model as `calibrate` has seen them."""

    observers: dict[str, Observer]  #: of each activation, by name, in the order of the graph
    method: str  #: the default of `params`
    percentile: float  #: the default of `params`
    batches: int  #: how many were seen
    _dtypes: dict[str, np.dtype[Any]]

    def __init__(self) -> None:
        raise TypeError("a Calibration comes from calibrate(model, batches) or from from_dict")

    @classmethod
    def _of(cls, observers: Any, dtypes: Any, method: str, percentile: float, batches: int) -> Self:
        self = cls.__new__(cls)
        self.observers, self._dtypes = observers, dtypes
        self.method, self.percentile, self.batches = method, percentile, batches
        return self

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the activations."""
        return tuple(self.observers)

    def params(
        self,
        tensor: str,
        dtype: Any = "int8",
        *,
        method: str | None = None,
        percentile: float | None = None,
        **keywords: Any,
    ) -> QuantParams:
        """Scale and zero point of an activation, those that `save_ort_cache` has written.

        They are what the observer's `params` gives in the convention ``onnx``.  Some scales cannot
        be written, and are then the nearest that can: one in some hundred of symmetric uint8, in
        the last bit; those of a float16 tensor, which are float16; a subnormal one becomes 1.

        Parameters
        ----------
        tensor
            One of `tensors`.
        dtype
            ``"int8"``, the default of ``quantize_static``, or ``"uint8"``: the type of the codes.
        method, percentile
            Others than the calibration's.  One by ``"minmax"`` has no histograms.
        **keywords
            Those of `choose_params`.  The static quantizer knows ``symmetric`` alone.

        Raises
        ------
        ValueError
            An unknown tensor; one without data; what the observer's `params` raises.
        """
        return self._params(tensor, dtype, method, percentile, **keywords)[0]

    def _params(
        self,
        tensor: str,
        dtype: Any,
        method: str | None = None,
        percentile: float | None = None,
        **keywords: Any,
    ) -> tuple[QuantParams, tuple[Any, Any]]:
        """Parameters, and for what range the static quantizer writes them, if it can."""
        if tensor not in self.observers:
            known = _patterns.nearest(str(tensor), self.observers)
            raise ValueError(f"tensor {_checks.shown(tensor)} was not observed; {known}")
        observer = self.observers[tensor]
        how: dict[str, Any] = {"convention": "onnx", **keywords}
        if isinstance(observer, HistogramObserver):
            how["method"] = self.method if method is None else method
            how["percentile"] = self.percentile if percentile is None else percentile
        elif method not in (None, "minmax"):
            raise ValueError(
                f"method {_checks.shown(method)} needs histograms, which a calibration by 'minmax' "
                "has not; pass the method to calibrate"
            )
        try:
            found = observer.params(dtype, **how)
        except ValueError as error:
            raise ValueError(f"tensor {tensor!r}: {error}") from None
        if keywords.keys() - {"symmetric"}:
            return found, (None, None)
        ends, (scale, zero) = _stored(found, self._dtypes[tensor], bool(how.get("symmetric")))
        if (scale, zero) != (found.scale, found.zero_point):
            found = QuantParams(np.float32(scale), zero, found.dtype, convention="onnx")
        return found, ends

    def save_ort_cache(
        self,
        path: str | os.PathLike[str],
        dtype: Any = "int8",
        *,
        symmetric: bool = False,
        method: str | None = None,
        percentile: float | None = None,
    ) -> None:
        """Write what ``quantize_static(..., calibration_cache_path=path)`` reads in place of data.

        Its model then has the scales and zero points of `params`.

        Parameters
        ----------
        path
            The file to write, JSON; it appears whole or not at all.
        dtype, symmetric
            ``activation_type`` and the extra option ``ActivationSymmetric`` of that call.
        method, percentile
            As in `params`.

        Raises
        ------
        OSError
            The file cannot be written.
        ValueError
            What `params` raises; activations without data are left out.
        """
        data = {}
        for tensor, _, ends in self._written(dtype, symmetric, method, percentile):
            data[tensor] = {
                name: {"data": float(end), "dtype": end.dtype.name, "CLS": "numpy.array"}
                for name, end in zip(("lowest", "highest"), ends, strict=True)
            } | {"CLS": "TensorData"}
        cache = {
            "CLS": "TensorsData",
            "data": data,
            # the only method that is a range alone
            "calibration_method": {"CLS": "CalibrationMethod", "value": "CalibrationMethod.MinMax"},
            "smooth_quant": False,
        }
        with replacing(Path(path)) as file:
            file.write(json.dumps(cache).encode())

    def _written(
        self, dtype: Any, symmetric: bool, *how: Any
    ) -> Iterator[tuple[str, QuantParams, tuple[Any, Any]]]:
        """Of each activation with data: its parameters, and the range in the cache."""
        for tensor, observer in self.observers.items():
            if not observer._empty:
                yield tensor, *self._params(tensor, dtype, *how, symmetric=symmetric)

    def merge(self, other: Calibration) -> Self:
        """Take in all that `other` has seen, as if its batches had come here; returns itself.

        Associative and commutative, to the bit.

        Raises
        ------
        TypeError
            `other` is not a Calibration.
        ValueError
            `other` has other tensors, another method or percentile.
        """
        if not isinstance(other, Calibration):
            raise TypeError(f"other is a {type(other).__name__}; pass a Calibration")
        for name in ("method", "percentile", "_dtypes"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                if name == "_dtypes":
                    name, mine, theirs = "tensors", [*mine], [*theirs]
                raise ValueError(
                    f"other has {name} {_checks.shown(theirs)}, this calibration "
                    f"{_checks.shown(mine)}; calibrate the same model in the same way"
                )
        for name, observer in self.observers.items():
            observer.merge(other.observers[name])  # type: ignore[arg-type]  # of the same class
        self.batches += other.batches
        return self

    # -- value ----------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Calibration) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # a calibration changes

    def __repr__(self) -> str:
        return (
            f"<Calibration: {len(self.observers)} tensors, {self.batches} batches, "
            f"method {self.method!r}>"
        )

    def _rows(self, dtype: Any = "int8", symmetric: bool = False) -> Iterator[list[Any]]:
        """Name, minimum, maximum, scale and zero point of each activation with data."""
        for name, params, _ in self._written(dtype, symmetric):
            yield [name, *self.observers[name]._range(), params.scale, params.zero_point]

    def __str__(self) -> str:
        """A table of the activations, with their parameters for int8."""
        return _table(self._rows())

    def _repr_html_(self) -> str:
        """The same for notebooks."""
        return _html.table(self._rows(), _HEAD, caption=repr(self))

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact."""
        return {
            "method": self.method,
            "percentile": self.percentile,
            "batches": self.batches,
            "tensors": {
                name: {"dtype": self._dtypes[name].name, "observer": observer.to_dict()}
                for name, observer in self.observers.items()
            },
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The calibration that `to_dict` wrote.

        Raises
        ------
        TypeError, ValueError
            `fields` is not what `to_dict` writes.
        """
        method, percent, batches, tensors = _values(
            fields, "fields", "method", "percentile", "batches", "tensors"
        )
        kind, percent = _kind(_checks.name(method, "method", METHODS)), _percent(percent)
        if type(batches) is not int or batches < 1 or not isinstance(tensors, dict):
            raise ValueError("batches must be a positive int, and tensors a dictionary")
        observers, dtypes = {}, {}
        for name, each in tensors.items():
            what = f"tensor {_checks.shown(name)}"
            dtype, observer = _values(each, what, "dtype", "observer")
            choices = tuple(known.name for known in _FLOATS.values())
            dtypes[name] = np.dtype(_checks.name(dtype, "dtype", choices))
            observers[name] = kind.from_dict(observer)
            if observers[name].axis is not None or observers[name].skip_nan:
                raise ValueError(f"{what}: axis must be None, and skip_nan False")
        return cls._of(observers, dtypes, method, percent, batches)


_HEAD = ("tensor", "min", "max", "scale", "zero point")


def _table(rows: Iterable[list[Any]]) -> str:
    cells = [[_checks.printable(name, 200), *map(str, numbers)] for name, *numbers in rows]
    return table([[*_HEAD], *cells])


def _values(fields: object, what: str, *keys: str) -> list[Any]:
    if not isinstance(fields, dict):
        raise TypeError(f"{what} must be a dict, not {type(fields).__name__}")
    if fields.keys() != {*keys}:
        raise ValueError(f"{what} must have the keys {', '.join(keys)}, as to_dict writes them")
    return [fields[key] for key in keys]
