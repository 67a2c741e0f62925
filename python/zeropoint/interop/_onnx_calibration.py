"""Ranges of an ONNX model's activations: `calibrate`, and the `Calibration` that it returns."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

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
Feed: TypeAlias = Mapping[str, Any]

#: the types of ONNX Runtime that its static quantizer takes
_FLOATS: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}
#: `choose_params`' keywords with which parameters can be what the static quantizer writes
_STATIC = {"symmetric", "zero_point_from"}


def calibrate(
    model: Model,
    batches: Iterable[Feed],
    *,
    method: str = "mse",
    percentile: float = 99.99,
    tensors: _patterns.Patterns = None,
    exclude: _patterns.Patterns = (),
    providers: Iterable[Any] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Calibration:
    """Run a float model on sample data, and observe its activations.

    ONNX Runtime runs the model, unoptimized, so that the activations are those that its static
    quantizer asks for.  Each batch goes to an observer for each activation and is then forgotten:
    memory does not grow with the number of batches, and their shapes may differ.

    Parameters
    ----------
    model
        An ``onnx.ModelProto``, or the path of a model.  A model of more than 2 GB, whose weights
        are in external files, is given by its path.
    batches
        Any iterable of feeds: dictionaries of the arrays by the names of the model's inputs.  It
        is read once.  A ``CalibrationDataReader`` will do, too.
    method, percentile
        The default of `Calibration.params`: those of `HistogramObserver.params`.  ``"minmax"``
        keeps two numbers of an activation, the others a histogram of 32 KiB, which serves all
        methods.
    tensors
        Names of activations, or patterns with wildcards; in the bodies of If, Loop and Scan there
        are none.  None: the inputs and outputs of all operators that ``quantize_static`` quantizes
        by default.  Activations that are not float32 or float16 are left out.
    exclude
        The same, of activations that are not observed.
    providers
        Those of ``onnxruntime.InferenceSession``; None: the CPU.
    progress
        Called as ``progress(done, total)``, in batches; `total` is 0 where `batches` has no length.

    Raises
    ------
    ImportError
        onnxruntime is not installed.
    TypeError
        `model`, `batches` or a feed is of another type.
    ValueError
        NaN or Inf in an activation, with its name and the batch.  An input that is missing from a
        feed, or unknown; a batch or a model that ONNX Runtime does not run; no batches; a pattern
        that no name matches; no activations.
    """
    _checks.name(method, "method", METHODS)
    percent = _percent(percentile)
    run = _Run(model, _patterns.checked(tensors, "tensors"), exclude, providers)
    observers = {name: _kind(method)() for name in run.dtypes}
    done, total = 0, len(batches) if isinstance(batches, Sized) else 0
    for done, feed in enumerate(_feeds(batches), 1):
        for name, x in run(feed, done - 1):
            try:
                observers[name].update(x)
            except ValueError:
                _checks.finite(x, f"activation {name!r} of batch {done - 1}", more=_OTHERWISE)
                raise
        if progress is not None:
            progress(done, total)
    if not done:
        raise ValueError("batches is empty; pass at least one feed, {input name: array}")
    return Calibration._of(observers, run.dtypes, method, percent, done)


_OTHERWISE = (
    "leave the activation out by exclude=, and its nodes out of quantize_static by "
    "nodes_to_exclude=; or, in a batch of your own making, "
)


def _feeds(batches: Any) -> Iterator[Feed]:
    if hasattr(batches, "get_next"):  # ONNX Runtime's reader, which need not be an iterator
        return iter(batches.get_next, None)
    if isinstance(batches, (Mapping, str)) or not isinstance(batches, Iterable):
        raise TypeError(
            "batches must be an iterable of feeds, dictionaries of arrays by the names of the "
            f"inputs, not {type(batches).__name__}; pass [feed] for a single one"
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
        if tensors is None:
            wanted = _by_default(graph, names)
        else:
            wanted = _patterns.chosen(tensors, names, "tensors")
        wanted -= _patterns.chosen(_patterns.checked(exclude, "exclude") or (), names, "exclude")
        there = {*inputs, *(each.name for each in graph.output)}
        data = with_outputs(proto, [name for name in names if name in wanted - there])
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3  # shapes may differ from those that the model declares
        if isinstance(model, (str, os.PathLike)):
            folder = os.path.dirname(os.path.abspath(os.fspath(model)))
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", folder
            )
        self._providers(providers, onnxruntime.get_available_providers())
        try:
            self.session = onnxruntime.InferenceSession(
                data, options, providers=[*(providers or ["CPUExecutionProvider"])]
            )
        except Exception as error:  # ONNX Runtime's own
            raise ValueError(
                f"ONNX Runtime does not load the model: {_checks.printable(error)}"
            ) from error
        self.inputs = {each.name: each.type for each in self.session.get_inputs()}
        self.optional = {each.name for each in self.session.get_overridable_initializers()}
        types = self.inputs | {each.name: each.type for each in self.session.get_outputs()}
        #: of the activations, in the order of the graph
        self.dtypes: dict[str, np.dtype[Any]] = {
            name: _FLOATS[types[name]]
            for name in names
            if name in wanted and types.get(name) in _FLOATS
        }
        if not self.dtypes:
            raise ValueError(
                "model has no float32 or float16 activations "
                + (
                    "of operators that quantize_static quantizes; pass tensors='*' for all"
                    if tensors is None
                    else f"among tensors {_checks.shown(tensors)}"
                )
            )
        self.outputs = [name for name in self.dtypes if name not in self.inputs]

    @staticmethod
    def _providers(providers: Iterable[Any] | None, known: list[str]) -> None:
        for each in providers or ():
            name = each if isinstance(each, str) else each[0]
            if name not in known:
                raise ValueError(f"providers {name!r} is not here; choose of {', '.join(known)}")

    def __call__(self, feed: Feed, number: int) -> Iterator[tuple[str, Array]]:
        """The activations of one feed."""
        arrays = self._checked(feed, f"batch {number}")
        try:
            found = self.session.run(self.outputs, arrays) if self.outputs else []
        except Exception as error:  # ONNX Runtime's own
            raise ValueError(
                f"batch {number}: ONNX Runtime does not run it: {_checks.printable(error)}"
            ) from error
        arrays.update(zip(self.outputs, found, strict=True))
        return ((name, arrays[name]) for name in self.dtypes if arrays[name] is not None)

    def _checked(self, feed: Feed, what: str) -> dict[str, Any]:
        if not isinstance(feed, Mapping):
            raise TypeError(
                f"{what} must be a dictionary of arrays by the names of the inputs "
                f"({', '.join(self.inputs)}), not {type(feed).__name__}"
            )
        for name in self.inputs:
            if name not in feed:
                raise ValueError(f"{what} lacks input {name!r}; it has {_checks.shown([*feed])}")
        for name in feed:
            if name not in self.inputs and name not in self.optional:
                raise ValueError(
                    f"{what} has {_checks.shown(name)}, which is no input of the model; "
                    + _patterns.nearest(str(name), self.inputs)
                )
        arrays = {name: np.asarray(value) for name, value in feed.items()}
        for name, x in arrays.items():
            dtype = _FLOATS.get(self.inputs.get(name, ""))
            if dtype is not None and x.dtype != dtype:
                raise ValueError(
                    f"{what}: input {name!r} is {x.dtype}, but the model takes {dtype}; pass "
                    f"x.astype({str(dtype)!r})"
                )
        return arrays


def _by_default(graph: onnx.GraphProto, names: Iterable[str]) -> set[str]:
    """What the nodes take and make that ``quantize_static`` quantizes by default."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    kinds = {*QDQRegistry, *QLinearOpsRegistry}
    nodes = [node for node in graph.node if node.op_type in kinds]
    return {name for node in nodes for name in (*node.input, *node.output)} & {*names}


