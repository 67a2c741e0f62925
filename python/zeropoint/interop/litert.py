"""LiteRT (TensorFlow Lite): the parameters of a model's tensors, and calls with real values.

Nothing is imported but NumPy: the functions read the dictionaries and call the methods of the
interpreter they are given, `ai_edge_litert.interpreter.Interpreter` or `tf.lite.Interpreter`.

>>> interpreter = Interpreter("hey_jarvis.tflite")
>>> interpreter.allocate_tensors()
>>> run = Runner(interpreter)
>>> (probability,) = run(features)  # real values in, real values out
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import zeropoint as zp

from .. import _checks
from .._reference import Array

_SOURCE = "an entry of get_input_details(), get_output_details() or get_tensor_details()"


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

    The parameters are prepared once.  The interpreter stays the caller's: it must be allocated
    before the first call, keeps its state from call to call, and can be used beside the runner.

    Parameters
    ----------
    interpreter
        With ``get_input_details``, ``get_output_details``, ``set_tensor``, ``invoke`` and
        ``get_tensor``.
    convention
        As in `params`, for all inputs.

    Raises
    ------
    TypeError
        `interpreter` has no details to give; a field of one is not of its type.
    ValueError
        An input or an output whose codes are not uint8 or int8 (int16, say), or are in blocks.
    """

    def __init__(self, interpreter: Any, *, convention: str | None = None) -> None:
        self._interpreter = interpreter
        for method in ("get_input_details", "get_output_details"):
            if not callable(getattr(interpreter, method, None)):
                raise TypeError(
                    f"interpreter must be an Interpreter of LiteRT, not "
                    f"{type(interpreter).__name__}: it has no {method}"
                )
        self._inputs = [_port(detail, convention) for detail in interpreter.get_input_details()]
        self._outputs = [_port(detail, convention) for detail in interpreter.get_output_details()]

    def __call__(self, *inputs: Any, **named: Any) -> list[Array]:
        """Run the model once.

        Parameters
        ----------
        *inputs, **named
            One value per input: by position, in the order of ``get_input_details()``, or by the
            tensor's name (``run(**{"serving_default_x:0": x})``).  What goes to a quantized tensor
            is anything that `zeropoint.quantize` takes (float32 for LiteRT's bits: float64 is
            computed in float64); what goes to any other tensor is passed on as it is.

        Returns
        -------
        list of numpy.ndarray
            One array per output, in the order of ``get_output_details()``: float32 from a quantized
            tensor, as it is from any other.

        Raises
        ------
        TypeError, ValueError
            A missing or unknown input; a value that `zeropoint.quantize`, or ``set_tensor``,
            refuses.  No tensor is set before all values are quantized.
        """
        if named or len(inputs) != len(self._inputs):
            inputs = self._in_order(inputs, named)
        ready = []
        for (name, index, p), value in zip(self._inputs, inputs, strict=True):
            try:
                ready.append((index, value if p is None else zp.quantize(value, p)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"input {name!r}: {error}") from None
        for index, value in ready:
            self._interpreter.set_tensor(index, value)
        self._interpreter.invoke()
        results = []
        for _, index, p in self._outputs:
            value = self._interpreter.get_tensor(index)
            results.append(value if p is None else zp.dequantize(value, p))
        return results

    def _in_order(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        names = [name for name, _, _ in self._inputs]
        rest = names[len(inputs) :]
        if named and len(set(rest)) < len(rest):
            raise TypeError(f"the inputs are {names}: names occur twice, so pass all by position")
        if len(inputs) > len(names) or named.keys() != set(rest):
            given = f"{len(inputs)} by position" + "".join(f", {name!r}" for name in named)
            raise TypeError(f"the inputs are {names}, each needed once; given are {given}")
        return (*inputs, *(named[name] for name in rest))


def _port(
    detail: Mapping[str, Any], convention: str | None
) -> tuple[str, int, zp.QuantParams | None]:
    """Name and index of an input or output, and its parameters if it is quantized."""
    name, found = _quantization(detail, "index")
    index = _integer(detail["index"], "index", name)
    if index < 0:
        raise ValueError(f"tensor {name!r} has index {index}, which must be >= 0; pass {_SOURCE}")
    in_blocks = _block_size(found, name) != 0  # wherever their scales are
    quantized = in_blocks or _numbers(found["scales"], "scales", "fiu", name).size > 0
    return name, index, params(detail, convention=convention) if quantized else None


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
