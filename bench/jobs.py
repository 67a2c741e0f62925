"""What is measured: the table of jobs, and the data of one job at one size.

A new job is a new entry of `JOBS`.  A new operation is also an entry of `operations.OPERATIONS`.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

import zeropoint as zp
from zeropoint.interop.gguf import quantize_q8_0

from .files import Converted, Sampled
from .loads import BUSY, CALLER
from .machine import memory

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]

KI, MI, GI = 1 << 10, 1 << 20, 1 << 30
SIZES = (1, KI, 64 * KI, MI, 64 * MI)
FEW = 64  # up to so many elements, the time of a call is its fixed cost
BYTES = 16  # an element: data, result, the right result, temporaries of who has no `out`
HUGE = GI  # only for jobs that can be checked chunk by chunk, and whose results fit into 16 GB

#: operations that write their result into `out`, where one is given
WITH_OUT = frozenset(("quantize", "dequantize", "fake_quantize", "quantize_dynamic"))
WITH_OUT |= {"requantize", "saturate", "saturate_cast", "round"}
#: from uint8 codes to codes, by a table
LOOKUPS = frozenset(("rescale", "lookup", "image_lookup"))
WITH_OUT |= LOOKUPS
TO_CODES = LOOKUPS | {"quantize", "quantize_dynamic", "requantize", "saturate_cast"}
TO_CODES |= {"quantize_q8_0"}
#: from file to file; the keywords are those of zeropoint's function, the format with them
FILES = frozenset(("quantize_files", "dequantize_files"))
#: of which passes over one array are only a part
WHOLE = FILES | {"calibrate"}
#: operations whose result depends on the convention
BY_CONVENTION = frozenset(["quantize", "fake_quantize", "quantize_dynamic", "choose_params"])
#: what a job is compared with, if not with the same operation: per tensor, float32, contiguous
UNITS = {
    **dict.fromkeys(
        ("requantize", "saturate", "saturate_cast", "round", "flip_signedness"), "quantize"
    ),
    **dict.fromkeys(("choose_params", "QuantParams"), "quantize"),
    **dict.fromkeys(("error_stats", "compare"), "min_max"),
    **dict.fromkeys(("MinMaxObserver", "HistogramObserver"), "min_max"),
    "quantize_q8_0": "quantize",
    "dequantize_q8_0": "dequantize",
    **dict.fromkeys(LOOKUPS, "lookup"),
}

# ---------------------------------------------------------------------------------------------
# How an array lies in memory: each function makes, from a function that makes a C-contiguous array
# of a shape, the array that a job sees.

Make = Callable[[Shape], Any]


def _nhwc(make: Make, shape: Shape) -> Any:
    """Images with their channels last, as views of images with their channels first."""
    n, h, w, c = shape
    return make((n, c, h, w)).transpose(0, 2, 3, 1)


def _every_other(make: Make, shape: Shape) -> Any:
    return make((*shape[:-1], 2 * shape[-1]))[..., ::2]


def _crop(make: Make, shape: Shape) -> Any:
    n, h, w, c = shape
    return make((n, h + 32, w + 32, c))[:, 16:-16, 16:-16]


def _big_endian(make: Make, shape: Shape) -> Any:
    made = make(shape)
    return made.astype(made.dtype.newbyteorder(">"))


def _list(make: Make, shape: Shape) -> Any:
    return make(shape).tolist()


VIEWS: dict[str, Callable[[Make, Shape], Any]] = {
    "": lambda make, shape: make(shape),
    "NCHW seen as NHWC": _nhwc,
    "x[..., ::2]": _every_other,
    "crop": _crop,
    "big-endian": _big_endian,
    "list": _list,
}


@dataclass(frozen=True)
class Job:
    """One kind of work.  `operation` is the name of the method that a system needs for it."""

    name: str
    operation: str
    convention: str = "numpy"  #: whose bits zeropoint gives; differences are counted against it
    real: str = "float32"  #: dtype of the real values
    codes: str = "uint8"
    axis: int | None = None  #: with an axis (or two dimensions) the data is a square matrix
    block: int | None = None
    columns: int | None = None  #: with as many columns it is a matrix of about that size
    shape: Shape | None = None  #: of the data, if it has a shape of its own
    view: str = ""  #: how the data lies in memory, a name in `VIEWS`
    sizes: tuple[int, ...] = SIZES  #: where it is measured, if nobody asks for others
    load: str = ""  #: what else the machine does meanwhile, of `loads`
    missing: bool = False  #: NaN are among the data, and a code is reserved for them
    keywords: tuple[tuple[str, Any], ...] = ()  #: more arguments of zeropoint's function

    @property
    def title(self) -> str:
        """What the job does, for the heading of a table."""
        text = {
            "quantize": f"{self.real} -> {self.codes}",
            "dequantize": f"{self.codes} -> {self.real}",
            "fake_quantize": f"{self.real} -> {self.codes} -> {self.real}",
            "quantize_dynamic": f"{self.real} -> {self.codes}, parameters chosen",
            "requantize": f"int32 -> {self.codes}",
            "saturate_cast": f"{self.real} -> {self.codes}",
            "flip_signedness": f"{self.codes} -> int8",
            "rescale": f"uint8 -> {self.codes} of other parameters",
            "lookup": f"uint8 -> tanh -> {self.codes}",
            "image_lookup": f"pixels of 224 x 224 -> {self.codes}",
            "QuantParams": "scale and zero point",
            "quantize_q8_0": f"{self.real} -> Q8_0",
            "dequantize_q8_0": f"Q8_0 -> {self.real}",
            "quantize_files": f"files of {self.real} to files",
            "dequantize_files": f"files to files of {self.real}",
            "calibrate": "ranges of an ONNX model's activations",
        }.get(self.operation, self.real)
        if self.block is not None:
            text += f", one scale per block of {self.block} along axis {self.axis}"
        elif self.operation in LOOKUPS and self.axis is not None:
            text += f", one table per index of axis {self.axis}"
        elif self.axis is not None:
            text += f", one scale per index of axis {self.axis}"
        if self.columns is not None:
            text += f", {self.columns} columns"
        if self.shape is not None:
            text += f", shape {self.shape}"
        text += "".join(f", {name}={value!r}" for name, value in self.keywords)
        missing = "missing values" * self.missing
        text += "".join(f", {what}" for what in (missing, self.view, self.load) if what)
        said = self.convention != "numpy" and self.by_convention
        return f"{text}, {self.convention} convention" if said else text

    @property
    def has_offset(self) -> bool:
        """Whether its parameters have a real offset in place of the integer zero point."""
        return self.convention in zp.OFFSET_CONVENTIONS

    @property
    def by_convention(self) -> bool:
        return self.operation in BY_CONVENTION or self.has_offset

    @property
    def has_out(self) -> bool:
        return self.operation in WITH_OUT

    @property
    def plain(self) -> Job:
        """What our speed is compared with: the same per tensor, on contiguous float32."""
        operation = UNITS.get(self.operation, self.operation)
        return Job("plain", operation, self.convention, codes=self.codes)

    @property
    def plain_is_itself(self) -> bool:
        return replace(self.plain, name=self.name, sizes=self.sizes, load=self.load) == self

    @property
    def passes(self) -> tuple[tuple[int, int], ...]:
        """Bytes that each pass over the data must read and write, per element."""
        real = dtype_of(self.real).itemsize
        if self.operation == "quantize_dynamic" and self.axis is None:
            return ((real, 0), (real, 1))  # all data is read before its range is known
        return {
            "quantize": ((real, 1),),
            "dequantize": ((1, real),),
            "fake_quantize": ((real, real),),
            "quantize_dynamic": ((real, 1),),  # a row stays in cache between its two passes
            "requantize": ((4, 1),),
            "saturate": ((real, real),),
            "saturate_cast": ((real, 1),),
            "round": ((real, real),),
            "flip_signedness": ((1, 1),),
            **dict.fromkeys(LOOKUPS, ((1, 1),)),
            "QuantParams": (),
            "quantize_q8_0": ((real, 1),),
            "dequantize_q8_0": ((1, real),),
            "quantize_files": ((real, 1),),
            "dequantize_files": ((1, real),),
        }.get(self.operation, ((real, 0),))

    @property
    def bytes_per_element(self) -> int:
        return sum(read + write for read, write in self.passes)

    def sizes_of(self, asked: tuple[int, ...] | None) -> tuple[int, ...]:
        """Where it is measured: any size that is asked for, unless the job has its own ones."""
        if self.shape is not None:
            own: tuple[int, ...] = (math.prod(self.shape),)
        elif asked is None or self.sizes != SIZES:
            own = self.sizes
        else:
            return asked
        return own if asked is None else tuple(size for size in own if size in asked)


def dtype_of(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        name = importlib.import_module("ml_dtypes").bfloat16
    return np.dtype(name)


def _files(name: str, operation: str = "quantize_files", **how: Any) -> Job:
    """A whole job from file to file: four matrices."""
    keywords = tuple(how.pop("keywords").items())
    return Job(
        name, operation, **{"real": "bfloat16", "shape": (4, *WEIGHTS), **how}, keywords=keywords
    )


def _small(name: str, operation: str, **how: Any) -> Job:
    """A job whose fixed cost is asked for: one element."""
    return Job(name, operation, **{"sizes": (1,), **how})


def _offset_jobs() -> Iterator[Job]:
    """Each convention with a real offset beside integer zero points, on the same shapes."""
    for columns, convention in itertools.product(
        (None, *WIDTHS), ("numpy", *zp.OFFSET_CONVENTIONS)
    ):
        if columns is None and convention == "numpy":
            continue  # that is the job `quantize`
        layout: dict[str, Any] = {"codes": "uint8"}
        if columns is not None:
            layout = {"codes": "int8", "axis": 1, "columns": columns}
        for operation in ("quantize", "dequantize"):
            name = offset_job(convention, operation, columns)
            yield Job(name, operation, convention, **layout, sizes=OFFSET_SIZES)


def offset_job(convention: str, operation: str, columns: int | None) -> str:
    """The name of the job on one of the shapes where real offsets are compared."""
    if columns is None:
        return operation if convention == "numpy" else f"{operation}_{convention}"
    return f"{operation}_{convention}_{columns}"


IMAGES, MAPS = (8, 224, 224, 3), (5, 56, 56, 64)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of ImageNet
LARGE = (64 * KI, MI, 64 * MI)
FEATURES, FILTERS, POINTWISE = (1, 64, 56, 56), (64, 3, 7, 7), (2048, 512, 1, 1)
EMBEDDINGS, WEIGHTS = (100_000, 384), (4096, 4096)
SQUARE = (1024, 1024)
BATCHES = (64, 32, 256)
FIELD = (365, 181, 360)  # a year of a variable, a degree a cell
WIDTHS, OFFSET_SIZES = (384, 768), (64 * KI, MI)
WEIGHT: dict[str, Any] = {
    "real": "bfloat16",
    "codes": "int8",
    "shape": WEIGHTS,
    "keywords": (("symmetric", True),),
}
BY_COLUMN: dict[str, Any] = {"axis": 1, "shape": EMBEDDINGS}
SKIP_NAN: dict[str, Any] = {"keywords": (("skip_nan", True),)}
W8A8 = {"format": "compressed-tensors", "scheme": "W8A8"}

JOBS = (
    Job("quantize", "quantize"),
    Job("quantize_onnx", "quantize", convention="onnx"),
    Job("quantize_torch", "quantize", convention="torch"),
    Job("dequantize", "dequantize"),
    Job("fake_quantize", "fake_quantize"),
    Job("fake_quantize_torch", "fake_quantize", convention="torch"),
    Job("dynamic", "quantize_dynamic"),
    Job("dynamic_onnx", "quantize_dynamic", convention="onnx"),
    Job("dynamic_rows", "quantize_dynamic", axis=0),
    Job("min_max", "min_max"),
    Job("axis0", "quantize", codes="int8", axis=0),
    Job("axis1", "quantize", codes="int8", axis=1),
    Job("block32", "quantize", codes="int8", axis=1, block=32),
    Job("block32_axis0", "quantize", codes="int8", axis=0, block=32),
    Job("float16", "quantize", real="float16"),
    Job("dequantize_float16", "dequantize", real="float16"),
    # codes to codes
    Job("rescale", "rescale", sizes=LARGE, keywords=(("arithmetic", "float"),)),
    Job("lookup", "lookup", sizes=LARGE),
    Job("image_lookup", "image_lookup", codes="int8", axis=3, sizes=LARGE),
    Job("image_lookup_nchw", "image_lookup", codes="int8", axis=1, sizes=LARGE),
    # layouts
    Job("nhwc3", "quantize", shape=IMAGES, view="NCHW seen as NHWC"),
    Job("nhwc64", "quantize", shape=MAPS, view="NCHW seen as NHWC"),
    Job("nhwc3_dequantize", "dequantize", shape=IMAGES, view="NCHW seen as NHWC"),
    Job("every_other", "quantize", shape=SQUARE, view="x[..., ::2]"),
    Job("crop", "quantize", shape=IMAGES, view="crop"),
    Job("big_endian", "quantize", shape=(MI,), view="big-endian"),
    # one scale for each channel, row, column or block of shapes as in networks
    Job("features", "quantize", codes="int8", axis=1, shape=FEATURES),
    Job("filters", "quantize", codes="int8", axis=0, shape=FILTERS),
    Job("pointwise", "quantize", codes="int8", axis=0, shape=POINTWISE),
    Job("channels3_last", "quantize", codes="int8", axis=3, shape=IMAGES),
    Job("channels64_last", "quantize", codes="int8", axis=3, shape=MAPS),
    Job("embeddings_rows", "quantize", codes="int8", axis=0, shape=EMBEDDINGS),
    Job("embeddings_columns", "quantize", codes="int8", axis=1, shape=EMBEDDINGS),
    Job("dynamic_features", "quantize_dynamic", axis=1, shape=FEATURES),
    Job("dynamic_filters", "quantize_dynamic", axis=0, shape=FILTERS),
    Job("dynamic_pointwise", "quantize_dynamic", axis=0, shape=POINTWISE),
    Job("dynamic_embeddings_rows", "quantize_dynamic", axis=0, shape=EMBEDDINGS),
    Job("dynamic_embeddings_columns", "quantize_dynamic", axis=1, shape=EMBEDDINGS),
    Job("dynamic_block32", "quantize_dynamic", axis=1, block=32, shape=SQUARE),
    Job("dynamic_block64", "quantize_dynamic", axis=1, block=64, shape=SQUARE),
    Job("dynamic_block128", "quantize_dynamic", axis=1, block=128, shape=SQUARE),
    Job("dynamic_float16_rows", "quantize_dynamic", real="float16", axis=0, shape=WEIGHTS),
    Job("dynamic_bfloat16_rows", "quantize_dynamic", real="bfloat16", axis=0, shape=WEIGHTS),
    # what other engines load
    Job("weights_rows", "quantize_dynamic", **WEIGHT, axis=0),
    Job("weights_groups", "quantize_dynamic", **WEIGHT, axis=1, block=128),
    Job("q8_0", "quantize_q8_0", shape=WEIGHTS),
    Job("q8_0_float16", "quantize_q8_0", real="float16", shape=WEIGHTS),
    Job("dequantize_q8_0", "dequantize_q8_0", shape=WEIGHTS),
    Job("dequantize_q8_0_float16", "dequantize_q8_0", real="float16", shape=WEIGHTS),
    _files("files_W8A8", keywords=W8A8),
    _files("files_W8A16", keywords={"format": "compressed-tensors", "scheme": "W8A16"}),
    _files("files_comfyui", keywords={"format": "comfyui"}),
    _files("files_q8_0", real="float16", keywords={"format": "gguf"}),
    _files("files_W8A8_back", "dequantize_files", keywords=W8A8),
    _files("files_q8_0_back", "dequantize_files", real="float16", keywords={"format": "gguf"}),
    Job("calibrate", "calibrate", shape=BATCHES, keywords=(("method", "minmax"),)),
    Job("calibrate_mse", "calibrate", shape=BATCHES, keywords=(("method", "mse"),)),
    # real offsets, and missing values: what vector search and scientific arrays have
    Job("faiss", "quantize", "faiss", **BY_COLUMN),
    Job("faiss_back", "dequantize", "faiss", **BY_COLUMN),
    Job("sentence-transformers", "quantize", "sentence-transformers", **BY_COLUMN),
    Job(
        "sentence-transformers_int8", "quantize", "sentence-transformers", codes="int8", **BY_COLUMN
    ),
    Job("cf", "quantize", "cf", shape=FIELD, missing=True),
    Job("cf_back", "dequantize", "cf", shape=FIELD, missing=True),
    *_offset_jobs(),
    Job("quantize_missing", "quantize", sizes=OFFSET_SIZES, missing=True),
    Job("dequantize_missing", "dequantize", sizes=OFFSET_SIZES, missing=True),
    Job("quantize_cf_missing", "quantize", "cf", sizes=OFFSET_SIZES, missing=True),
    Job("dequantize_cf_missing", "dequantize", "cf", sizes=OFFSET_SIZES, missing=True),
    Job("min_max_skip_nan", "min_max", sizes=(64 * KI, MI, 64 * MI), missing=True, **SKIP_NAN),
    # the machine is not ours alone
    Job("quantize_busy", "quantize", sizes=(256 * KI, MI, 4 * MI, 16 * MI), load=BUSY),
    Job("quantize_callers", "quantize", sizes=(64 * KI, MI, 16 * MI), load=CALLER),
    # what a call costs
    _small("requantize", "requantize", sizes=(1, 64 * MI)),
    _small("saturate", "saturate"),
    _small("saturate_cast", "saturate_cast"),
    _small("round", "round"),
    _small("flip_signedness", "flip_signedness"),
    _small("choose_params", "choose_params"),
    _small("QuantParams", "QuantParams"),
    _small("QuantParams_axis", "QuantParams", codes="int8", axis=0, shape=(64, 1)),
    _small("MinMaxObserver", "MinMaxObserver"),
    _small("HistogramObserver", "HistogramObserver", sizes=(1, 64 * KI, 64 * MI)),
    _small("error_stats", "error_stats", sizes=(1, 64 * KI, 64 * MI)),
    _small("compare", "compare", sizes=(1, 64 * KI, 64 * MI)),
    _small("bfloat16", "quantize", real="bfloat16"),
    _small("check_finite", "quantize", keywords=(("check_finite", True),)),
    _small("dequantize_bfloat16", "dequantize", real="bfloat16"),
    _small("strided_view", "quantize", shape=(40,), view="x[..., ::2]"),
    _small("a_list", "quantize", shape=(40,), view="list"),
)

_JOBS = {job.name: job for job in JOBS}


def job_named(name: str) -> Job:
    return _JOBS[name]


class Case:
    """One job at one size: its data, its parameters, and the array for its result.

    Everything is made on first use, and shared by all systems, so that none is luckier than
    another with its addresses.
    """

    def __init__(self, job: Job, size: int) -> None:
        self.job, self.size = job, size
        side = math.isqrt(size)
        self.shape = job.shape or ((size,) if job.axis is None else (side, side))
        if job.columns is not None:
            self.shape = size // job.columns, job.columns
            self.size = math.prod(self.shape)
        elif job.operation == "image_lookup":
            image = (224, 224, 3) if job.axis == 3 else (3, 224, 224)
            self.shape = max(1, size // math.prod(image)), *image
            self.size = math.prod(self.shape)

    def plain(self) -> Case:
        """The same number of elements, for the job that this one is compared with."""
        return Case(self.job.plain, self.size)

    def to_check(self) -> Case:
        """Where the result is compared with the reference's: smaller, where that takes minutes."""
        slow = self.job.operation == "compare" and self.size > MI
        return Case(replace(self.job, shape=None), MI) if slow else self

    def why_not(self) -> str | None:
        """Why this job cannot run at this size, None if it can."""
        if self.size >= HUGE and (
            self.job.axis is not None or self.job.operation not in ("quantize", "dequantize")
        ):
            return "1 Gi elements would need more than 16 GB"
        free = memory()
        if free is not None and self.size * BYTES > free:
            needed = f"{self.size * BYTES / 1e9:.1f} GB of memory"
            return f"needs about {needed}, and {free / 1e9:.1f} GB are free"
        try:
            dtype_of(self.job.real)
            if self.job.operation == "calibrate":
                importlib.import_module("onnx")
                importlib.import_module("onnxruntime")
        except ImportError as error:
            return str(error)
        if self.job.axis is None or self.job.shape or self.job.operation == "image_lookup":
            return None
        if self.job.columns is not None:
            return None if self.size else f"no row of {self.job.columns} columns"
        if math.prod(self.shape) != self.size or self.shape[0] % (self.job.block or 2):
            return f"size {self.size} is no square matrix with whole blocks"
        return None

    def _make_x(self, shape: Shape) -> Array:
        if self.job.operation == "requantize":
            return np.random.default_rng(1).integers(-(1 << 20), 1 << 20, shape, np.int32)
        values = np.random.default_rng(1).standard_normal(shape, np.float32)
        values *= np.float32(0.4)
        if self.job.missing:
            some = np.random.default_rng(5).integers(0, values.size, values.size // 64)
            values.reshape(-1)[some] = np.nan
        return values.astype(dtype_of(self.job.real), copy=False)

    def _make_q(self, shape: Shape) -> Array:
        codes = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
        return codes if self.job.operation in LOOKUPS else codes.view(self.job.codes)

    @cached_property
    def x(self) -> Any:
        """Real values, of which about one in a hundred saturates (for requantize, sums)."""
        return VIEWS[self.job.view](self._make_x, self.shape)

    @cached_property
    def q(self) -> Any:
        """Codes."""
        return VIEWS[self.job.view](self._make_q, self.shape)

    @property
    def source(self) -> Any:
        match self.job.operation:
            case "dequantize" | "flip_signedness" | "rescale" | "lookup" | "image_lookup":
                return self.q
            case "dequantize_q8_0":
                return self.blocks
            case "quantize_files" | "dequantize_files":
                return self.files
            case "calibrate":
                return self.samples
            case _:
                return self.x

    @cached_property
    def blocks(self) -> Array:
        """Q8_0 of the real values."""
        return quantize_q8_0(self.x)

    @cached_property
    def files(self) -> Converted:
        """The real values in files."""
        return Converted(self.x, dict(self.job.keywords)["format"])

    @cached_property
    def samples(self) -> Sampled:
        """A model, and the real values as its batches."""
        return Sampled(self.x)

    @cached_property
    def out(self) -> Array:
        """Where systems that can write to a given array put their result.

        It lies in memory as the data, where that is possible.
        """
        return np.empty_like(self.source, self.out_dtype)

    def new_out(self) -> Array:
        """A result as one comes that was not given: C-contiguous."""
        return np.empty(self.shape, self.out_dtype)

    @property
    def out_dtype(self) -> np.dtype[Any]:
        return dtype_of(self.job.codes if self.job.operation in TO_CODES else self.job.real)

    def params(self, convention: str) -> Any:
        """The zp.QuantParams or, with a real offset, zp.OffsetParams."""
        how: dict[str, Any] = {
            "axis": self.job.axis,
            "block_size": self.job.block,
            "convention": convention,
            "nan_code": self.nan_code,
        }
        if convention not in zp.OFFSET_CONVENTIONS:
            return zp.QuantParams(self.scale, self.zero_point, self.job.codes, **how)
        scale, offset = self.numbers
        if convention == "cf":
            return zp.OffsetParams(scale, offset, self.job.codes, **how)
        return zp.OffsetParams(None, offset, self.job.codes, span=self.span, **how)

    @cached_property
    def given(self) -> zp.QuantParams:
        """What the codes that a table changes are under."""
        return zp.QuantParams(np.float32(0.0121), 118, "uint8")

    @cached_property
    def wanted(self) -> zp.QuantParams:
        """And what they become, per tensor: of images an int8 model's."""
        if self.job.operation == "image_lookup":
            return zp.QuantParams(np.float32(0.0187), -14, self.job.codes)
        return zp.QuantParams(self.scale, self.zero_point, self.job.codes)

    @cached_property
    def lookup(self) -> Any:
        """The zp.Lookup of the job."""
        if self.job.operation == "image_lookup":
            axis = -1 if self.job.axis is None else self.job.axis
            return zp.image_lookup(MEAN, STD, self.wanted, channel_axis=axis)
        return zp.Lookup(np.tanh, self.given, self.wanted)

    @cached_property
    def table(self) -> Array:
        """What each code becomes, (256,) or for each channel (channels, 256)."""
        if self.job.operation != "rescale":
            return np.asarray(self.lookup.table)
        codes = np.arange(256, dtype=np.uint8)
        return zp.rescale(codes, self.given, self.wanted, **dict(self.job.keywords))

    @property
    def nan_code(self) -> int | None:
        """The code of missing values: that of NetCDF's default fill, or int8's lowest."""
        return {"uint8": 255, "int8": -128}[self.job.codes] if self.job.missing else None

    @property
    def code_range(self) -> tuple[int, int]:
        info, used = np.iinfo(self.job.codes), self.nan_code
        return int(info.min) + (used == info.min), int(info.max) - (used == info.max)

    @cached_property
    def _parameter_shape(self) -> Shape:
        if self.job.axis is None:
            return ()
        if self.job.block is None:
            return (self.shape[self.job.axis],)
        shape = list(self.shape)
        shape[self.job.axis] //= self.job.block
        return tuple(shape)

    @cached_property
    def scale(self) -> Any:
        """float32; rounded to float16 where the data is, for ONNX wants both in one dtype."""
        if self.job.axis is None:
            real = np.dtype("float16" if self.job.real == "float16" else "float32")
            return np.float32(real.type(0.0078))
        return np.random.default_rng(3).uniform(0.004, 0.012, self._parameter_shape).astype("f4")

    @cached_property
    def zero_point(self) -> Any:
        if self.job.axis is None:
            return 127
        return np.random.default_rng(4).integers(-20, 21, self._parameter_shape, np.int32)

    @cached_property
    def ends(self) -> tuple[Any, Any]:
        """First and last value of the range of a real offset, float32.

        Under cf, per tensor, it holds all data: beyond it xarray's codes wrap.
        """
        steps = 2.6 if self.job.convention == "cf" else 1.0
        low = np.float32(-127.3 * steps) * self.scale
        return low, low + np.float32(255 * steps) * self.scale

    @property
    def span(self) -> Any:
        low, high = self.ends
        return high - low

    @cached_property
    def numbers(self) -> tuple[Any, Any]:
        """Scale and zero point; with a real offset the scale, or faiss' span, and the offset."""
        if not self.job.has_offset:
            return self.scale, self.zero_point
        if self.job.convention == "faiss":
            return self.span, self.ends[0]
        qmin, qmax = self.code_range
        scale = self.span / np.float32(qmax - qmin)
        first = np.float32(qmin) if self.job.convention == "cf" else np.float32(0)
        return scale, self.ends[0] - first * scale

    @cached_property
    def broadcast(self) -> tuple[Shape, Any, Any]:
        """A shape for the data, and float32 `numbers` that broadcast against it."""
        scale, zero = self.numbers[0], np.float32(self.numbers[1])
        axis, block = self.job.axis, self.job.block
        if axis is None:
            return self.shape, scale, zero
        if block is None:
            along = [1] * len(self.shape)
            along[axis] = -1
            return self.shape, scale.reshape(along), zero.reshape(along)
        at = axis + 1
        shape = (*scale.shape[:at], block, *scale.shape[at:])
        return shape, np.expand_dims(scale, at), np.expand_dims(zero, at)

    @cached_property
    def runs(self) -> Runs:
        """The data as rows that have their parameters in common, or as runs that each have one."""
        scale, zero = self.numbers[0], np.asarray(self.numbers[1], np.float32)
        axis, block = self.job.axis, self.job.block
        assert axis is not None
        before, after = math.prod(self.shape[:axis]), math.prod(self.shape[axis + 1 :])
        if block is not None:
            groups = before * self.shape[axis] // block
            by_column, shape = after > 1, (groups, block, after)
            parameters = (groups, after if by_column else 1)
        elif after > 1:
            by_column, shape = False, (before * self.shape[axis], 1, after)
            scale, zero = np.tile(scale, before), np.tile(zero, before)
            parameters = (before * self.shape[axis], 1)
        else:
            by_column, shape = True, (1, before, self.shape[axis])
            parameters = (1, self.shape[axis])
        if not by_column:
            shape = (shape[0], 1, math.prod(shape[1:]))
        return Runs(by_column, shape, scale.reshape(parameters), zero.reshape(parameters))


class Runs(NamedTuple):
    """Data in three dimensions, (groups, rows, elements), with float32 `Case.numbers`.

    These are (groups, elements) `by_column`, else (groups, 1), and then a group has one row.
    """

    by_column: bool
    shape: Shape
    scale: Array
    zero: Array
