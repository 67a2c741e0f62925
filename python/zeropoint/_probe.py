"""Which convention is it: `probe` asks a quantizer at the inputs at which recipes differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _checks, testing
from ._backend import ieee
from ._diagnose import Diagnosis, ranked
from ._params import Params, checked
from ._recipes import Evaluation, Points, Problem, base
from ._reference import Array
from .testing import Difference


@_checks.initialised_once
@dataclass(frozen=True)
class Probe(Diagnosis):
    """What `probe` finds: a `Diagnosis` of the codes that a quantizer gave.

    `differences` are those from the convention of the best explanation as it is, kind by kind.
    """

    differences: tuple[Difference, ...] = ()

    def _details(self) -> Iterator[str]:
        if self.differences:
            yield f"Beside `{self.best.convention}`:"
            yield from (f"  {each}" for each in self.differences)
        yield from super()._details()


def probe(function: Callable[[Array], Any], params: Params) -> Probe:
    """Which convention a quantizer has, or how its codes differ from the nearest.

    Parameters
    ----------
    function
        ``function(x) -> codes``, somebody's quantizer with the numbers of `params`.  `x` is
        float32: 1-D; with an axis, the channels along that axis and inputs along another; with
        blocks, one block for each scale, in several calls.  The codes are an array in the shape of
        `x`, or what NumPy can view.  Warnings of NumPy's arithmetic are off while it runs.
    params
        The parameters, a QuantParams or an OffsetParams.

    Returns
    -------
    Probe
        A `Diagnosis` of its codes, as by `diagnose`, with the `differences` by kinds of inputs
        (`zeropoint.testing.KINDS`).  ``str()`` says first which convention it is, then how it
        differs, with examples.

    Raises
    ------
    TypeError
        `function` is not callable, or returns no numbers; `params` are of another type.
    ValueError
        `function` returns another shape; `params` without a scale.  What `function` itself raises
        gets a note of what it was given.

    Examples
    --------
    >>> import numpy as np, zeropoint as zp
    >>> params = zp.QuantParams(0.1, 3)
    >>> found = zp.probe(lambda x: zp.quantize(x, params.replace(convention="torch")), params)
    >>> found.same
    ('torch',)
    """
    params = checked(params, call="zp.probe(function, ")
    given, x, kinds, calls, axis = testing.inputs(params)
    parts = [testing.called(function, part) for part in np.split(x, calls, axis)]
    q = np.concatenate(parts, axis=axis)
    found = ranked(x, q, given)
    expected = _as_it_is(x, q, given, found.best.convention)
    differences = testing.differences(x, q, expected, kinds)
    fields = {name: getattr(found, name) for name in Diagnosis.__dataclass_fields__}
    fields |= {"paragraph": _paragraph(found), "differences": tuple(differences)}
    return Probe(**fields)


def _paragraph(found: Diagnosis) -> str:
    best, size = found.best, found.size
    if found.same:
        names = " or ".join(f"`{name}`" for name in found.same)
        more = ", which these parameters do not tell apart" if len(found.same) > 1 else ""
        return f"This is {names}{more}: equal in all {size} codes."
    if not best.mistakes:
        return f"Nearest is `{best.convention}`: equal in {best.matched} of {size} codes."
    if best.matched == size:
        return f"This is `{best.convention}`, but {best.name}: all {size} codes. {best.text}"
    return f"{found.paragraph[0].upper()}{found.paragraph[1:]}"


@ieee
def _as_it_is(x: Array, q: Array, params: Params, convention: str) -> Array:
    """The codes of a convention, whichever numbers it keeps."""
    problem = Problem(x, q, params)
    codes = Evaluation(problem, Points(problem, np.arange(x.size))).codes(base(convention))
    return codes.astype(np.int64).reshape(x.shape)
