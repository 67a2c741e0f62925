"""Public questions of people whose codes were wrong: what `zeropoint.diagnose` says of each.

The lines that make the codes are ours: the arithmetic that a thread describes, on data like its.
`docs/how-to/diagnose.md` shows the table.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import zeropoint as zp
from zeropoint._params import Params
from zeropoint._recipes import CATALOGUE

Array = np.ndarray[Any, np.dtype[Any]]
Case = tuple[Array, Array, Params]


def rng() -> np.random.Generator:
    return np.random.default_rng(17)


def wrapped(values: Array, dtype: str) -> Array:
    """Whole numbers, modulo 256: what a cast from floats gives on x86-64."""
    return values.astype(np.int64).astype(dtype)


def saturated(values: Array, params: Params) -> Array:
    return np.clip(values, params.qmin, params.qmax).astype(params.dtype)


def image(*shape: int) -> Array:
    """Bytes of a picture: smooth, with all of 0 to 255."""
    waves = np.add.outer(np.sin(np.linspace(0, 7, shape[0])), np.cos(np.linspace(0, 5, shape[1])))
    tinted = waves[..., None] * [1.0, 0.9, 0.8] + [0.3, 0.0, -0.4]
    noisy = tinted[..., : shape[2]] + rng().normal(0, 0.2, shape)
    return np.clip((noisy + 2) * 64, 0, 255).astype(np.uint8)


# ---------------------------------------------------------------------------------------------
# One function for each question: values, codes, and the parameters that were meant


def embeddings_beyond_the_calibration() -> Case:
    known, x = np.float32(rng().normal(size=(2, 100, 64)))
    x *= 1.3
    low, high = known.min(axis=0), known.max(axis=0)
    steps = (high - low) / 255
    q = wrapped((x - low) / steps - 128, "int8")
    recipe = {"dtype": "int8", "axis": 1, "convention": "sentence-transformers"}
    return x, q, zp.OffsetParams(None, low, span=high - low, **recipe)


def a_reference_that_casts() -> Case:
    x = np.float32(rng().normal(0, 100, 3000))
    params = zp.QuantParams(0.7, 3, dtype="int8", convention="onnx")
    return x, wrapped(np.rint(x / params.scale) + 3, "int8"), params


def half_precision_in_the_engine() -> Case:
    x = rng().normal(0, 4, 3000).astype(np.float16)
    params = zp.QuantParams(np.float16(0.1), 0, dtype="int8", convention="onnx")
    return x, saturated(np.trunc(x.astype(np.float32) / params.scale), params), params


def another_provider() -> Case:
    x = np.float32(rng().integers(-300, 300, 3000) / 4)
    params = zp.QuantParams(0.5, 10, dtype="int8", convention="onnx")
    steps = x / params.scale
    return x, saturated(np.copysign(np.floor(np.abs(steps) + 0.5), steps) + 10, params), params


def half_way_points_of_an_accelerator() -> Case:
    x = rng().normal(size=3000).astype(ml_dtypes.bfloat16)
    params = zp.QuantParams(2**-6, 7, dtype="int8", convention="torch")
    codes = np.floor(x.astype(np.float32) * (1 / params.scale) + 7 + 0.5)
    return x, saturated(codes, params), params


def half_of_the_codes_one_lower() -> Case:
    x = rng().uniform(-2, 2, 3000).astype(np.float32)
    params = zp.QuantParams(0.02, 7, dtype="int8", convention="torch")
    return x, saturated(np.trunc(x * (1 / params.scale) + 7), params), params


def narrowed_before_the_zero_point() -> Case:
    x = rng().uniform(0, 3.8, 3000).astype(np.float32)
    params = zp.QuantParams(1 / 66.933334, -128, dtype="int8", convention="torch")
    early = np.clip(np.rint(x * (1 / params.scale)), -128, 127)
    return x, saturated(early - 128, params), params


def a_picture_of_integers() -> Case:
    pixels = image(32, 32, 3)
    params = zp.QuantParams(0.003921568859368563, -128, dtype="int8", convention="litert")
    q = wrapped(np.int32(pixels) / 0.003921568859368563 - 128, "int8")
    return np.float32(pixels) / 255, q, params


def cast_without_parameters() -> Case:
    x = (np.float32(image(32, 32, 3)) / 255 - np.float32(0.45)) / np.float32(0.225)
    params = zp.QuantParams(0.0183159988373518, -13, dtype="int8", convention="litert")
    return x, x.astype(np.int8), params


def the_bytes_themselves() -> Case:
    pixels = image(64, 64, 1)
    x = np.float32((pixels / 255 - 0.1307) / 0.3081)
    return x, pixels, zp.QuantParams(0.012727910652756691, 33, convention="tflite")


def bytes_of_a_camera() -> Case:
    pixels = image(96, 96, 1)
    params = zp.QuantParams(1 / 255, -128, dtype="int8", convention="tflite")
    return np.float32(pixels) / 255, pixels.view(np.int8), params


def the_example_of_a_detector() -> Case:
    x = np.float32(image(32, 32, 3)) / 255
    params = zp.QuantParams(0.01865844801068306, -14, dtype="int8", convention="litert")
    return x, (x / params.scale - 14).astype(np.int8), params


def the_wrong_kind_of_byte() -> Case:
    x = np.float32(rng().normal(0, 0.3, 3000))
    params = zp.QuantParams(0.01, 128, convention="numpy")
    return x, np.clip(np.rint(x / params.scale) + 128, -128, 127).astype(np.int8), params


def one_code_too_few() -> Case:
    x = np.float32(rng().normal(0, 90, 3000))
    params = zp.QuantParams(1.0, 0, dtype="int8", convention="onnx")
    return x, np.clip(np.rint(x), -127, 127).astype(np.int8), params


def infinity() -> Case:
    x = np.float32(rng().normal(0, 60, 3000))
    x[::500] = np.inf
    params = zp.QuantParams(1.0, 133, convention="torch")
    as_int32 = np.where(np.isinf(x), -(2.0**31), np.rint(x))
    return x, saturated(as_int32 + 133, params), params


def months_in_one_file() -> Case:
    x = np.float32(rng().normal(288, 12, (2, 30, 50)))
    x[1] += 15
    low, high = x[0].min(), x[0].max()
    params = zp.OffsetParams((high - low) / 255, low, convention="cf")
    return x, wrapped(np.rint((x - params.offset) / params.scale), "uint8"), params


def packed_without_rounding() -> Case:
    x = np.float32(rng().normal(0, 3, 3000))
    params = zp.OffsetParams(0.1, 0.0, dtype="int8", convention="cf")
    return x, saturated(np.trunc(x / params.scale), params), params


def values_cast_too_early() -> Case:
    x = np.float32(rng().uniform(-12, 12, 3000))
    params = zp.OffsetParams(0.1, 0.0, dtype="int8", convention="cf")
    return x, saturated(np.rint(np.trunc(x) / params.scale), params), params


def channels_of_the_other_end() -> Case:
    x = np.float32(rng().normal(0, 0.05, (6, 20, 9)) * np.geomspace(1, 9, 20)[:, None])
    params = zp.choose_params(x, "int8", axis=1, symmetric=True, convention="onnx")
    wrong = zp.choose_params(x, "int8", axis=0, symmetric=True, convention="onnx")
    return x, zp.quantize(x, wrong), params


def times_the_reciprocal() -> Case:
    params = zp.QuantParams(np.float32(5) / 255, 128, convention="onnx")
    x = np.float32((np.arange(-200, 200) / 2)[:, None] * params.scale + np.zeros(20, np.float32))
    return x, saturated(np.rint(x * (1 / params.scale)) + 128, params), params


def rounded_after_the_zero_point() -> Case:
    x = np.float32(rng().integers(-300, 300, 3000) / 4)
    params = zp.QuantParams(0.5, 5, dtype="int8", convention="onnx")
    return x, saturated(np.rint(x / params.scale + 5), params), params


def zero_point_of_a_symmetric_uint8() -> Case:
    x = np.float32(rng().normal(0, 0.3, 3000))
    params = zp.QuantParams(np.abs(x).max() / 127, 128, convention="onnx")
    return x, saturated(np.rint(x / params.scale) + 127, params), params


def range_of_this_recording() -> Case:
    x = np.float32(rng().laplace(0, 0.1, 2000))
    q = (255 * (x - x.min()) / (x.max() - x.min())).astype(np.uint8)
    return x, q, zp.QuantParams(2 / 255, 128, convention="tflite")


def channels_last() -> Case:
    x = np.float32(rng().normal(0, 20, (1, 60, 85)))
    params = zp.QuantParams(0.5, 4, dtype="int8", convention="litert")
    return x, np.ascontiguousarray(zp.quantize(x, params).transpose(0, 2, 1)), params


def calibrated_on_one_row() -> Case:
    known, x = np.float32(rng().normal(size=(2, 500, 256)))
    low, high = known.min(axis=0), known.max(axis=0)
    x = x[:1]
    q = wrapped(np.zeros(x.shape), "int8")  # (x - min) / 1: each column of one row is its own range
    recipe = {"dtype": "int8", "axis": 1, "convention": "sentence-transformers"}
    return x, q, zp.OffsetParams(None, low, span=high - low, **recipe)


def one_scale_for_all_embeddings() -> Case:
    x = np.float32(rng().normal(size=(60, 128)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    params = zp.choose_params(x, "int8", axis=0, symmetric=True, convention="ggml")
    return x, saturated(np.rint(x * 127), params), params


# ---------------------------------------------------------------------------------------------
# The table


class Question(NamedTuple):
    made: Callable[[], Case]
    thread: str  #: of GitHub, or a whole address
    asked: str
    wrong: str  #: the arithmetic of the thread, as a line of ours
    cause: str  #: as the thread found it
    mistakes: tuple[str, ...]  #: what diagnose answers
    verdict: str = "yes"  #: whether that is the cause


QUESTIONS = [
    Question(
        the_example_of_a_detector,
        "ultralytics/ultralytics/issues/13304",
        "The model refuses floats; what is the conversion?",
        "`(x / s + z).astype(np.int8)`",
        "the type; ours: the line that was adopted cuts off",
        ("truncated",),
    ),
    Question(
        a_picture_of_integers,
        "ultralytics/ultralytics/issues/4771",
        "Poses of the int8 model are near, but off",
        "`(pixels / s + z).astype(np.int8)`, pixels 0..255",
        "ours: three at once, not divided by 255, cut off, wrapped",
        ("truncated", "wrapped", "missing_255"),
    ),
    Question(
        cast_without_parameters,
        "anilsathyan7/Portrait-Segmentation/issues/24",
        "Wrong masks from a quantized model",
        "`x.astype(np.int8)`",
        "ours: scale and zero point of the input are never applied",
        ("truncated", "parameters_forgotten"),
    ),
    Question(
        bytes_of_a_camera,
        "espressif/esp-tflite-micro/issues/18",
        "Grey pictures work, coloured ones do not",
        "`pixels.view(np.int8)`",
        "the camera's bytes are unsigned, the model's are signed",
        ("uint8_read_as_int8",),
    ),
    Question(
        the_bytes_themselves,
        "Arm-Examples/ML-examples/issues/8",
        "A model of digits always says 0; must bytes be converted?",
        "`q = pixels`",
        "none was found; ours: with MNIST's usual mean and deviation the bytes *are* the codes",
        (),
        "yes: look elsewhere",
    ),
    Question(
        range_of_this_recording,
        "https://community.st.com/t5/edge-ai/how-to-convert-a-float-array-to-uint8-t-array/m-p/51420",
        "Sound to uint8, outputs nowhere near",
        "`(255 * (x - x.min()) / (x.max() - x.min())).astype(np.uint8)`",
        "the range of one recording, not the model's scale and zero point; ours: cut off as well",
        ("truncated", "other_parameters"),
    ),
    Question(
        channels_last,
        "MPolaris/onnx2tflite/issues/25",
        "Boxes are nonsense after the conversion",
        "`q.transpose(0, 2, 1)`",
        "the converted model has its channels last",
        ("transposed",),
    ),
    Question(
        half_precision_in_the_engine,
        "microsoft/onnxruntime/issues/18576",
        "float16 is rounded down, not to the nearest",
        "`np.trunc(x / s) + z`",
        "the float16 path casts without rounding, repaired by 32452",
        ("truncated",),
    ),
    Question(
        half_of_the_codes_one_lower,
        "tenstorrent/tt-metal/issues/51304",
        "Half of the codes are one less than torch's",
        "`np.trunc(x * (1 / s) + z)`",
        "one of two paths cuts off",
        ("truncated",),
    ),
    Question(
        half_way_points_of_an_accelerator,
        "tenstorrent/tt-metal/issues/56525",
        "14.5 % of bfloat16 data differ from torch",
        "`np.floor(x * (1 / s) + z + 0.5)`",
        "the instruction rounds halves up",
        ("ties_half_up",),
    ),
    Question(
        another_provider,
        "microsoft/onnxruntime/issues/25045",
        "OpenVINO's codes differ by 1",
        "halves away from zero, then `+ z`",
        "that, where ONNX rounds halves to even",
        (),
    ),
    Question(
        rounded_after_the_zero_point,
        "webmachinelearning/webnn-baseline/pull/101",
        "Review of a reference: is this the formula?",
        "`np.rint(x / s + z)`",
        "no: round, then add",
        (),
    ),
    Question(
        times_the_reciprocal,
        "onnx/onnx/issues/6433",
        "Tests of ONNX fail in a compiler",
        "`np.rint(x * (1 / s)) + z`",
        "the reciprocal is rounded; ONNX divides",
        (),
    ),
    Question(
        a_reference_that_casts,
        "onnx/onnx/issues/6169",
        "Should -236 become 20 or -128?",
        "`np.rint(y).astype(np.int8)`",
        "the reference wraps where the operator saturates",
        ("wrapped",),
    ),
    Question(
        embeddings_beyond_the_calibration,
        "huggingface/sentence-transformers/pull/3847",
        "44 in place of 255 outside of the calibrated range",
        "`((x - low) / step - 128).astype(np.int8)`",
        "NumPy's cast wraps; it cuts off, too",
        ("truncated", "wrapped"),
    ),
    Question(
        calibrated_on_one_row,
        "huggingface/sentence-transformers/issues/2837",
        "All codes of an embedding are 0",
        "the range of one row, of each column",
        "a range needs many rows",
        ("scale_inverted",),
        "told: constant codes tell little",
    ),
    Question(
        one_scale_for_all_embeddings,
        "namidb/namidb/pull/101",
        "Why is recall low with 8 bits?",
        "`np.rint(x * 127)`, x of length 1",
        "the components of a unit vector are small, so few codes are used; a scale for each vector",
        ("other_parameters",),
    ),
    Question(
        narrowed_before_the_zero_point,
        "llvm/torch-mlir/pull/4487",
        "231 becomes -1, and should be 103",
        "`np.clip(np.rint(x / s), -128, 127) + z`",
        "narrowed to 8 bits before the zero point is added",
        ("clipped_before_zero_point",),
    ),
    Question(
        the_wrong_kind_of_byte,
        "OpenNMT/CTranslate2/pull/666",
        "Translations are wrong with some compilers",
        "`np.clip(np.rint(x / s) + 128, -128, 127)`",
        "codes of uint8 in a buffer of int8, where some compilers saturate",
        ("clipped_to_other_dtype",),
    ),
    Question(
        one_code_too_few,
        "microsoft/onnxruntime/issues/3442",
        "Why is -128 never there?",
        "`np.clip(y, -127, 127)`",
        "the engine left it out, repaired by 3445",
        ("clipped_127",),
    ),
    Question(
        zero_point_of_a_symmetric_uint8,
        "microsoft/onnxruntime/issues/25823",
        "Zero point 127 in place of 128",
        "`np.rint(x / s) + 127`",
        "a range that was changed in another place",
        ("off_by_1",),
    ),
    Question(
        channels_of_the_other_end,
        "microsoft/onnxruntime/issues/19694",
        "ConvTranspose fails with a scale per channel",
        "scales along axis 0 of a weight whose outputs are axis 1",
        "the axis is that of Conv",
        ("other_parameters",),
    ),
    Question(
        infinity,
        "pytorch/pytorch/issues/133557",
        "Inf becomes 0 and not 255",
        "Inf to int32 first: -2**31, `+ z`, clipped",
        "ours: the conversion to int32 comes before the clip",
        ("int32_before_clipping",),
    ),
    Question(
        months_in_one_file,
        "pydata/xarray/issues/5739",
        "A written file has other values",
        "`np.rint((x - o) / s).astype(np.uint8)`",
        "packed by the scale and offset of the first month, which the second exceeds",
        ("wrapped",),
    ),
    Question(
        packed_without_rounding,
        "Unidata/netcdf4-python/issues/84",
        "Packed data are biased",
        "`np.trunc((x - o) / s)`",
        "cut off; now rounded",
        ("truncated",),
    ),
    Question(
        values_cast_too_early,
        "Unidata/netcdf4-python/issues/46",
        "1.1 in steps of 0.1 is packed as 10",
        "`np.rint(np.trunc(x) / s)`",
        "the values are cast to integers before the division",
        ("data_integers",),
    ),
]


@pytest.fixture(scope="module")
def answers() -> list[zp.Diagnosis]:
    return [zp.diagnose(*question.made()) for question in QUESTIONS]


def test_what_is_named(answers: list[zp.Diagnosis]) -> None:
    named = {q.made.__name__: a.best.mistakes for q, a in zip(QUESTIONS, answers, strict=True)}
    assert named == {q.made.__name__: q.mistakes for q in QUESTIONS}


def test_the_line_that_repairs_it(answers: list[zp.Diagnosis]) -> None:
    for question, found in zip(QUESTIONS, answers, strict=True):
        x, q, params = question.made()
        scope: dict[str, Any] = {"zp": zp, "x": x, "q": q, "params": params}
        exec(found.best.fix, scope)
        assert np.array_equal(scope["q"], zp.quantize(x, scope["params"])), found.best.fix


PAGE = Path(__file__).resolve().parents[1] / "docs/how-to/diagnose.md"


def written(page: str, answers: list[zp.Diagnosis]) -> str:
    """The page with what its code prints, and with the tables of mistakes and of questions."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(page.split("```python\n")[1].split("```")[0], {})
    shown = "\n".join(f"    {line}".rstrip() for line in out.getvalue().splitlines())
    page = between(page, "answer", f"\n{shown}\n")
    mistakes = [[f"`{m.key}`", m.name, m.text] for m in CATALOGUE]
    page = between(page, "mistakes", table("key", "mistake", "what happened", rows=mistakes))
    head = "question", "asked", "what was done", "cause", "the answer", "right?"
    return between(page, "questions", table(*head, rows=map(cells, QUESTIONS, answers)))


