"""CF packing: the attributes by which netCDF and Zarr say what codes stand for.

``x = q * scale_factor + add_offset``, and a code equal to ``_FillValue`` is missing (CF
conventions, section 8.1).  Which precision the numbers have is what xarray's decoder makes of
their types.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from . import _checks

SCALE, OFFSET = "scale_factor", "add_offset"
FILLS = ("_FillValue", "missing_value")
VALID = ("valid_min", "valid_max", "valid_range")
UNSIGNED = "_Unsigned"


class Packing(NamedTuple):
    """What attributes say, checked."""

    scale: Any  #: numpy.float32 or float64, and the offset of the same type
    offset: Any
    dtype: np.dtype[Any]  #: of the codes, which with `_Unsigned` are stored as another
    nan_code: int | None

    def beside_fill(self) -> tuple[int | None, int | None]:
        """qmin and qmax for a fill code strictly within the dtype: the larger part of the codes.

        All codes have values; these are the ones that `quantize` may give.
        """
        info = np.iinfo(self.dtype)
        if self.nan_code is None or self.nan_code in (info.min, info.max):
            return None, None
        below, above = self.nan_code - int(info.min), int(info.max) - self.nan_code
        return (self.nan_code + 1, None) if above >= below else (None, self.nan_code - 1)


def read(attributes: Any, dtype: Any = None) -> Packing:
    """The packing that `attributes` describe; TypeError or ValueError where they are none of ours.

    Both numbers np.float32, or a lone np.float32 scale_factor, are float32; all else is float64,
    Python's floats too, as Zarr's attributes are.
    """
    if not isinstance(attributes, Mapping):
        raise TypeError(
            f"attributes must be a mapping, as variable.attrs is, not {type(attributes).__name__}"
        )
    given = [name for name in (SCALE, OFFSET) if attributes.get(name) is not None]
    if not given:
        raise ValueError(
            f"attributes have neither scale_factor nor add_offset, but {_names(attributes)}: "
            "nothing is packed; pass those of a packed variable, read with mask_and_scale=False"
        )
    dtype = _stored(attributes, dtype)
    numbers = {name: _number(attributes[name], name) for name in given}
    single = SCALE in given and all(isinstance(attributes[name], np.float32) for name in given)
    real = np.float32 if single else np.float64
    scale, offset = real(numbers.get(SCALE, 1)), real(numbers.get(OFFSET, 0))
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(
            f"scale_factor is {scale}: it must be finite and > 0; decode such data with xarray"
        )
    if not np.isfinite(offset):
        raise ValueError(f"add_offset is {offset}: it must be finite")
    return Packing(scale, offset, dtype, _fill(attributes, dtype))


def valid_range(
    attributes: Mapping[str, Any], dtype: np.dtype[Any], *given: int | None
) -> list[int | None]:
    """The qmin and qmax `given`, else the first and last valid code that `attributes` name.

    Real numbers there are about the unpacked data (NetCDF Users Guide, "valid_range").
    """
    both = attributes.get("valid_range")
    ends = [None, None] if both is None else np.ravel(both).tolist()
    if len(ends) != 2:
        raise ValueError(f"valid_range {_checks.shown(both)} must be two codes")
    found = list(given)
    for i, name in enumerate(("valid_min", "valid_max")):
        end = attributes.get(name) if ends[i] is None else ends[i]
        if found[i] is None and end is not None and np.asarray(end).dtype.kind in "iu":
            found[i] = _as_code(end, name, dtype, UNSIGNED in attributes)
    return found


def zero_point(scale: Any, offset: Any) -> int:
    """The integer zero point; ValueError unless the offset is a multiple of the scale.

    To within the rounding of both attributes: half a unit in the last place of each.
    """
    exact = Fraction(float(scale)), Fraction(float(offset))
    zero = round(-exact[1] / exact[0])
    half_ulps = [Fraction(float(np.spacing(np.abs(each)))) / 2 for each in (scale, offset)]
    if abs(exact[1] + zero * exact[0]) > abs(zero) * half_ulps[0] + half_ulps[1]:
        away = -exact[1] / exact[0] - zero
        rest = f"{'-' if away < 0 else '+'} {float(abs(away)):.3g}"
        raise ValueError(
            f"add_offset {offset} is no multiple of scale_factor {scale}: the zero point would be "
            f"{_checks.shown(zero)} {rest}; use OffsetParams.from_cf, which keeps real offsets"
        )
    return zero


def _stored(attributes: Mapping[str, Any], dtype: Any) -> np.dtype[Any]:
    """The dtype of the codes as they are meant."""
    if dtype is None:
        dtype = attributes.get("dtype")
    if dtype is None:
        raise ValueError(
            "attributes do not say which dtype the codes have; pass dtype='uint8' or 'int8', or "
            "put it among the attributes, for example as {'dtype': variable.dtype}"
        )
    stored = _checks.code_dtype(dtype)
    unsigned = attributes.get(UNSIGNED)
    if unsigned is None:
        return stored
    meant = {"true": "uint8", "false": "int8"}.get(str(unsigned).lower())
    if meant is None:
        raise ValueError(f"_Unsigned {_checks.shown(unsigned)} must be 'true' or 'false'")
    return np.dtype(meant)


def _number(value: Any, name: str) -> Any:
    found = np.asarray(value)
    if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8:
        raise TypeError(f"{name} must be a real number, not {_checks.shown(value)}")
    if found.size != 1:
        raise ValueError(f"{name} must be one number, not {found.size}: {_checks.shown(value)}")
    return found.reshape(())[()]


def _fill(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> int | None:
    fills = {
        _as_code(each, name, dtype, UNSIGNED in attributes)
        for name in FILLS
        if attributes.get(name) is not None
        for each in np.ravel(attributes[name]).tolist()
    }
    if len(fills) > 1:
        raise ValueError(
            f"_FillValue and missing_value name {len(fills)} codes, {sorted(fills)}, and "
            "parameters have one nan_code; map them to one code, and leave the others out"
        )
    return fills.pop() if fills else None


def _as_code(value: Any, name: str, dtype: np.dtype[Any], bytewise: bool) -> int:
    """An integral number as a code; `bytewise`: the same byte of the other signedness will do."""
    found, info = np.asarray(value), np.iinfo(dtype)
    if found.size == 1 and found.dtype.kind in "fiu":
        number = found.item()
        if number in range(info.min, info.max + 1):
            return int(number)
        if bytewise and number in range(-128, 256):
            return int(np.asarray(int(number) % 256, np.uint8).view(dtype))
    raise ValueError(
        f"{name} {_checks.shown(value)} is no code of {dtype}, {info.min} to {info.max}; leave it "
        "out where no code is meant"
    )


def _names(attributes: Mapping[Any, Any]) -> str:
    return _checks.shown([*map(str, attributes)]) if attributes else "none"