# ---------------------------------------------------------------------------------------------
# What quantize_static makes of a range


class _Static(NamedTuple):
    """A range in the type of its tensor, and the scale and zero point that are written for it."""

    low: Any
    high: Any
    scale: Any
    zero_point: int


def _static(low: Any, high: Any, qmin: int, qmax: int, symmetric: bool) -> _Static:
    """``compute_scale_zp`` of onnxruntime.quantization: float64, rounded to the tensor's type."""
    kind = high.dtype.type
    least = np.finfo(kind).smallest_subnormal if kind is np.float16 else np.finfo(kind).tiny
    scale = (float(high) - float(low)) / (qmax - qmin)
    stored = kind(scale)
    if (stored if kind is np.float16 else scale) < least:
        return _Static(low, high, kind(1), 0)
    zero = (qmin + qmax) / 2 if symmetric else qmin - float(low) / scale
    return _Static(low, high, stored, int(np.rint(zero)))


def _stored(params: QuantParams, dtype: np.dtype[Any], symmetric: bool) -> _Static:
    """The range for which the static quantizer writes `params`, or what is nearest.

    One end is what the codes reach, or its neighbour; the other makes up for its rounding.
    """
    qmin, qmax = params.qmin, params.qmax
    if symmetric and qmin < 0:
        qmin = -qmax
    scale, zero = float(params.scale), int(params.zero_point)
    span, ends = (qmax - qmin) * scale, np.finfo(dtype)
    upper = symmetric or qmax - zero >= zero - qmin
    far = span / 2 if symmetric else ((qmax - zero) if upper else (zero - qmin)) * scale
    found = []
    with np.errstate(over="ignore"):
        middle = np.minimum(dtype.type(far), ends.max)
        for end in (middle, np.nextafter(middle, dtype.type(0)), np.nextafter(middle, ends.max)):
            other = end if symmetric else np.clip(dtype.type(span - float(end)), 0, ends.max)
            low, high = (0 - other, end) if upper else (-end, other)
            found.append(_static(low, high, qmin, qmax, symmetric))
    written = [each for each in found if (each.scale, each.zero_point) == (params.scale, zero)]
    return (written or found)[0]


