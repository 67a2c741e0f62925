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
        `detail` is not a dictionary.
    ValueError
        A tensor that is not uint8 or int8; one without scales; one quantized in blocks; scales
        that do not fit its shape, or that are not finite and > 0.

    Notes
    -----
    LiteRT shows 4-bit tensors as int8, so their parameters have qmin -128 and qmax 127.
    """
    name, found = _quantization(detail)
    try:
        dtype = np.dtype(detail["dtype"])
    except Exception:  # NumPy has many for what is no dtype
        raise TypeError(
            f"tensor {name!r} has dtype {_checks.shown(detail['dtype'])}, which NumPy does not know"
        ) from None
    scales = np.asarray(found["scales"])
    zeros = np.asarray(found["zero_points"])
    block_size = _block_size(name, found)
    if dtype not in (np.uint8, np.int8):
        raise ValueError(
            f"tensor {name!r} is {dtype}: only uint8 and int8 tensors are supported, and float "
            "ones need no parameters"
        )
    if block_size:
        raise ValueError(
            f"tensor {name!r} is quantized in blocks of {block_size}; only tensors with one scale, "
            "or one a channel, are supported"
        )
    if scales.size == 0:
        raise ValueError(f"tensor {name!r} is {dtype} without scales: these are plain integers")
    if scales.ndim != 1 or zeros.ndim != 1:
        raise ValueError(
            f"tensor {name!r} has scales or zero_points that are not 1-D; pass {_SOURCE}"
        )
    axis = None
    if scales.size > 1:
        axis = _checks.integer(found["quantized_dimension"], "quantized_dimension")
    if np.ndim(detail["shape"]) != 1:
        raise TypeError(
            f"tensor {name!r} has shape {_checks.shown(detail['shape'])}, which is no list of "
            f"lengths; pass {_SOURCE}"
        )
    shape = tuple(_checks.integer(n, "shape") for n in detail["shape"])
    if axis is not None and (not 0 <= axis < len(shape) or shape[axis] != scales.size):
        raise ValueError(
            f"tensor {name!r} has {scales.size} scales along dimension {axis}, which do not fit "
            f"its shape {shape}"
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
    ValueError
        An input or an output whose codes are not uint8 or int8 (int16, say), or are in blocks.
    """

    def __init__(self, interpreter: Any, *, convention: str | None = None) -> None:
        self._interpreter = interpreter
        self._inputs = [_port(detail, convention) for detail in interpreter.get_input_details()]
        self._outputs = [_port(detail, convention) for detail in interpreter.get_output_details()]

    def __call__(self, *inputs: Any, **named: Any) -> list[Array]:
        """Run the model once.

        Parameters
        ----------
        *inputs, **named
            One value an input: by position, in the order of ``get_input_details()``, or by the
            tensor's name (``run(**{"serving_default_x:0": x})``).  What goes to a quantized tensor
            is anything that `zeropoint.quantize` takes (float32 for LiteRT's bits: float64 is
            computed in float64); what goes to any other tensor is passed on as it is.

        Returns
        -------
        list of numpy.ndarray
            One array an output, in the order of ``get_output_details()``: float32 from a quantized
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
        if len(inputs) > len(names) or named.keys() != set(rest):
            given = f"{len(inputs)} by position" + "".join(f", {name!r}" for name in named)
            raise TypeError(f"the inputs are {names}, each needed once; given are {given}")
        return (*inputs, *(named[name] for name in rest))


def _port(
    detail: Mapping[str, Any], convention: str | None
) -> tuple[str, int, zp.QuantParams | None]:
    """Name and index of an input or output, and its parameters if it is quantized."""
    name, found = _quantization(detail)
    quantized = np.size(found["scales"]) > 0 or _block_size(name, found)
    p = params(detail, convention=convention) if quantized else None
    return name, _integer(name, detail["index"], "index"), p


def _block_size(name: str, found: Mapping[str, Any]) -> int:
    """0 where there are no blocks; older interpreters have no such key."""
    value = found.get("block_size")
    return 0 if value is None else _integer(name, value, "block_size")


def _integer(name: str, value: object, what: str) -> int:
    try:
        return _checks.integer(value, what)
    except TypeError as error:
        raise TypeError(f"tensor {name!r}: {error}") from None


def _quantization(detail: Any) -> tuple[str, Mapping[str, Any]]:
    """The tensor's name and its ``quantization_parameters``; an error unless `detail` is one."""
    if not isinstance(detail, Mapping):
        raise TypeError(
            f"detail must be {_SOURCE}, not {type(detail).__name__}; for example "
            "interpreter.get_input_details()[0]"
        )
    missing = {"name", "shape", "dtype", "quantization_parameters"} - detail.keys()
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
