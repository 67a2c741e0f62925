"""The compiled core; `_backend` alone touches it."""

from typing import Any

from ._reference import Array

class Params: ...
class Choice: ...

def make_params(
    scale: Array,
    zero_point: Array,
    qmin: int,
    qmax: int,
    is_signed: bool,
    convention: int,
    axis: int | None,
    block: int,
    /,
) -> Params: ...
def make_choice(
    rule: int,
    include_zero: bool,
    symmetric: bool,
    qmin: int,
    qmax: int,
    convention: int,
    /,
) -> Choice: ...
def isas() -> list[str]: ...
def set_num_threads(n: int, /) -> None: ...
def get_num_threads() -> int: ...
def enter_ieee() -> int: ...
def leave_ieee(state: int, /) -> None: ...
def info() -> dict[str, Any]: ...

# the fast path: None where anything is not plain
def fast_quantize(isa: int, x: object, params: Params, out: object, /) -> Array | None: ...
def fast_dequantize(isa: int, q: object, params: Params, out: object, /) -> Array | None: ...
def fast_fake_quantize(isa: int, x: object, params: Params, out: object, /) -> Array | None: ...
def make_fast_entries(
    state: object, params_type: type, functions: tuple[Any, ...], docs: list[str], /
) -> tuple[Any, ...]: ...
def fast_min_max(isa: int, x: object, axis: int | None, /) -> tuple[Array, Array] | None: ...
def choose_and_quantize(
    isa: int,
    x: object,
    out: object,
    with_codes: bool,
    is_signed: bool,
    choice: Choice,
    axis: int | None,
    block: int,
    /,
) -> tuple[Any, Array, Array, Params] | None: ...

# None where the answer is not a plain one
def choose(low: Array, high: Array, choice: Choice, /) -> tuple[Array, Array] | None: ...

# behind Python's checks: C-contiguous, aligned arrays of one shape; bfloat16 as uint16
def quantize_into(
    isa: int, source: Array, target: Array, source_bf16: bool, target_bf16: bool, params: Params, /
) -> None: ...
def dequantize_into(
    isa: int, source: Array, target: Array, source_bf16: bool, target_bf16: bool, params: Params, /
) -> None: ...
def fake_quantize_into(
    isa: int, source: Array, target: Array, source_bf16: bool, target_bf16: bool, params: Params, /
) -> None: ...
def requantize_into(
    isa: int,
    source: Array,
    target: Array,
    source_bf16: bool,
    target_bf16: bool,
    params: Params,
    multiplier: Array,
    /,
) -> None: ...
def saturate_into(
    isa: int,
    source: Array,
    target: Array,
    source_bf16: bool,
    target_bf16: bool,
    low: int,
    high: int,
    /,
) -> None: ...
def saturate_cast_into(
    isa: int, source: Array, target: Array, source_bf16: bool, target_bf16: bool, is_signed: bool, /
) -> None: ...
def round_into(
    isa: int, source: Array, target: Array, source_bf16: bool, target_bf16: bool, ties_away: bool, /
) -> None: ...
def quotients(a: Array, b: Array) -> Array: ...
def min_max(
    isa: int, source: Array, axis: int | None, block: int, bfloat16: bool, /
) -> tuple[Array, Array]: ...
def histogram(
    isa: int, source: Array, axis: int | None, bfloat16: bool, exponents: Array, /
) -> Array: ...