# ---------------------------------------------------------------------------------------------


class Calibration:
    """The activations of a model as `calibrate` has seen them: an observer for each.

    Equal where all observers are; `merge` is associative and commutative to the bit.
    """

    _observers: dict[str, Observer]
    _dtypes: dict[str, np.dtype[Any]]
    _method: str
    _percentile: float
    _batches: int

    def __init__(self) -> None:
        raise TypeError("a Calibration comes from calibrate(model, batches) or from from_dict")

    @classmethod
    def _of(
        cls,
        observers: dict[str, Observer],
        dtypes: dict[str, np.dtype[Any]],
        method: str,
        percentile: float,
        batches: int,
    ) -> Self:
        self = cls.__new__(cls)
        self._observers, self._dtypes = observers, dtypes
        self._method, self._percentile, self._batches = method, percentile, batches
        return self

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of the activations, in the order of the graph."""
        return tuple(self._observers)

    @property
    def observers(self) -> Mapping[str, Observer]:
        """The observer of each."""
        return MappingProxyType(self._observers)

    @property
    def method(self) -> str:
        """The default method of `params`."""
        return self._method

    @property
    def percentile(self) -> float:
        """The default of `params` for the method of that name."""
        return self._percentile

    @property
    def batches(self) -> int:
        """How many batches were seen."""
        return self._batches

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
            Others than those of the calibration.  One by ``"minmax"`` has no histograms.
        **keywords
            Those of `choose_params`.  Others than ``symmetric`` and ``zero_point_from`` are for
            your own use: the static quantizer knows none of them.

        Raises
        ------
        ValueError
            An unknown tensor; one without data; what the observer's `params` raises.
        """
        found, _ = self._params(tensor, dtype, method, percentile, keywords)
        return found

    def _params(
        self,
        tensor: str,
        dtype: Any,
        method: str | None,
        percentile: float | None,
        keywords: dict[str, Any],
    ) -> tuple[QuantParams, _Static | None]:
        """Parameters, and for what range the static quantizer writes them."""
        if tensor not in self._observers:
            known = _patterns.nearest(str(tensor), self._observers)
            raise ValueError(f"tensor {_checks.shown(tensor)} was not observed; {known}")
        observer = self._observers[tensor]
        static = keywords.keys() <= _STATIC
        if isinstance(observer, HistogramObserver):
            keywords = keywords | {
                "method": self._method if method is None else method,
                "percentile": self._percentile if percentile is None else percentile,
            }
        elif method not in (None, "minmax"):
            _checks.name(method, "method", METHODS)
            raise ValueError(
                f"method {method!r} needs histograms, which a calibration by 'minmax' has not; "
                f"calibrate with method={method!r}"
            )
        try:
            found = observer.params(dtype, **{"convention": "onnx", **keywords})
        except ValueError as error:
            raise ValueError(f"tensor {tensor!r}: {error}") from None
        if not static:
            return found, None
        stored = _stored(found, self._dtypes[tensor], bool(keywords.get("symmetric", False)))
        if (stored.scale, stored.zero_point) != (found.scale, found.zero_point):
            scale = np.float32(stored.scale)
            found = QuantParams(scale, stored.zero_point, found.dtype, convention="onnx")
        return found, stored

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
            The ``activation_type`` of the call to ``quantize_static``, and its extra option
            ``ActivationSymmetric``.  Without it one file serves both types.
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
        for tensor, _, stored in self._written(dtype, symmetric, method, percentile):
            ends = {
                name: {"data": float(end), "dtype": end.dtype.name, "CLS": "numpy.array"}
                for name, end in (("lowest", stored.low), ("highest", stored.high))
            }
            data[tensor] = {**ends, "CLS": "TensorData"}
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
        self, dtype: Any, symmetric: bool, method: str | None, percentile: float | None
    ) -> Iterator[tuple[str, QuantParams, _Static]]:
        """Of each activation with data: its parameters, and what the cache says of it."""
        for tensor, observer in self._observers.items():
            if not observer._empty:
                how = {"symmetric": symmetric}
                found, stored = self._params(tensor, dtype, method, percentile, how)
                assert stored is not None
                yield tensor, found, stored

    def merge(self, other: Calibration) -> Self:
        """Take in all that `other` has seen, as if its batches had come here; returns itself.

        Raises
        ------
        TypeError
            `other` is not a Calibration.
        ValueError
            `other` has other tensors, another method or percentile.
        """
        if not isinstance(other, Calibration):
            raise TypeError(f"other is a {type(other).__name__}; pass a Calibration")
        for name in ("method", "percentile"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(
                    f"other has {name} {theirs}, this calibration {mine}; make both with the same"
                )
        differ = {*self._dtypes.items()} ^ {*other._dtypes.items()}
        if differ:
            raise ValueError(
                f"other has other tensors: {_checks.shown(sorted({name for name, _ in differ}))} "
                "are in one alone, or of two types; calibrate the same model with the same tensors"
            )
        for name, observer in self._observers.items():
            observer.merge(other._observers[name])  # type: ignore[arg-type]  # of the same class
        self._batches += other._batches
        return self

    # -- value ----------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Calibration):
            return NotImplemented
        return vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # a calibration changes

    def __repr__(self) -> str:
        return (
            f"<Calibration: {len(self._observers)} tensors, {self._batches} batches, "
            f"method {self._method!r}>"
        )

    def __str__(self) -> str:
        """A table of the activations, with their parameters for int8."""
        return self._table()

    def _rows(
        self, dtype: Any = "int8", symmetric: bool = False
    ) -> Iterator[tuple[str, Any, Any, QuantParams]]:
        """Name, minimum, maximum and parameters of each activation with data."""
        for name, params, _ in self._written(dtype, symmetric, None, None):
            yield name, *self._observers[name]._range(), params

    def _table(self, dtype: Any = "int8", symmetric: bool = False) -> str:
        rows = [
            [_checks.printable(name, 200), *map(str, (*ends, params.scale, params.zero_point))]
            for name, *ends, params in self._rows(dtype, symmetric)
        ]
        return table([["tensor", "min", "max", "scale", "zero point"], *rows])

    def _repr_html_(self) -> str:
        """The range of each activation as a table."""
        rows = [
            (name, *("no data" if observer._empty else end for end in ends))
            for name, observer in self._observers.items()
            for ends in [(observer._low, observer._high)]
        ]
        return _html.table(rows, ("tensor", "min", "max"), caption=repr(self))

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact."""
        return {
            "method": self._method,
            "percentile": self._percentile,
            "batches": self._batches,
            "tensors": {
                name: {"dtype": self._dtypes[name].name, "observer": observer.to_dict()}
                for name, observer in self._observers.items()
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
        _has_keys(fields, "fields", "method", "percentile", "batches", "tensors")
        method = _checks.name(fields["method"], "method", METHODS)
        percent, batches, tensors = (
            _percent(fields["percentile"]),
            fields["batches"],
            fields["tensors"],
        )
        if type(batches) is not int or batches < 1 or not isinstance(tensors, dict):
            raise ValueError("batches must be a positive int, and tensors a dictionary")
        observers, dtypes = {}, {}
        for name, each in tensors.items():
            _has_keys(each, f"tensor {_checks.shown(name)}", "dtype", "observer")
            choices = tuple(dtype.name for dtype in _FLOATS.values())
            dtypes[name] = np.dtype(_checks.name(each["dtype"], "dtype", choices))
            observers[name] = _kind(method).from_dict(each["observer"])
            if observers[name].axis is not None or observers[name].skip_nan:
                raise ValueError(f"tensor {_checks.shown(name)}: axis must be None, skip_nan False")
        return cls._of(observers, dtypes, method, percent, batches)


def _kind(method: str) -> type[Observer]:
    return MinMaxObserver if method == "minmax" else HistogramObserver


def _has_keys(fields: object, what: str, *keys: str) -> None:
    if not isinstance(fields, dict):
        raise TypeError(f"{what} must be a dict, not {type(fields).__name__}")
    if fields.keys() != {*keys}:
        raise ValueError(f"{what} must have the keys {', '.join(keys)}, as to_dict writes them")
