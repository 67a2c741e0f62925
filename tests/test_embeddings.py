"""The quantizer of embeddings: styles, fitting in parts, the way back, JSON, what is refused."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import embeddings
from zeropoint.embeddings import EmbeddingQuantizer, Rows
from zeropoint.observers import MinMaxObserver

from .exact import rounded

FITTED = ("sentence-transformers", "faiss")
KINDS: tuple[dict[str, Any], ...] = (
    {"style": "sentence-transformers"},
    {"style": "sentence-transformers", "dtype": "uint8"},
    {"style": "faiss"},
    {"style": "faiss", "dtype": "int8"},
    {"style": "faiss", "uniform": True},
)
ROWS = {"style": "rows"}


def table(rows: int = 200, dimensions: int = 24, dtype: Any = np.float32, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.uniform(-3, 3, dimensions))
    return (rng.normal(size=(rows, dimensions)) * spread + rng.normal(size=dimensions)).astype(
        dtype
    )


def quantizer(kind: dict[str, Any]) -> EmbeddingQuantizer:
    return EmbeddingQuantizer(**kind)


def same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
        assert x.dtype == y.dtype
        assert x.tobytes() == y.tobytes()


# ---------------------------------------------------------------------------------------------
# By hand


def test_sentence_transformers_by_hand(backend):
    """Steps of 1, of 1/128, and of float32(2.5 / 255), which is above 2.5 / 255."""
    low, high = [0, -1, -1], [255, 127 / 128, 1.5]
    x = np.array([low, high, [0.99, 0, 0], [1, 0.25, 0], [254.5, 0.99, 0]], np.float32)
    codes = np.array([[0, 0, 0], [255, 255, 254], [0, 128, 102], [1, 160, 102], [254, 254, 102]])
    q = EmbeddingQuantizer("sentence-transformers", "uint8").fit(x)
    np.testing.assert_array_equal(q.transform(x), codes)
    signed = EmbeddingQuantizer().fit(x)
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.transform(x), codes - 128)
    back = q.inverse_transform(q.transform(x))
    np.testing.assert_array_equal(back[:, 0], [0.5, 255.5, 0.5, 1.5, 254.5])
    np.testing.assert_array_equal(back[:, 1], (codes[:, 1] + 0.5) / 128 - 1)
    same(back, signed.inverse_transform(signed.transform(x)))


def test_faiss_by_hand(backend):
    """A range of [0, 255]: codes are what is left of the comma, values half a step above."""
    x = np.array([[0, 3], [255, 3], [0.99, 3], [1, 3], [-7, 3], [300, 3]], np.float32)
    q = EmbeddingQuantizer("faiss").fit(x[:4])
    assert q.dtype == np.uint8
    np.testing.assert_array_equal(q.export_faiss(), np.float32([0, 3, 255, 0]))
    np.testing.assert_array_equal(q.transform(x)[:, 0], [0, 255, 0, 1, 0, 255])
    np.testing.assert_array_equal(q.transform(x)[:, 1], 0)  # a dimension of one value
    back = q.inverse_transform(q.transform(x))
    np.testing.assert_array_equal(back[:, 1], 3)
    np.testing.assert_allclose(back[:, 0], [0.5, 255.5, 0.5, 1.5, 0.5, 255.5], rtol=1e-6)
    whole = EmbeddingQuantizer("faiss", uniform=True).fit(x[:4])
    np.testing.assert_array_equal(whole.export_faiss(), np.float32([0, 255]))
    np.testing.assert_array_equal(whole.transform(x)[:, 1], 3)


def test_rows_by_hand(backend):
    x = np.array([[127, -1, 0.5], [0, 0, 0], [-254, 127, 1.1]], np.float32)
    found = EmbeddingQuantizer("rows").transform(x)
    np.testing.assert_array_equal(found.codes, [[127, -1, 0], [0, 0, 0], [-127, 64, 1]])
    np.testing.assert_array_equal(found.scales, np.float32([1, 1, 2]))
    back = EmbeddingQuantizer("rows").inverse_transform(found)
    np.testing.assert_array_equal(back, [[127, -1, 0], [0, 0, 0], [-254, 128, 2]])


@pytest.mark.parametrize("dimensions", [5, 8, 24])
def test_values_in_exact_fractions(backend, dimensions):
    """faiss fuses product and sum where the number of dimensions is a multiple of 8."""
    q = EmbeddingQuantizer("faiss").fit(table(dimensions=dimensions))
    codes = np.repeat(np.arange(256, dtype=np.uint8)[:, None], dimensions, axis=1)
    found = q.inverse_transform(codes)
    low, span = np.split(q.export_faiss().astype(np.float64), 2)
    for code, column in itertools.product(range(0, 256, 5), range(dimensions)):
        part = rounded(Fraction(2 * code + 1, 2) / 255, "float32")
        product = part * Fraction(span[column])
        if dimensions % 8:
            product = rounded(product, "float32")
        assert Fraction(float(found[code, column])) == rounded(
            product + Fraction(low[column]), "float32"
        )


# ---------------------------------------------------------------------------------------------
# What it is made of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_is_choose_params(backend, kind, dtype):
    x = table(dtype=dtype)
    q = quantizer(kind).fit(x)
    axis = None if kind.get("uniform") else -1
    params = zp.choose_params(x, q.dtype, convention=kind["style"], axis=axis)
    assert q.params == params
    same(q.transform(x), zp.quantize(x, params))
    same(q.fit_transform(x), q.transform(x))
    codes = q.transform(x)
    for real in "float16", "float32", "float64":
        same(q.inverse_transform(codes, dtype=real), zp.dequantize(codes, params, dtype=real))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_are_quantize_dynamic(backend, dtype):
    x = table(dtype=dtype)
    codes, params = zp.quantize_dynamic(x, "int8", axis=0, symmetric=True)
    q = EmbeddingQuantizer("rows")
    found = q.transform(x)
    same(found, Rows(codes, params.scale))
    same(q.inverse_transform(found), zp.dequantize(codes, params))
    same(q.inverse_transform(tuple(found), dtype=dtype), zp.dequantize(codes, params, dtype=dtype))


@pytest.mark.parametrize("kind", [*KINDS, ROWS])
def test_any_number_of_axes(backend, kind):
    """A query of one row, a batch of documents of many rows each: as one table of rows."""
    x = table(240)
    q = quantizer(kind).fit(x)
    codes = q.transform(x)
    back = q.inverse_transform(codes)
    for shape in ((240, 24), (20, 12, 24), (2, 3, 40, 24)):
        found = q.transform(x.reshape(shape))
        flat = found
        if kind == ROWS:
            assert found.scales.shape == shape[:-1]
            flat = Rows(found.codes.reshape(240, 24), found.scales.reshape(240))
        else:
            assert found.shape == shape
            flat = found.reshape(240, 24)
        same(flat, codes)
        assert q.inverse_transform(found).shape == shape
        same(q.inverse_transform(found).reshape(240, 24), back)
    one = q.transform(x[7])
    same(one, Rows(codes[0][7], codes[1][7][()]) if kind == ROWS else codes[7])
    same(q.inverse_transform(one), back[7])
    none = q.transform(x[:0])
    assert q.inverse_transform(none).shape == (0, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_of_one_row_uses_the_ranges_fitted(backend, kind):
    """By its own ranges every code would be the first."""
    x = table()
    q = quantizer(kind).fit(x)
    before = q.params
    one = q.transform(x[:1])
    assert len(np.unique(one)) > 10
    same(one, q.transform(x)[:1])
    assert q.params is before


def test_error_is_half_a_step(backend):
    x = table()
    for kind in KINDS:
        q = quantizer(kind).fit(x)
        error = np.abs(q.inverse_transform(q.transform(x)) - x)
        assert (error <= 0.5001 * q.params.scale + 1e-6).all()


def test_beyond_the_ranges_saturates(backend):
    x = table()
    for kind in KINDS:
        q = quantizer(kind).fit(x)
        for far, code in ((-1e30, q.params.qmin), (1e30, q.params.qmax)):
            assert (q.transform(np.full((3, 24), far, np.float32)) == code).all()


def test_float64_ranges_are_rounded_to_float32(backend):
    """As in both tools; the data of sentence-transformers stay float64, those of faiss do not."""
    x = table(dtype=np.float64)
    for kind in KINDS:
        q = quantizer(kind).fit(x)
        assert q.params == quantizer(kind).fit(x.astype(np.float32)).params
        assert q.params.offset.dtype == np.float32
        single = x.astype(np.float32)
        same(q.transform(x), zp.quantize(single if q.style == "faiss" else x, q.params))


# ---------------------------------------------------------------------------------------------
# In parts


@pytest.mark.parametrize("kind", [*KINDS, ROWS])
def test_any_split_any_order_any_merges(backend, kind):
    x = table()
    x[:, 3] = 7
    whole = quantizer(kind).fit(x)
    parts = np.split(x, [1, 2, 50, 51, 199])
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4], [2, 2, 5, 1, 0, 4, 3]):
        one = quantizer(kind)
        many = [quantizer(kind).partial_fit(parts[i]) for i in order]
        for i in order:
            assert one.partial_fit(parts[i]) is one
        assert one == whole
        left = copy.deepcopy(many[0])
        for each in many[1:]:
            assert left.merge(each) is left
        right = many[-1]
        for each in many[-2::-1]:
            right = copy.deepcopy(each).merge(right)
        assert left == right == whole
        assert left.to_dict() == whole.to_dict()
        if kind != ROWS:
            assert left.params == whole.params
        same(left.transform(x), whole.transform(x))


def test_partial_fit_after_params_widens(backend):
    q = EmbeddingQuantizer().fit(table())
    before = q.params
    q.partial_fit(table() * 2)
    assert (q.params.span > before.span).all()
    assert q.merge(EmbeddingQuantizer().fit(table() * 4)).params.span.sum() > before.span.sum() * 3
    q.fit(table())  # forgets the rest
    assert q.params == before


def test_merge_with_one_that_has_seen_nothing(backend):
    q, empty = EmbeddingQuantizer().fit(table()), EmbeddingQuantizer()
    same(copy.deepcopy(q).merge(empty).transform(table()), q.transform(table()))
    assert empty.merge(q) == q
    assert EmbeddingQuantizer().partial_fit(table()[:0]) == EmbeddingQuantizer()


@pytest.mark.parametrize("kind", [*KINDS, ROWS])
def test_written_and_read(backend, kind):
    x = table()
    for q in (quantizer(kind), quantizer(kind).fit(x), quantizer(kind).fit(x.astype(np.float64))):
        fields = json.loads(json.dumps(q.to_dict()))
        for again in (EmbeddingQuantizer.from_dict(fields), pickle.loads(pickle.dumps(q))):
            assert again == q
            assert again.to_dict() == q.to_dict()
            assert (again.style, again.dtype, again.uniform) == (q.style, q.dtype, q.uniform)
            assert again.dimensions == q.dimensions
            if q.dimensions:
                same(again.transform(x), q.transform(x))
                again.partial_fit(x * 2)
                assert again != q or kind == ROWS


def test_faiss_there_and_back(backend):
    x = table()
    for uniform in False, True:
        q = EmbeddingQuantizer("faiss", uniform=uniform).fit(x)
        trained = q.export_faiss()
        assert trained.dtype == np.float32
        assert trained.shape == ((2,) if uniform else (48,))
        again = EmbeddingQuantizer.from_faiss(trained, 24)
        assert again.dimensions == 24
        assert again.uniform == uniform
        assert again.params == q.params
        assert again != q  # it has seen no data
        same(again.export_faiss(), trained)
        same(again.transform(x), q.transform(x))
        for copied in (
            EmbeddingQuantizer.from_dict(json.loads(json.dumps(again.to_dict()))),
            pickle.loads(pickle.dumps(again)),
        ):
            assert copied == again
            assert copied.params == q.params
        assert again.fit(x) == q  # fit forgets what was given
    # max - min is rounded, so the span itself is what is kept
    ends = np.float32([-1, 16777216.0, 1 / 3, 1])
    assert EmbeddingQuantizer.from_faiss(ends, 2).export_faiss().tolist() == ends.tolist()


def test_multiples_of_eight_are_fused(backend):
    for dimensions, fused in ((7, False), (8, True), (12, False), (24, True)):
        for uniform in False, True:
            x = table(dimensions=dimensions)
            q = EmbeddingQuantizer("faiss", uniform=uniform).fit(x)
            assert q.params.fused is fused
            given = EmbeddingQuantizer.from_faiss(q.export_faiss(), dimensions)
            assert given.params.fused is fused


def test_one_dimension(backend):
    x = table(dimensions=1)
    for kind in [*KINDS[:4], ROWS]:
        q = quantizer(kind).fit(x)
        assert q.inverse_transform(q.transform(x)).shape == x.shape
    trained = EmbeddingQuantizer("faiss").fit(x).export_faiss()
    assert not EmbeddingQuantizer.from_faiss(trained, 1).uniform  # the two kinds are one here


# ---------------------------------------------------------------------------------------------
# What is refused


def test_arguments_of_the_constructor():
    for wrong, error, text in (
        (("float",), ValueError, "style 'float' is unknown; choose 'sentence-transformers' or"),
        ((None,), ValueError, "style None is unknown"),
        (("faiss", "int16"), TypeError, "int16"),
        (("rows", "uint8"), ValueError, "style 'rows' has int8 codes, not uint8"),
    ):
        with pytest.raises(error, match=text):
            EmbeddingQuantizer(*wrong)
    with pytest.raises(ValueError, match="uniform=True is for the style 'faiss', not 'rows'"):
        EmbeddingQuantizer("rows", uniform=True)
    with pytest.raises(TypeError, match="uniform"):
        EmbeddingQuantizer("faiss", uniform=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_not_fitted(kind):
    q = quantizer(kind)
    for call in (lambda: q.transform(table()), lambda: q.params):
        with pytest.raises(ValueError, match="the quantizer is not fitted; call fit or"):
            call()
    with pytest.raises(ValueError, match="not fitted"):
        q.inverse_transform(np.zeros((2, 24), q.dtype))
    assert q.dimensions is None
    assert "not fitted" in repr(q)


@pytest.mark.parametrize("kind", [*KINDS, ROWS])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_nan_and_inf(backend, kind, wrong):
    x = table()
    q = quantizer(kind).fit(x)
    before = q.to_dict()
    bad = x.copy()
    bad[3, 5] = bad[3, 7] = wrong
    for call in q.fit, q.partial_fit, q.transform, quantizer(kind).fit:
        with pytest.raises(ValueError, match=r"x has 2 NaN or Inf of 4800 .* at index \(3, 5\)"):
            call(bad)
        with pytest.raises(ValueError, match="NaN or Inf") as found:
            call(bad)
        assert "skip_nan" not in str(found.value)  # there is none here
    with pytest.raises(ValueError, match=r"at index \(5,\)"):
        q.transform(bad[3])
    assert q.to_dict() == before


@pytest.mark.parametrize("kind", [*KINDS, ROWS])
def test_another_number_of_dimensions(backend, kind):
    q = quantizer(kind).fit(table())
    before = q.to_dict()
    text = "has 23 dimensions, the quantizer 24; use one quantizer for each number of dimensions"
    for call in q.partial_fit, q.transform:
        with pytest.raises(ValueError, match="x " + text):
            call(table(dimensions=23))
    codes = np.zeros((3, 23), q.dtype)
    with pytest.raises(ValueError, match="codes " + text):
        q.inverse_transform((codes, np.ones(3, np.float32)) if kind == ROWS else codes)
    with pytest.raises(ValueError, match="other " + text):
        q.merge(quantizer(kind).fit(table(dimensions=23)))
    assert q.to_dict() == before
    for none in (np.float32(1), np.zeros((4, 0), np.float32)):
        for call in q.fit, q.partial_fit, q.transform:
            with pytest.raises(ValueError, match="x has shape .*, and no dimensions; pass rows"):
                call(none)


def test_one_row_has_no_ranges(backend):
    for kind in KINDS:
        q = quantizer(kind).fit(table())
        before = q.to_dict()
        for x, text in ((table(1), r"x has 1 row \("), (table()[0], "1 row"), (table(0), "0 rows")):
            with pytest.raises(ValueError, match=text):
                q.fit(x)
        assert q.to_dict() == before
    EmbeddingQuantizer("rows").fit(table(1))


def test_ranges_beyond_float32(backend):
    for kind in KINDS:
        q = quantizer(kind).fit(table())
        before = q.to_dict()
        for ends in np.float32([[-3e38], [3e38]]), np.array([[-3e38], [3e38]]), [[0], [1e300]]:
            with pytest.raises(ValueError, match=r"x are beyond float32, .* max - min; scale x do"):
                q.fit(np.full((2, 24), ends, getattr(ends, "dtype", float)))
        assert q.to_dict() == before
    x = np.full((2, 24), [[0], [1e300]])
    assert EmbeddingQuantizer("rows").fit_transform(x).scales.tolist() == [1, 1e300 / 127]


def test_other_data():
    q = EmbeddingQuantizer().fit(table())
    for call in q.fit, q.partial_fit, q.transform:
        with pytest.raises(TypeError, match="x has dtype int64"):
            call(np.zeros((3, 24), np.int64))
    with pytest.raises(TypeError, match=r"codes has dtype uint8 where int8 .*sentence-tr"):
        q.inverse_transform(np.zeros((3, 24), np.uint8))
    with pytest.raises(TypeError, match="dtype"):
        q.inverse_transform(np.zeros((3, 24), np.int8), dtype="int32")


def test_rows_need_their_scales():
    q = EmbeddingQuantizer("rows")
    codes, scales = q.transform(table())
    for wrong in (codes, (codes,), [codes, scales], (codes, scales, scales)):
        with pytest.raises(TypeError, match="codes must be the pair of codes and scales"):
            q.inverse_transform(wrong)
    for few in (scales[:-1], scales[:, None], scales[0]):
        with pytest.raises(ValueError, match=r"scales has shape .* shape \(200,\)"):
            q.inverse_transform((codes, few))
    with pytest.raises(TypeError, match="codes has dtype uint8"):
        q.inverse_transform((codes.view(np.uint8), scales))
    with pytest.raises(ValueError, match="scale"):
        q.inverse_transform((codes, -scales))
    with pytest.raises(ValueError, match="style 'rows' has no parameters that all rows share"):
        q.params  # noqa: B018


def test_merge_with_another_kind():
    for one, other in itertools.permutations([*KINDS, ROWS], 2):
        with pytest.raises(ValueError, match="make both alike"):
            quantizer(one).merge(quantizer(other))
    with pytest.raises(TypeError, match="other is a MinMaxObserver; an EmbeddingQuantizer"):
        EmbeddingQuantizer().merge(MinMaxObserver(axis=-1))  # type: ignore[arg-type]


def test_what_faiss_cannot_have():
    for kind in ({"style": "rows"}, {}, {"style": "faiss", "dtype": "int8"}):
        with pytest.raises(ValueError, match=r"faiss has no codes such as those of <Embedding"):
            quantizer(kind).partial_fit(table()).export_faiss()
    with pytest.raises(ValueError, match="not fitted"):
        EmbeddingQuantizer("faiss").export_faiss()


def test_trained_vectors_that_are_none():
    make = EmbeddingQuantizer.from_faiss
    good = EmbeddingQuantizer("faiss").fit(table()).export_faiss()
    for trained, dimensions, error, text in (
        (good, 23, ValueError, r"trained has shape \(48,\); for 23 dimensions QT_8bit has 46"),
        (good[:0], 24, ValueError, "and QT_8bit_uniform 2"),
        (good.reshape(2, 24), 24, ValueError, "trained has shape"),
        (good, 0, ValueError, "dimensions 0 must be at least 1; pass index.d"),
        (good, 24.0, TypeError, "dimensions"),
        (np.zeros(48, np.int64), 24, TypeError, "trained has dtype int64"),
        (-good, 24, ValueError, "trained has a negative span"),
        (np.where(np.arange(48) == 30, np.nan, good), 24, ValueError, "trained has 1 NaN or Inf"),
        (np.where(np.arange(48) == 30, 1e300, 0.0), 24, ValueError, "trained has 1 NaN or Inf"),
    ):
        with pytest.raises(error, match=text):
            make(trained, dimensions)
    given = make(good, 24)
    fitted = EmbeddingQuantizer("faiss").fit(table())
    for call in (
        lambda: given.partial_fit(table()),
        lambda: given.merge(fitted),
        lambda: fitted.merge(given),
    ):
        with pytest.raises(ValueError, match="widens ranges by data, and these are those of"):
            call()


def test_dictionaries_that_are_none():
    read = EmbeddingQuantizer.from_dict
    good = EmbeddingQuantizer("faiss").fit(table()).to_dict()
    given = EmbeddingQuantizer.from_faiss(np.float32([0, 1]), 8).to_dict()
    for fields, error, text in (
        ([], TypeError, "from_dict takes a dict, not list"),
        ({}, ValueError, r"unknown keys \[\], missing keys \['dtype', 'faiss', 'observer'"),
        ({**good, "more": 1}, ValueError, r"unknown keys \['more'\]"),
        ({**good, "style": "x"}, ValueError, "style 'x' is unknown"),
        ({**good, "dtype": None}, TypeError, "dtype"),
        ({**good, "uniform": None}, TypeError, "uniform"),
        ({**good, "observer": None}, TypeError, "from_dict takes a dict, not NoneType"),
        ({**good, "observer": MinMaxObserver().to_dict()}, ValueError, "observer has axis None"),
        ({**good, "faiss": []}, ValueError, "faiss must be None or a dict of trained and dim"),
        ({**good, "faiss": given["faiss"]}, ValueError, "does not go with the rest"),
        ({**given, "style": "rows", "dtype": "int8"}, ValueError, "uniform=True is for"),
        ({**given, "uniform": False}, ValueError, "does not go with the rest"),
        ({**given, "observer": good["observer"]}, ValueError, "an observer of no data"),
        ({**given, "faiss": {"trained": ["0", 1], "dimensions": 8}}, TypeError, "trained must be"),
        ({**given, "faiss": {"trained": [0, 1], "dimensions": "8"}}, TypeError, "dimensions"),
        ({**given, "faiss": {"trained": [0], "dimensions": 8}}, ValueError, "trained has shape"),
    ):
        with pytest.raises(error, match=text):
            read(fields)


def test_value_and_repr():
    x = table()
    a, b = EmbeddingQuantizer("faiss").fit(x), EmbeddingQuantizer("faiss").fit(x)
    assert a == b
    assert a != EmbeddingQuantizer("faiss", uniform=True).fit(x)
    assert a != 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)
    assert repr(a) == "<EmbeddingQuantizer('faiss', 'uint8'): 24 dimensions>"
    assert "uniform=True" in repr(EmbeddingQuantizer("faiss", uniform=True))
    assert embeddings.__all__ == ["EmbeddingQuantizer", "Rows"]
