"""A quantized tensor as any format stores it: which tensors belong together, and how each is read
and written.

A format is a row of `formats.FORMATS`, which finds the tensors that are stored in its way, and a
scheme, which plans how tensors of values will be.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import _backend, _checks
from .._conventions import OFFSET_CONVENTIONS
from .._layout import Layout
from .._params import OffsetParams, Params, QuantParams
from .._reference import Array
from .container import Container
from .source import AGAIN, Source, Stream, Tensor, fault, real_dtype
from .target import Region

Output = tuple[str, tuple[int, ...]]  #: dtype (a word) and shape of a tensor that is written
Pair = tuple[Array, Array]


def type_of(convention: object) -> type[QuantParams] | type[OffsetParams]:
    """That of parameters of a convention, by its canonical name."""
    return OffsetParams if convention in OFFSET_CONVENTIONS else QuantParams


class Reader(Protocol):
    """Codes and parameters, front to back."""

    def params(self, chunk: Layout) -> Pair:
        """The two arrays of the parameters of the next chunk."""

    def codes(self, shape: tuple[int, ...]) -> Array:
        """The next codes of that chunk."""


class Writer(Protocol):
    """Takes the parameters of each chunk, and then its codes, front to back."""

    def params(self, params: Params) -> None: ...

    def codes(self, codes: Array) -> None: ...


class Quantized(NamedTuple):
    """A quantized tensor in a container; its parameters are still there."""

    name: str  #: of the tensor of values
    dtype: str  #: of the values, one of `REALS`
    fields: dict[str, Any]  #: of the parameters, all but their two arrays
    shape: tuple[int, ...]  #: of the values
    format: str
    parts: tuple[Tensor, ...]  #: what it is stored in, the codes first
    reader: Callable[[Container], contextlib.AbstractContextManager[Reader]]
    #: where parameters and codes lie together in blocks: bytes of whole blocks to values of a
    #: dtype, and a bound of their errors
    decode: Callable[[Array, np.dtype[Any]], tuple[Array, float]] | None = None

    @property
    def layout(self) -> Layout:
        return Layout(self.shape, self.fields["axis"], self.fields["block_size"])

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def assembled(
        self, container: Container, step: Array, origin: Array, axis: Any
    ) -> QuantParams | OffsetParams:
        """Parameters of two arrays that were read; `axis` is that of their chunk."""
        kind = type_of(self.fields["convention"])
        try:
            return kind._made(step, origin, self.fields | {"axis": axis})
        except ValueError as error:
            path = container.path_of(self.parts[0])
            raise fault(path, f"tensor {self.name!r}: {error}", AGAIN) from None


class Plan(NamedTuple):
    """How a tensor of values will be stored."""

    fields: dict[str, Any]  #: as in `Quantized`
    #: minimum, maximum, axis and block size to parameters, as in `Choice.params`
    choose: Callable[[Array, Array, int | None, int | None], Params]
    outputs: dict[str, Output]  #: by name
    writer: Callable[[list[Region]], Writer]  #: with a region for each output
    error: float = 0.5  #: of a value at most, in steps
    #: whether the ranges are those of the data without NaN; None: the caller cannot ask for it
    skip_nan: bool | None = None


class BlockPlan(NamedTuple):
    """The same where parameters and codes lie together in blocks, of one output."""

    fields: dict[str, Any]  #: the blocks are of consecutive elements
    outputs: dict[str, Output]
    encode: Callable[[Array], tuple[Array, float]]  #: values to bytes, and a bound of the errors
    decode: Callable[[Array, np.dtype[Any]], tuple[Array, float]]  #: as in `Quantized`


AnyPlan = Plan | BlockPlan
Planned = Mapping[str, tuple[Tensor, AnyPlan]]  #: of the tensors of values, by name


class Format(NamedTuple):
    """How tensors that are stored in one way are found."""

    #: the names of the tensors of values, by the headers alone
    names: Callable[[Container], Iterable[str]]
    #: one of them, its parts checked
    one: Callable[[Container, str], Quantized]
    #: a file's metadata without what they say of these tensors, which are values again
    forget: Callable[[dict[str, str], Collection[str]], dict[str, str]] = lambda kept, _: kept


class Scheme(Protocol):
    """A format and its options, for writing."""

    def reason_to_keep(self, tensor: Tensor) -> str | None:
        """Why a float tensor of values cannot be stored so, or None."""

    def plan(self, container: Container, tensor: Tensor) -> AnyPlan: ...

    def metadata(self, source: Source, planned: Planned) -> dict[str, str]:
        """The metadata of the file that takes the place of `source`."""

    def config(self, container: Container, planned: Planned) -> dict[str, Any] | None:
        """What ``config.json`` gains for an engine that loads a folder of such tensors, or None."""


class ModelFormat(NamedTuple):
    """A format in which the linear layers of a model are written."""

    scheme: Callable[..., Scheme]  #: of the options that are given
    options: tuple[str, ...] = ()  #: arguments of `quantize_checkpoint`
    of_folders: bool = False  #: a single file is no model


# ---------------------------------------------------------------------------------------------
# Codes, and the two arrays of the parameters, in tensors of their own


class Numbers(Protocol):
    """What a `Stream` is here: gives the next numbers in a shape."""

    def array(self, shape: tuple[int, ...]) -> Array: ...


class Ready:
    """Numbers that are in memory."""

    def __init__(self, values: Array) -> None:
        self._values, self._at = values.reshape(-1), 0

    def array(self, shape: tuple[int, ...]) -> Array:
        first, self._at = self._at, self._at + math.prod(shape)
        return self._values[first : self._at].reshape(shape)


class _Apart:
    def __init__(self, codes: Stream, step: Stream, origin: Numbers | None, decode: Decode) -> None:
        self._codes, self._step, self._origin, self._decode = codes, step, origin, decode

    def params(self, chunk: Layout) -> Pair:
        shape = chunk.params_shape
        step = self._step.array(shape)
        if step.itemsize < 4:
            step = step.astype(np.float32)  # exact
        if self._origin is None:
            return step, np.zeros(shape, np.int32)
        origin = self._origin.array(shape)
        return step, origin.astype(np.int32, copy=False) if origin.dtype.kind == "i" else origin

    def codes(self, shape: tuple[int, ...]) -> Array:
        return self._decode(self._codes, shape)


Decode = Callable[[Stream, tuple[int, ...]], Array]  #: the next codes of a stream


@contextlib.contextmanager
def apart(
    container: Container,
    codes: Tensor,
    step: Tensor,
    origin: Tensor | Ready | None = None,
    decode: Decode = Stream.array,
) -> Iterator[Reader]:
    """A reader where each part is a tensor; without zero points they are 0."""
    with contextlib.ExitStack() as stack:
        yield _Apart(
            stack.enter_context(container.stream(codes)),
            stack.enter_context(container.stream(step)),
            stack.enter_context(container.stream(origin)) if isinstance(origin, Tensor) else origin,
            decode,
        )


class Apart:
    """The writer where each part is a tensor: codes, and the two arrays of the parameters.

    Without a region for them zero points are 0.  `real` is the dtype of what is no integer.
    """

    def __init__(
        self, regions: list[Region], real: str, encode: Callable[[Array], Array] | None = None
    ) -> None:
        self._codes, *self._arrays = regions
        self._real, self._encode = real_dtype(real), encode

    def params(self, params: Params) -> None:
        for region, array in zip(self._arrays, params._arrays, strict=False):
            region.write(array if array.dtype.kind == "i" else array.astype(self._real))

    def codes(self, codes: Array) -> None:
        self._codes.write(codes if self._encode is None else self._encode(codes))


def check_free(container: Container, tensor: Tensor, names: Iterable[str]) -> None:
    """ValueError if one of the names that the parts of `tensor` will have is another's."""
    for name in names:
        if name != tensor.name and name in container.tensors:
            raise fault(
                container.path_of(tensor),
                f"it has a tensor {name!r}, the name of the parameters of {tensor.name!r}",
                f"rename it, or keep {tensor.name!r} as it is",
            )


