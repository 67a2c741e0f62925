"""Embeddings in 8 bits: a quantizer that is fitted once and then codes rows and queries alike.

Codes and values are those of sentence-transformers and of faiss, to the bit, and there is a way
back.  The words are scikit-learn's, which is not needed.

>>> import numpy as np
>>> from zeropoint.embeddings import EmbeddingQuantizer
>>> table = np.random.default_rng(0).normal(size=(1000, 64)).astype(np.float32)
>>> quantizer = EmbeddingQuantizer("sentence-transformers").fit(table)
>>> codes = quantizer.transform(table)
>>> codes.dtype, codes.shape
(dtype('int8'), (1000, 64))
>>> bool((quantizer.transform(table[7]) == codes[7]).all())  # a query by the table's ranges
True
>>> error = np.abs(quantizer.inverse_transform(codes) - table)
>>> bool(error.max() < 0.501 * quantizer.params.scale.max())  # of a step
True
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import numpy as np

from . import _checks
from ._choice import choose_params, quantize_dynamic, range_of
from ._params import OffsetParams, QuantParams, _holds_only, dequantize, quantize
from ._reference import Array, working_dtype
from .observers import MinMaxObserver

__all__ = ["EmbeddingQuantizer", "Rows"]

#: the styles, and the dtype of the codes where none is given
_STYLES = {"sentence-transformers": "int8", "faiss": "uint8", "rows": "int8"}


class Rows(NamedTuple):
    """Rows of codes with a scale each, as the style ``"rows"`` makes them.

    Their values are ``codes * scales[..., None]``.
    The dot product with a row is the one with its codes, times its scale.
    """

    codes: Array  #: int8 [..., dimensions]
    scales: Array  #: float32, or float64 of float64 data, [...]


class EmbeddingQuantizer:
    """Quantizes embeddings, arrays [..., dimensions], in the style of a tool.

    ``"sentence-transformers"``
        A range for each dimension, from the data fitted.  Codes are those of
        ``quantize_embeddings`` of sentence-transformers 6.2, which defines no way back: the value
        of a code is the middle of its step.
    ``"faiss"``
        The same ranges, or with `uniform` one for all dimensions.  Codes and values are those of
        an ``IndexScalarQuantizer`` of faiss-cpu 1.15, ``QT_8bit`` or ``QT_8bit_uniform``.
    ``"rows"``
        No range is fitted: each row has a scale of its own, as from ``quantize_dynamic(x, "int8",
        axis=0, symmetric=True)``.  It needs no `fit`, which is then a check of the data.  Codes
        alone have no way back, so `transform` returns `Rows`, a pair of codes and scales.

    The first two have real offsets, and their `params` are an `OffsetParams` of float32, as ranges
    are in both tools.  What lies beyond the ranges saturates.

    The ranges depend on the data and on nothing else: any split, any order, any nesting of merges
    gives the same bits.  A quantizer is not for several threads that fit at once: give each one of
    its own and merge them.

    Parameters
    ----------
    style
        ``"sentence-transformers"``, ``"faiss"`` or ``"rows"``.
    dtype
        ``"int8"`` or ``"uint8"``, the type of the codes; None is uint8 for ``faiss``, which has no
        other, and else int8.  int8 codes of ``faiss`` are its own minus 128, for use outside of
        its indexes.  ``rows`` has int8 alone.
    uniform
        With ``faiss``: one range for all dimensions.

    Raises
    ------
    TypeError
        `dtype` is not uint8 or int8; `uniform` is not a bool.
    ValueError
        An unknown style; a `dtype` or `uniform` that the style does not have.
    """

    def __init__(
        self, style: str = "sentence-transformers", dtype: Any = None, *, uniform: bool = False
    ) -> None:
        self._style = _checks.name(style, "style", tuple(_STYLES))
        self._dtype = _checks.code_dtype(_STYLES[style] if dtype is None else dtype)
        self._uniform = _checks.flag(uniform, "uniform")
        if style == "rows" and self._dtype != np.int8:
            raise ValueError(
                f"style 'rows' has int8 codes, not {self._dtype}: their zero point is 0, so that "
                "they can be multiplied; leave dtype out"
            )
        if self._uniform and style != "faiss":
            raise ValueError(f"uniform=True is for the style 'faiss', not {style!r}; leave it out")
        self._observer = MinMaxObserver(axis=-1)
        #: those fitted, once they were asked for; or those of from_faiss
        self._params: Any = None  # OffsetParams
        self._given: int | None = None  # the number of dimensions of from_faiss

    @property
    def style(self) -> str:
        """Whose codes."""
        return self._style

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the codes."""
        return self._dtype

    @property
    def uniform(self) -> bool:
        """Whether all dimensions share one range."""
        return self._uniform

    @property
    def dimensions(self) -> int | None:
        """The length of the last axis of the data seen; None before there were any."""
        return self._given or (None if self._observer._empty else self._observer._ends[0].size)

    # -- the ranges -----------------------------------------------------------------------------

    def fit(self, x: Any) -> Self:
        """Take the ranges of `x` and forget all others; returns the quantizer itself.

        Parameters
        ----------
        x
            float16, bfloat16, float32 or float64 [..., dimensions].

        Raises
        ------
        TypeError
            `x` is not of a supported float dtype.
        ValueError
            NaN or Inf in `x` (count and first index); fewer than two rows, whose ranges would be
            one value each; ranges beyond float32.  The quantizer is as it was before.
        """
        x = _real(x)
        rows = math.prod(x.shape[:-1])
        if self._style != "rows" and rows < 2:
            raise ValueError(
                f"x has {rows} row{'s' * (rows != 1)} (shape {x.shape}), and ranges need two at "
                "least; fit the table and transform a query, or pass rows one by one to partial_fit"
            )
        fresh = type(self)(**self._recipe()).partial_fit(x)
        if self._style != "rows":
            fresh._params = fresh.params
        self.__dict__.update(fresh.__dict__)
        return self

    def partial_fit(self, x: Any) -> Self:
        """Widen the ranges to hold `x` too; returns the quantizer itself.

        As `fit`, but any number of rows will do, also none.  Another number of dimensions than
        before, or a quantizer of `from_faiss`: ValueError.
        """
        self._check_takes_data("partial_fit")
        x = self._rows(x)
        try:
            self._observer.update(x)
        except ValueError as error:
            raise _explained(error, x) from None
        self._params = None
        return self

    def merge(self, other: Self) -> Self:
        """Take in all that `other` has seen, as if its data had come here; returns the quantizer.

        Raises
        ------
        TypeError
            `other` is not an EmbeddingQuantizer.
        ValueError
            `other` has another style, dtype, `uniform` or number of dimensions, or one of the two
            comes from `from_faiss`.  The quantizer is as it was before.
        """
        if not isinstance(other, EmbeddingQuantizer):
            raise TypeError(
                f"other is a {type(other).__name__}; an EmbeddingQuantizer can only be merged with "
                "another"
            )
        if other._recipe() != self._recipe():
            raise ValueError(f"other is {other!r}, this one {self!r}; make both alike")
        for each in self, other:
            each._check_takes_data("merge")
        if not other._observer._empty:
            self._check_dimensions(other.dimensions, "other")
            self._observer.merge(other._observer)
            self._params = None
        return self

    @property
    def params(self) -> OffsetParams:
        """The ranges as parameters, for every function that takes such.

        With float64 data such a function computes in float64, where the ``faiss`` style's own
        `transform` rounds them to float32 first.

        Not fitted, ranges beyond float32, or ``rows``, where each row has its own: ValueError.
        """
        if self._style == "rows":
            raise ValueError(
                "style 'rows' has no parameters that all rows share; transform returns the scales"
            )
        found: Any = self._params  # read once: others may fit meanwhile
        if found is None:
            self._check_fitted()
            # both tools keep float32, and so the ranges of float64 data are rounded
            with np.errstate(over="ignore", invalid="ignore"):
                ends = np.stack(self._observer._range()).astype(np.float32)
                spans = np.ptp(ends, axis=None if self._uniform else 0)
            if not np.isfinite(spans).all():
                raise ValueError(
                    "the ranges of x are beyond float32, in which both tools keep max - min; scale "
                    "x down"
                )
            axis = None if self._uniform else -1
            found = choose_params(ends, self._dtype, convention=self._style, axis=axis)
            self._params = found
        return found  # type: ignore[no-any-return]

    # -- codes ----------------------------------------------------------------------------------

    def transform(self, x: Any) -> Any:
        """The codes of `x` by the ranges fitted; those of `x` itself play no part.

        Parameters
        ----------
        x
            float16, bfloat16, float32 or float64 [..., dimensions], so that one axis is one row.
            ``faiss`` rounds float64 to float32 first, as its Python API does.

        Returns
        -------
        numpy.ndarray or Rows
            Codes in the shape of `x`; with ``rows`` the pair of codes and scales.

        Raises
        ------
        TypeError
            `x` is not of a supported float dtype.
        ValueError
            Not fitted; another number of dimensions; NaN or Inf in `x` (count and first index).
        """
        params = None if self._style == "rows" else self.params
        x = self._rows(x)
        try:
            if params is None:
                return _with_scales(x)
            if x.size:
                range_of(x, None, None)  # what check_finite says, in a fraction of its time
        except ValueError as error:
            raise _explained(error, x) from None
        if self._style == "faiss" and x.dtype == np.float64:
            x = x.astype(np.float32)
        return quantize(x, params)

    def fit_transform(self, x: Any) -> Any:
        """`fit` and `transform` of `x` in one call, which returns what the second does."""
        return self.fit(x).transform(x)

    def inverse_transform(self, codes: Any, *, dtype: Any = None) -> Array:
        """The values of codes.

        Parameters
        ----------
        codes
            What `transform` returns: an array of codes, or with ``rows`` the pair of codes and
            scales.
        dtype
            float16, bfloat16, float32 or float64; None is float32.

        Raises
        ------
        TypeError
            Codes of another dtype; with ``rows`` no pair; `dtype` is no supported float dtype.
        ValueError
            Not fitted; another number of dimensions; scales of another shape.
        """
        if self._style != "rows":
            return dequantize(self._codes(codes), self.params, dtype=dtype)
        if not isinstance(codes, tuple) or len(codes) != 2:
            raise TypeError(
                "codes must be the pair of codes and scales that transform returned, not "
                f"{type(codes).__name__}; codes of rows alone have no way back"
            )
        q, scales = self._codes(codes[0]), _checks.real_array(codes[1], "scales")
        if scales.shape != q.shape[:-1]:
            raise ValueError(
                f"scales has shape {scales.shape}, and codes of shape {q.shape} need one for each "
                f"row, shape {q.shape[:-1]}"
            )
        return dequantize(q, _row_params(scales, q.shape[-1]), dtype=dtype)

    # -- faiss ----------------------------------------------------------------------------------

    def export_faiss(self) -> Array:
        """The ranges as the trained vector of an ``IndexScalarQuantizer``.

        An index with it takes the codes of `transform`, and its own codes and values are ours::

            index = faiss.IndexScalarQuantizer(dimensions, faiss.ScalarQuantizer.QT_8bit)
            faiss.copy_array_to_vector(quantizer.export_faiss(), index.sq.trained)
            index.is_trained = True
            index.add_sa_codes(quantizer.transform(table))

        Returns
        -------
        numpy.ndarray
            float32: the minima and then the spans, ``max - min``, of all dimensions; with
            `uniform` one of each.

        Raises
        ------
        ValueError
            Another style; int8 codes; not fitted.
        """
        if self._style != "faiss" or self._dtype != np.uint8:
            raise ValueError(
                f"faiss has no codes such as those of {self!r}; use EmbeddingQuantizer('faiss')"
            )
        return np.concatenate([np.atleast_1d(self.params.offset), np.atleast_1d(self.params.span)])

    @classmethod
    def from_faiss(cls, trained: Any, dimensions: int) -> Self:
        """The quantizer with the ranges of a trained ``IndexScalarQuantizer``.

        Parameters
        ----------
        trained
            ``faiss.vector_to_array(index.sq.trained)``, however it was trained: two numbers for
            each dimension are ``QT_8bit``, two alone ``QT_8bit_uniform``.
        dimensions
            ``index.d``.

        Raises
        ------
        TypeError
            `trained` is no array of floats, or `dimensions` no integer.
        ValueError
            `trained` has another length, a negative span, or what is not finite in float32.
        """
        count = _checks.integer(dimensions, "dimensions")
        if count < 1:
            raise ValueError(f"dimensions {count} must be at least 1; pass index.d")
        with np.errstate(over="ignore"):
            ends = _checks.real_array(trained, "trained").astype(np.float32)
        if ends.shape not in ((2 * count,), (2,)):
            raise ValueError(
                f"trained has shape {ends.shape}; for {count} dimensions QT_8bit has "
                f"{2 * count} numbers and QT_8bit_uniform 2"
            )
        _checks.finite(ends, "trained", shaped=True)
        uniform = ends.size != 2 * count
        offset, span = ends if uniform else np.split(ends, 2)
        if np.any(span < 0):
            raise ValueError(
                f"trained has a negative span ({np.min(span)}) in its second half; pass "
                "faiss.vector_to_array(index.sq.trained) as it is"
            )
        self = cls("faiss", uniform=uniform)
        self._given = count
        self._params = OffsetParams(
            None,
            offset,
            "uint8",
            span=span,
            axis=None if uniform else -1,
            convention="faiss",
            fused=count % 8 == 0,
        )
        return self

    # -- written and read -----------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """A dictionary of plain Python values that `json.dumps` takes; exact."""
        given = None
        if self._given:
            given = {"trained": self.export_faiss().tolist(), "dimensions": self._given}
        return {
            **self._recipe(),
            "observer": self._observer.to_dict(),
            "faiss": given,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """The quantizer that `to_dict` wrote.

        Raises
        ------
        TypeError, ValueError
            `fields` is not what `to_dict` writes.
        """
        if not isinstance(fields, dict):
            raise TypeError(f"from_dict takes a dict, not {type(fields).__name__}")
        expected = set(cls().to_dict())
        if set(fields) != expected:
            raise ValueError(
                "not the dictionary of an EmbeddingQuantizer: unknown keys "
                f"{sorted(map(str, set(fields) - expected))}, missing keys "
                f"{sorted(expected - set(fields))}"
            )
        self = cls(fields["style"], _checks.code_dtype(fields["dtype"]), uniform=fields["uniform"])
        self._observer = MinMaxObserver.from_dict(fields["observer"])
        if self._observer.axis != -1:
            raise ValueError(f"observer has axis {self._observer.axis}; it must be -1")
        given = fields["faiss"]
        if given is None:
            return self
        if not isinstance(given, dict) or set(given) != {"trained", "dimensions"}:
            raise ValueError(
                "faiss must be None or a dict of trained and dimensions, not "
                f"{_checks.shown(given)}"
            )
        if not _holds_only(given["trained"], (int, float), 1):
            raise TypeError(
                f"trained must be a list of numbers, not {_checks.shown(given['trained'])}"
            )
        trained = cls.from_faiss(np.asarray(given["trained"], np.float64), given["dimensions"])
        if trained._recipe() != self._recipe() or not self._observer._empty:
            raise ValueError(
                f"faiss is {trained!r}, and does not go with the rest, {self!r}; it goes with an "
                "observer of no data"
            )
        return trained

    def _recipe(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"style": self._style, "dtype": self._dtype.name, "uniform": self._uniform}

    # -- checks ---------------------------------------------------------------------------------

    def _check_takes_data(self, call: str) -> None:
        if self._given:
            raise ValueError(
                f"{call} widens ranges by data, and these are those of from_faiss; use fit, or "
                "another quantizer"
            )

    def _check_fitted(self) -> None:
        if self.dimensions is None:
            raise ValueError("the quantizer is not fitted; call fit or partial_fit first")

    def _check_dimensions(self, found: int | None, what: str) -> None:
        if self.dimensions is not None and found != self.dimensions:
            raise ValueError(
                f"{what} has {found} dimensions, the quantizer {self.dimensions}; use one "
                "quantizer for each number of dimensions"
            )

    def _rows(self, x: Any) -> Array:
        """`x` as an array of rows that fit."""
        rows = _real(x)
        self._check_dimensions(rows.shape[-1], "x")
        return rows

    def _codes(self, codes: Any) -> Array:
        """`codes` as an array of codes that fit."""
        name = f"codes of EmbeddingQuantizer({self._style!r}, {self._dtype.name!r})"
        q = _checks.exact_array(codes, self._dtype, "codes", f"these are not {name}")
        _check_rows(q, "codes")
        self._check_dimensions(q.shape[-1], "codes")
        return q

    # -- value ----------------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EmbeddingQuantizer):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # a quantizer changes

    def __repr__(self) -> str:
        uniform = ", uniform=True" if self._uniform else ""
        fitted = f"{self.dimensions} dimensions" if self.dimensions else "not fitted"
        return f"<EmbeddingQuantizer({self._style!r}, {self._dtype.name!r}{uniform}): {fitted}>"


def _real(x: Any) -> Array:
    rows = _checks.real_array(x)
    _check_rows(rows, "x")
    return rows


def _explained(error: ValueError, x: Array) -> ValueError:
    """`error`; of NaN and Inf one without the advice of what raised it, which has other options."""
    try:
        _checks.finite(x, "x", shaped=True)
    except ValueError as found:
        return found
    return error


def _check_rows(x: Array, name: str) -> None:
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(
            f"{name} has shape {x.shape}, and no dimensions; pass rows, an array [..., dimensions]"
        )


def _with_scales(x: Array) -> Rows:
    size = x.shape[-1]
    if x.size == 0:
        return Rows(np.empty(x.shape, np.int8), np.empty(x.shape[:-1], working_dtype(x.dtype)))
    # a row is one block: the bits of axis=0 for two axes, and any number of axes
    codes, params = quantize_dynamic(x, "int8", symmetric=True, axis=-1, block_size=size)
    return Rows(codes, params.scale[..., 0])


def _row_params(scales: Array, size: int) -> QuantParams:
    return QuantParams(scales[..., None], 0, "int8", axis=-1, block_size=size)
