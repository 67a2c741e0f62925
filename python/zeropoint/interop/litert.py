"""LiteRT (TensorFlow Lite): the parameters of a model's tensors, and calls with real values.

Nothing is imported but NumPy: the functions read the dictionaries and call the methods of the
interpreter they are given, `ai_edge_litert.interpreter.Interpreter` or `tf.lite.Interpreter`.

>>> interpreter = Interpreter("hey_jarvis.tflite")
>>> interpreter.allocate_tensors()
>>> run = Runner(interpreter)
>>> (probability,) = run(features)  # real values in, real values out
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import zeropoint as zp

from .. import _checks, _lookup
from .._reference import Array

__all__ = ["Runner", "params"]

_SOURCE = "an entry of get_input_details(), get_output_details() or get_tensor_details()"
_FLOAT32 = np.dtype(np.float32)


def params(detail: Mapping[str, Any], *, convention: str | None = None) -> zp.QuantParams:
    """The parameters of one tensor of a model, per tensor or per channel.

    Parameters
    ----------
    detail
        An entry of ``get_input_details()``, ``get_output_details()`` or ``get_tensor_details()``,
        of an interpreter or a signature runner.
    convention
        None: that of LiteRT's QUANTIZE operator with its default kernels, which is ``"litert"``
        per tensor, and ``"litert_reference"`` per channel (weights, in practice): for channels
        LiteRT has the arithmetic of its reference kernels alone.  Pass ``"litert_reference"``
        where those run per tensor too: ``OpResolverType.BUILTIN_REF``, or a microcontroller.
        `dequantize` is the same in every convention.

    Returns
    -------
    QuantParams
        The scale is float32, the axis is the tensor's ``quantized_dimension``.

    Raises
    ------
    TypeError
        `detail` is not a dictionary, or a field is not of its type.
    ValueError
        A tensor that is not uint8 or int8; one without scales; one quantized in blocks; scales
        that do not fit its shape, or that are not finite and > 0.

    Notes
    -----
    LiteRT shows 4-bit tensors as int8, so their parameters have qmin -128 and qmax 127.
    """
    name, found = _quantization(detail)
    dtype = _dtype(detail["dtype"], name)
    if dtype not in (np.uint8, np.int8):
        raise ValueError(
            f"tensor {name!r} is {dtype}: only uint8 and int8 tensors are supported, and float "
            "ones need no parameters"
        )
    block_size = _block_size(found, name)
    if block_size:
        raise ValueError(
            f"tensor {name!r} is quantized in blocks of {block_size}; only scales per tensor or "
            "per channel are supported"
        )
    scales = _numbers(found["scales"], "scales", "fiu", name)
    zeros = _numbers(found["zero_points"], "zero_points", "iu", name)
    if scales.size == 0:
        raise ValueError(f"tensor {name!r} is {dtype} without scales: these are plain integers")
    shape = tuple(_numbers(detail["shape"], "shape", "iu", name).tolist())
    if min(shape, default=0) < 0:
        raise ValueError(f"tensor {name!r} has a length < 0 in its shape {shape}; pass {_SOURCE}")
    dimension = _integer(found["quantized_dimension"], "quantized_dimension", name)
    axis = dimension if scales.size > 1 else None
    if axis is not None and (not 0 <= axis < len(shape) or shape[axis] != scales.size):
        raise ValueError(
            f"tensor {name!r} has {scales.size} scales along dimension {axis}, which do not fit "
            f"its shape {shape}; pass {_SOURCE}"
        )
    if convention is None:
        convention = "litert" if axis is None else "litert_reference"
    try:
        return zp.QuantParams(
            scales[0] if axis is None else scales,
            zeros[0] if zeros.size == 1 else zeros,  # an interpreter may compress them to one
            dtype,
            axis=axis,
            convention=convention,
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"tensor {name!r}: {error}") from None


class Runner:
    """A model that takes and returns real values: quantize, set, invoke, get, dequantize.

    The parameters are prepared once, and the arrays for the codes are kept.  The interpreter stays
    the caller's: it must be allocated before the first call, keeps its state from call to call, and
    can be used beside the runner.  Like it, a runner serves one thread at a time.

    Parameters
    ----------
    interpreter
        With ``get_input_details``, ``get_output_details``, ``set_tensor``, ``invoke``,
        ``get_tensor`` and ``tensor``.
    convention
        As in `params`, for all inputs.
    sources
        What the inputs are given as: a list in their order, or a dictionary by name, where what is
        left out is None.

        - None: real values, or for a tensor that is not quantized whatever it takes.
        - Parameters: codes under them, uint8 or int8, which become the model's as by LiteRT's own
          QUANTIZE: `zeropoint.rescale` with ``arithmetic="litert"``, or ``"litert_reference"``
          where that is the convention.
        - A Lookup: the codes that it takes.  ``zp.image_lookup(mean, std, params)`` takes pixels.
          Its target must have the model's scale and zero point.

    Raises
    ------
    TypeError
        `interpreter` has no details to give; a field of one is not of its type; a source of another
        type.
    ValueError
        An input or an output whose codes are not uint8 or int8 (int16, say), or are in blocks; a
        source for an input that is not quantized, or that does not fit it or does not exist.

    Notes
    -----
    For uint8 images of height x width x 3, with ``mean`` and ``std`` of torchvision's Normalize::

        pixels = zp.image_lookup(mean, std, params(interpreter.get_input_details()[0]))
        run = Runner(interpreter, sources=[pixels])
        (logits,) = run(image)
    """

    def __init__(
        self,
        interpreter: Any,
        *,
        convention: str | None = None,
        sources: Sequence[Any] | Mapping[str, Any] | None = None,
    ) -> None:
        self._interpreter = interpreter
        for method in ("get_input_details", "get_output_details"):
            if not callable(getattr(interpreter, method, None)):
                raise TypeError(
                    f"interpreter must be an Interpreter of LiteRT, not "
                    f"{type(interpreter).__name__}: it has no {method}"
                )
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self._inputs = [_Port(interpreter, detail, convention) for detail in inputs]
        self._outputs = [_Port(interpreter, detail, convention) for detail in outputs]
        self._fresh = (None,) * len(outputs)
        for port, source in zip(self._inputs, self._for_each(sources), strict=True):
            port.take(source)

    def __repr__(self) -> str:
        ports = (self._inputs, self._outputs)
        shown = (", ".join(f"{p.name!r}: {p.params}" for p in some) for some in ports)
        return "Runner({{{}}} -> {{{}}})".format(*shown)

    def __call__(
        self, *inputs: Any, out: Sequence[Array | None] | None = None, **named: Any
    ) -> list[Array]:
        """Run the model once.

        Parameters
        ----------
        *inputs, **named
            One value per input: by position, in the order of ``get_input_details()``, or by the
            tensor's name (``run(**{"serving_default_x:0": x})``; one called ``out`` goes by
            position).  What goes to a quantized tensor is what its source says, or anything that
            `zeropoint.quantize` takes (float32 for LiteRT's bits: float64 is computed in float64);
            it may lack a first dimension of 1.  What goes to any other tensor is passed on as it
            is.
        out
            Where to put the results: for each output an array of just its shape and dtype, or None.
            With that, and inputs that are NumPy arrays, a call allocates no array.

        Returns
        -------
        list of numpy.ndarray
            One array per output, in the order of ``get_output_details()``: float32 from a quantized
            tensor, as it is from any other; those of `out` where they are given.

        Raises
        ------
        TypeError, ValueError
            A missing or unknown input; a value that `zeropoint.quantize`, its source or
            ``set_tensor`` refuses; an array of `out` that does not fit.  No tensor is set before
            all values are quantized and `out` is seen to fit.
        """
        if named or len(inputs) != len(self._inputs):
            inputs = self._in_order(inputs, named)
        ready = []
        for i, port in enumerate(self._inputs):
            value = inputs[i]
            if port.params is not None:
                try:
                    if type(value) is np.ndarray and value.shape == port.shape:
                        value = port.encode(value, port.kept)
                    else:
                        value = self._codes(port, value)
                except TypeError as error:
                    hint = port.hint(value)
                    raise TypeError(f"input {port.name!r}: {error}{hint}") from None
                except ValueError as error:
                    raise ValueError(f"input {port.name!r}: {error}") from None
            ready.append(value)
        if out is None:
            out = self._fresh
        else:
            self._check(out)
        interpreter = self._interpreter
        for i, port in enumerate(self._inputs):
            interpreter.set_tensor(port.index, ready[i])
        interpreter.invoke()
        results = []
        for i, port in enumerate(self._outputs):
            array = out[i]
            # what `view` gives is dropped at once: while it is kept, the interpreter does not run
            value = interpreter.get_tensor(port.index) if array is None else port.view()
            if port.params is not None:
                value = zp.dequantize(value, port.params, out=array)
            elif array is not None:
                np.copyto(array, value)
                value = array
            results.append(value)
        return results

    def _codes(self, port: _Port, value: Any) -> Any:
        """The codes of what is no NumPy array or has another shape than the tensor had."""
        if type(value) is not np.ndarray:
            return self._fitted(port, port.encode(value))
        return port.encode(self._fitted(port, value), port.kept)

    def _fitted(self, port: _Port, value: Any) -> Any:
        """`value` in the shape of the tensor, of which it may lack the first 1."""
        given = tuple(value.shape)
        if port.shape not in (given, (1, *given)):  # the caller may have resized the tensor
            for each in (port, *self._outputs):
                each.look()
            port.kept = np.empty(port.shape, port.kept.dtype)
        if given == port.shape:
            return value
        if (1, *given) == port.shape:
            return value[np.newaxis]
        raise ValueError(f"it has shape {given} where {port.shape} is needed")

    def _check(self, out: object) -> None:
        """That the results will fit, which the call itself would find too late."""
        if not isinstance(out, (list, tuple)) or len(out) != len(self._outputs):
            names = [port.name for port in self._outputs]
            raise TypeError(
                f"out must be a list of an array or None for each of the outputs {names}, not "
                f"{_checks.shown(out)}"
            )
        for i, port in enumerate(self._outputs):
            array = out[i]
            if (
                port.view is None
                or type(array) is not np.ndarray
                or array.shape != port.shape
                or array.dtype != port.dtype
                or not array.flags.carray
            ):
                port.look()  # the tensor may have been resized, too
                try:
                    _checks.output(array, port.shape, port.dtype)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"output {port.name!r}: {error}") from None

    def _for_each(self, sources: object) -> Sequence[Any]:
        """The source of each input."""
        names = [port.name for port in self._inputs]
        if sources is None:
            return [None] * len(names)
        if isinstance(sources, Mapping):
            if sources.keys() <= set(names) and len(set(names)) == len(names):
                return [sources.get(name) for name in names]
        elif isinstance(sources, list | tuple) and len(sources) == len(names):
            return sources
        kind = ValueError if isinstance(sources, Mapping | list | tuple) else TypeError
        raise kind(
            f"sources must be a list of a source or None for each of the inputs {names}, or a "
            f"dictionary by their names if these differ, not {_checks.shown(sources)}"
        )

    def _in_order(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        names = [port.name for port in self._inputs]
        rest = names[len(inputs) :]
        if named and len(set(rest)) < len(rest):
            raise TypeError(f"the inputs are {names}: names occur twice, so pass all by position")
        if len(inputs) > len(names) or named.keys() != set(rest):
            given = f"{len(inputs)} by position" + "".join(f", {name!r}" for name in named)
            raise TypeError(f"the inputs are {names}, each needed once; given are {given}")
        return (*inputs, *(named[name] for name in rest))


class _Port:
    """An input or an output: its tensor, and what stands between codes and values."""

    def __init__(self, interpreter: Any, detail: Mapping[str, Any], convention: str | None) -> None:
        self.name, found = _quantization(detail, "index")
        self.index = _integer(detail["index"], "index", self.name)
        if self.index < 0:
            raise ValueError(
                f"tensor {self.name!r} has index {self.index}, which must be >= 0; pass {_SOURCE}"
            )
        in_blocks = _block_size(found, self.name) != 0  # wherever their scales are
        quantized = in_blocks or _numbers(found["scales"], "scales", "fiu", self.name).size > 0
        self.params = params(detail, convention=convention) if quantized else None
        #: of real values, as far as is known: a tensor may be resized
        self.shape: tuple[int, ...] = tuple(detail["shape"]) if quantized else ()
        self.dtype = _FLOAT32
        self.source: zp.Lookup | None = None
        self.view: Any = None  #: gives the tensor's own memory, once `look` was called
        self._interpreter = interpreter

    def encode(self, value: Any, out: Array | None = None) -> Any:
        """The codes of a value."""
        if self.source is not None:
            return self.source(value, out=out)
        assert self.params is not None
        return zp.quantize(value, self.params, out=out)

    def hint(self, value: Any) -> str:
        """What helps where a value of codes' dtype has no source, or another has one."""
        if self.source is not None:
            return f"; the source of this input takes {self.source.source.dtype}"
        if getattr(value, "dtype", None) not in (np.dtype(np.uint8), np.dtype(np.int8)):
            return ""
        return (
            "; or make the Runner with sources=: for pixels zeropoint.image_lookup(mean, std, "
            "params), for codes their parameters"
        )

    def look(self) -> None:
        """See what shape the tensor has now, and dtype."""
        self.view = self._interpreter.tensor(self.index)
        view = self.view()
        self.shape = view.shape
        if self.params is None:
            self.dtype = view.dtype

    def take(self, source: Any) -> None:
        """Values will be what `source` says."""
        p, where = self.params, f"input {self.name!r}"
        if p is not None:
            self.kept = np.empty(self.shape, p.dtype)  #: the last codes
        if source is None:
            return
        if p is None:
            raise ValueError(f"{where} is not quantized, so it has no source; pass None for it")
        if isinstance(source, zp.QuantParams | zp.OffsetParams):
            arithmetic = "litert_reference" if p.convention == "tflite" else "litert"
            try:
                source = _lookup._rescaling(source, p, arithmetic)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        if not isinstance(source, zp.Lookup):
            raise TypeError(
                f"{where}: a source must be None, parameters or a Lookup, not "
                f"{_checks.shown(source)}"
            )
        made = source.target
        if type(made) is not type(p) or made.replace(convention=p.convention) != p:
            raise ValueError(
                f"{where} has {p}, and its source makes codes of {made}; make it with "
                "litert.params(detail) of this input"
            )
        self.source = source


# The fields of a detail, which an interpreter or a converter's dump may have filled with anything


def _quantization(detail: Any, *more: str) -> tuple[str, Mapping[str, Any]]:
    """The tensor's name and its ``quantization_parameters``; an error unless all fields exist."""
    if not isinstance(detail, Mapping):
        raise TypeError(
            f"detail must be {_SOURCE}, not {type(detail).__name__}; for example "
            "interpreter.get_input_details()[0]"
        )
    missing = {"name", "shape", "dtype", "quantization_parameters", *more} - detail.keys()
    found = detail.get("quantization_parameters", {})
    if not isinstance(found, Mapping):
        raise TypeError(
            f"quantization_parameters must be a dictionary, not {type(found).__name__}; pass "
            f"{_SOURCE}"
        )
    missing |= {"scales", "zero_points", "quantized_dimension"} - found.keys()
    if missing:
        raise ValueError(f"detail has no {', '.join(sorted(missing))}; pass {_SOURCE}")
    name = detail["name"]
    return name if isinstance(name, str) else _checks.shown(name), found


def _dtype(value: Any, name: str) -> np.dtype[Any]:
    try:
        if value is not None:  # which NumPy takes for float64
            found: np.dtype[Any] = np.dtype(value)
            return found
    except Exception:  # NumPy raises many kinds
        pass
    raise TypeError(
        f"tensor {name!r} has dtype {_checks.shown(value)}, which NumPy does not know; pass "
        f"{_SOURCE}"
    )


def _numbers(value: Any, field: str, kinds: str, name: str) -> Array:
    """A field that must be a 1-D array of integers, or of real numbers."""
    try:
        found = np.asarray(value)
    except Exception:  # a ragged list, or an object's own
        found = np.asarray(None)
    if found.ndim != 1 or (found.size and found.dtype.kind not in kinds):
        what = "integers" if kinds == "iu" else "numbers"
        raise TypeError(
            f"tensor {name!r} has {field} {_checks.shown(value)}, where a 1-D array of {what} is "
            f"needed; pass {_SOURCE}"
        )
    return found


def _integer(value: Any, field: str, name: str) -> int:
    """A field that must be an integer."""
    try:
        return _checks.integer(value, field)
    except TypeError as error:
        raise TypeError(f"tensor {name!r}: {error}, or pass {_SOURCE}") from None


def _block_size(found: Mapping[str, Any], name: str) -> int:
    """0 for a tensor that is not quantized in blocks; older interpreters have no such field."""
    value = found.get("block_size")
    return 0 if value is None else _integer(value, "block_size", name)