# ---------------------------------------------------------------------------------------------
# Symmetric int8, as other engines' formats have it

#: of `QuantParams`, where zero points are 0 and all codes are taken
INT8: dict[str, Any] = {
    "dtype": "int8",
    "qmin": -128,
    "qmax": 127,
    "convention": "numpy",
    "include_zero": True,
    "nan_code": None,
}


@_checks.initialised_once
@dataclass(frozen=True)
class Symmetric:
    """Zero point 0, and ``scale = max|x| / divisor`` as the file will keep it.

    The divisor is rounded to the working precision.  Where the stored dtype is so coarse, among its
    subnormals, that the largest value would be clipped by half a step, it is the next number.
    """

    stored: str  #: dtype of the scale in the file
    divisor: float = 127.0
    least: float = 0.0  #: no scale is smaller
    of_zeros: float = 1.0  #: the scale where all values are 0

    @_backend.ieee
    def params(
        self, low: Array, high: Array, axis: int | None = None, block_size: int | None = None
    ) -> QuantParams:
        """The parameters for data in [low, high], as in `Choice.params`."""
        peak = np.maximum(np.abs(low), np.abs(high))
        scale = np.where(peak > 0, peak / peak.dtype.type(self.divisor), self.of_zeros)
        scale = np.maximum(scale, self.least).astype(real_dtype(self.stored))
        with np.errstate(divide="ignore"):
            short = peak / scale.astype(peak.dtype) > self.divisor + 0.5
        scale = np.where(short, np.nextafter(scale, scale.dtype.type(np.inf)), scale)
        return QuantParams(scale.astype(peak.dtype), 0, axis=axis, block_size=block_size, **INT8)