def cells(question: Question, found: zp.Diagnosis) -> list[str]:
    link, place = question.thread, question.thread.split("/")[2]
    if not link.startswith("https:"):
        _, place, _, number = link.split("/")
        link, place = f"https://github.com/{link}", f"{place} {number}"
    answer = found.best.name if found.best.mistakes else f"equal to `{found.best.convention}`"
    if found.best.matched < found.size:
        answer += f", {found.best.share:.1%}"
    asked = [f"[{place}]({link})", question.asked, question.wrong, question.cause]
    return [*asked, answer, question.verdict]


def table(*head: str, rows: Iterable[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |\n" for row in (head, *rows)]
    return "".join([lines[0], f"|{'---|' * len(head)}\n", *lines[1:]])


def between(page: str, name: str, text: str) -> str:
    """The page with `text` between the markers of that name."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    before, _, rest = page.partition(begin)
    return before + begin + text + end + rest.partition(end)[2]


def test_the_page(answers: list[zp.Diagnosis]) -> None:
    page = PAGE.read_text()
    assert written(page, answers) == page  # python -m tests.test_public_questions writes it anew


if __name__ == "__main__":
    diagnoses = [zp.diagnose(*each.made()) for each in QUESTIONS]
    PAGE.write_text(written(PAGE.read_text(), diagnoses))
