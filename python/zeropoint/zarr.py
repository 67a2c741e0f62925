"""A Zarr v3 codec: float arrays that are stored as 8-bit codes.

The parameters stand in the array's metadata, so the store explains itself.  Zarr finds the codec
by its entry point: whoever has zeropoint installed reads such an array without importing this
module.  Needs the packages of the extra ``zarr``.

>>> import numpy as np, zarr, zeropoint as zp
>>> from zeropoint.zarr import AffineCodec
>>> x = np.linspace(-1, 3, 1000, dtype=np.float32)
>>> codec = AffineCodec(zp.choose_params(x))
>>> stored = zarr.create_array({}, data=x, chunks=(100,), filters=[codec])
>>> bool(np.array_equal(stored[:], codec.params.dequantize(codec.params.quantize(x))))
True
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import _backend, _checks, _params
from ._extras import missing
from ._params import OffsetParams, QuantParams
from ._reference import working_dtype

try:
    from zarr.abc.codec import ArrayArrayCodec
    from zarr.dtype import Int8, UInt8
except ImportError as error:
    raise missing("zarr", "zeropoint.zarr") from error

__all__ = ["NAME", "AffineCodec"]

NAME = "zeropoint.affine"  #: of the codec, in the metadata of arrays and in the entry point


@_checks.initialised_once
@dataclass(frozen=True)
class AffineCodec(ArrayArrayCodec):
    """`quantize` on the way into a Zarr array, `dequantize` on the way out.

    It must be the first of the array's filters, which a codec cannot check: it reads the array's
    own dtype, shape and fill value.  Serializers and compressors follow as usual, and see the
    codes.  With ``shards=`` Zarr puts all filters inside its sharding codec, where this one cannot
    learn the shape of the array; so there it takes parameters without an axis.  Others go before
    the sharding: ``chunks=shard, serializer=ShardingCodec(chunk_shape=chunk)``.

    Parameters
    ----------
    params
        A `QuantParams` or an `OffsetParams`.  Per tensor, since a chunk does not know its place in
        the array.  With an axis every chunk must span that axis, with blocks the whole array must
        be one chunk.
    check_finite
        Refuse to write what no code stands for (ValueError): Inf, and NaN unless the parameters
        have a `nan_code`.  False turns it off: NaN is then stored as qmin, and +-Inf as qmax or
        qmin, as by `quantize`.  Values beyond the range of the parameters are saturated in any
        case.  It is part of the array's metadata, so it holds for whoever writes to the array.

    Raises
    ------
    TypeError
        `params` is neither of the two.  When an array is created or opened: its dtype is not
        float16, float32 or float64.
    ValueError
        When an array is created or opened: parameters that do not fit it, or its chunks; a scale
        that is lost in its precision; a fill value that the codes cannot hold (Inf, NaN without a
        `nan_code`, or outside the range of the parameters).  When data are read or written:
        parameters with an axis inside a sharding codec.

    Notes
    -----
    What is read is ``dequantize(quantize(x))`` in the array's dtype, to the bit.  A chunk that was
    never written, or that is all fill value, is not stored, and reads as the exact fill value.
    Writing to a part of a chunk decodes and encodes the rest of it, which keeps its codes, unless
    the array's dtype is too coarse for the values to tell them apart: zero points far outside of
    [qmin, qmax] (``include_zero=False``), or offsets far from 0 for their scales.
    """

    params: QuantParams | OffsetParams
    check_finite: bool = True
    _validated: bool = field(default=False, init=False, repr=False, compare=False)

    is_fixed_size = True

    def __post_init__(self) -> None:
        if not isinstance(self.params, (QuantParams, OffsetParams)):
            raise TypeError(
                f"params must be a QuantParams or an OffsetParams, not {self.params!r}; use "
                "zeropoint.choose_params"
            )
        _checks.flag(self.check_finite, "check_finite")

    # -- metadata -------------------------------------------------------------------------------

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AffineCodec:
        """The codec that `to_dict` wrote into the metadata."""
        configuration = data.get("configuration") if isinstance(data, dict) else None
        if not isinstance(configuration, dict) or not (
            {"params"} <= set(configuration) <= {"params", "check_finite"}
        ):
            raise ValueError(
                f"the configuration of codec {NAME!r} must have params, and may have "
                f"check_finite; it is {_checks.shown(configuration)}"
            )
        params = _params.from_dict(configuration["params"])
        return cls(params, configuration.get("check_finite", True))

    def to_dict(self) -> dict[str, Any]:
        """Name and configuration, in plain values that JSON holds exactly."""
        configuration = {"params": self.params.to_dict(), "check_finite": self.check_finite}
        return {"name": NAME, "configuration": configuration}

    def evolve_from_array_spec(self, array_spec: Any) -> AffineCodec:
        """One for this array, once its dtype, shape and fill value are found to fit."""
        dtype = array_spec.dtype.to_native_dtype()
        _checks.real_dtype(dtype.newbyteorder("="), "the array's dtype")
        self.params._check_precision(working_dtype(dtype))
        self.params._check_fits(array_spec.shape)
        _check_fill(array_spec.fill_value, self.params)
        return replace(self)

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """ValueError unless the parameters fit every chunk."""
        axis, block_size = self.params.axis, self.params.block_size
        if axis is None:
            return
        chunks = chunk_grid.chunk_shape
        try:
            self.params._check_fits(chunks)
        except ValueError:
            axis %= len(shape)
            fix = (*chunks[:axis], shape[axis], *chunks[axis + 1 :])
            raise ValueError(
                f"chunks {tuple(chunks)} cut the axis of params (axis {axis}, block_size "
                f"{block_size}), and a chunk does not know its place in the array; pass chunks="
                f"{fix if block_size is None else tuple(shape)}, or parameters without axis"
            ) from None
        object.__setattr__(self, "_validated", True)

    def resolve_metadata(self, chunk_spec: Any) -> Any:
        """The input of the codecs that follow: a chunk of codes."""
        dtype = UInt8() if self.params.dtype == np.uint8 else Int8()
        return replace(
            chunk_spec,
            dtype=dtype,
            fill_value=dtype.default_scalar(),
            # else a sharding codec after this one leaves out shards of equal codes, and they
            # would be read as the fill value of the floats
            config=replace(chunk_spec.config, write_empty_chunks=True),
        )

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """Bytes of the codes for so many bytes of floats."""
        return input_byte_length // int(chunk_spec.dtype.to_native_dtype().itemsize)

    # -- data -----------------------------------------------------------------------------------
    # In the calling thread, as zarr's own array codecs do: large chunks use zeropoint's threads.

    async def _encode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        self._check_validated()
        values = chunk_data.as_numpy_array()
        if self.check_finite:
            nan = self.params.nan_code is not None
            stored = f"Inf as {self.params.qmax}" if nan else f"NaN as {self.params.qmin}"
            more = "" if nan else "pass parameters with a nan_code, which keep NaN, or "
            more += f"pass AffineCodec(..., check_finite=False), which stores {stored}, or "
            _checks.finite(values, "chunk", shaped=True, nan=nan, more=more)
        codes = self.params.quantize(values)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(codes)

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        self._check_validated()
        dtype = chunk_spec.dtype.to_native_dtype().newbyteorder("=")
        values = self.params.dequantize(chunk_data.as_numpy_array(), dtype=dtype)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(values)

    def _check_validated(self) -> None:
        """ValueError inside a sharding codec, which validates none of its own, if that matters."""
        if self.params.axis is not None and not self._validated:
            raise ValueError(
                f"params have axis {self.params.axis}, and inside a sharding codec nothing says "
                "whether they fit the array; in place of shards= pass chunks=(the shard's shape) "
                "and serializer=ShardingCodec(chunk_shape=...), or parameters without axis"
            )


@_backend.ieee
def _check_fill(fill_value: Any, params: QuantParams | OffsetParams) -> None:
    """ValueError unless codes stand for `fill_value`, to within half a step."""
    if params.nan_code is not None and np.isnan(fill_value):
        return
    low, high = (
        params._decoded(np.asarray(code, params.dtype), *params._arrays, np.dtype(np.float64))
        for code in (params.qmin, params.qmax)
    )
    half = np.asarray(params.scale, np.float64) / 2

    def held(value: Any) -> bool:
        return bool(((low - half <= value) & (value <= high + half)).all())

    if not held(fill_value):
        fixes = ["fill_value=0.0"] if held(0.0) else []
        first, last = low.max(initial=-np.inf), high.min(initial=np.inf)
        if not fixes and first <= last:
            fixes.append(f"a fill_value from {first} to {last}")
        if np.isnan(fill_value) or not fixes:  # all channels have the code of NaN
            fixes.append("parameters with a nan_code, and fill_value=nan")
        raise ValueError(
            f"fill_value {fill_value} is not among the values that the codes stand for, so what "
            f"is not written in a chunk would read as another value; pass {' or '.join(fixes)}"
        )
