"""Q8_0 blocks beside the gguf package's own quantizer, which is bit for bit llama.cpp's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import files
from zeropoint.interop.gguf import dequantize_q8_0, quantize_q8_0

from ..exact import neighbours

gguf = pytest.importorskip("gguf")
Q8_0 = gguf.GGMLQuantizationType.Q8_0
Array = np.ndarray[Any, np.dtype[Any]]
Record = Callable[[str, str, str, int, int], None]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


def same(x: Array) -> int:
    """Bytes and values equal gguf's; the number of elements."""
    blocks = quantize_q8_0(x)
    np.testing.assert_array_equal(blocks, gguf.quants.quantize(x, Q8_0))
    values = gguf.quants.dequantize(blocks, Q8_0)
    assert dequantize_q8_0(blocks).tobytes() == values.tobytes()
    return x.size


def rows(x: Any) -> Array:
    return np.resize(np.asarray(x, np.float32), (-(-np.size(x) // 32), 32))


def test_half_steps(backend: str, record: Record) -> None:
    """Blocks whose largest element is m * 127 steps, the others half steps and their neighbours."""
    rng = np.random.default_rng(0)
    n = 0
    for step in [1, 2.0**-7, 0.1, 1 / 3, 1.96185386, *np.exp(rng.uniform(-8, 8, 40))]:
        halves = neighbours((np.arange(-127, 127) + 0.5) * step)
        blocks = rows(rng.permutation(np.resize(halves, 31 * 60))).copy()
        blocks[:, 0] = np.float32(127 * step) * rng.choice([-1, 1], len(blocks))
        n += same(blocks)
    record("gguf", "Q8_0 at half steps", backend, n, 0)


def test_blocks_of_every_size(backend: str) -> None:
    """From subnormal scales and those that float16 has no room for, to the largest that it has."""
    rng = np.random.default_rng(1)
    sizes = np.ldexp(np.float32(1), np.arange(-149, 23))
    x = (rng.uniform(-1, 1, (len(sizes), 40, 32)) * sizes[:, None, None]).astype(np.float32)
    x[..., 3] = 0
    same(x)
    same(np.zeros((3, 64), np.float32))
    same(-np.zeros((3, 64), np.float32))
    edges = neighbours([2.0**-25 * 127, 2.0**-24 * 127, 2.0**-14 * 127, 127 / 2.0**128, 8321039.5])
    units = rng.uniform(-1, 1, (20, 32))
    same(np.concatenate([np.outer(edges, unit) for unit in units], dtype=np.float32))
    same(np.outer(np.delete(edges, -1), np.eye(32)[:20]).reshape(-1, 32).astype(np.float32))


def test_dtypes_and_layouts(backend: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(2).normal(size=(6, 5, 96))
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ">f4"):
        same(x.astype(dtype))
        same(x.astype(dtype)[::-1, ::2])
        same(np.asfortranarray(x.astype(dtype)))
    same(x.astype(np.float32)[:0])


def test_every_float16(backend: str) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = x[np.isfinite(x)]
    same(np.resize(finite, (-(-finite.size // 32), 32)))
    same(np.random.default_rng(3).permutation(finite)[: finite.size // 32 * 32])


def test_all_codes_and_scales(backend: str) -> None:
    """Blocks of every finite scale, those that no quantizer writes too, and all codes."""
    d = np.arange(2**16, dtype=np.uint16).view(np.float16)
    d = d[np.isfinite(d)]
    codes = np.random.default_rng(4).integers(-128, 128, (d.size, 32), np.int8)
    blocks = np.concatenate([d.view(np.uint8).reshape(-1, 2), codes.view(np.uint8)], axis=1)
    values = gguf.quants.dequantize(blocks, Q8_0)
    assert dequantize_q8_0(blocks).tobytes() == values.tobytes()
    half = dequantize_q8_0(blocks, dtype=np.float16)
    assert half.tobytes() == values.astype(np.float16).tobytes()


def packaged(package: str, path: str) -> Path:
    """A file of a package, which is found and not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0], path)


def test_word_vectors(native: str, record: Record) -> None:
    path = packaged("wordllama", "weights/l2_supercat_256.safetensors")
    x = files.read_tensor(path, "embedding.weight")
    record("gguf", "Q8_0 of wordllama's table", native, same(x), 0)


MODELS = ("magika", "models/standard_v3_3/model.onnx"), ("silero_vad", "data/silero_vad.onnx")


def weights(package: str, path: str) -> Iterator[Array]:
    """Every float32 tensor, in rows of 32 where its own do not divide by it."""
    onnx = pytest.importorskip("onnx")

    def tensors(graph: Any) -> Iterator[Any]:
        yield from graph.initializer
        for attribute in (a for node in graph.node for a in node.attribute):
            yield from [attribute.t] if attribute.HasField("t") else []
            yield from tensors(attribute.g) if attribute.HasField("g") else []

    for tensor in tensors(onnx.load(packaged(package, path)).graph):
        x = onnx.numpy_helper.to_array(tensor)
        if x.dtype == np.float32 and x.size >= 32:
            yield x if x.ndim and x.shape[-1] % 32 == 0 else x.ravel()[: x.size // 32 * 32]


@pytest.mark.parametrize(("package", "path"), MODELS)
def test_weights_of_models(native: str, record: Record, package: str, path: str) -> None:
    n = sum(same(x) for x in weights(package, path))
    record("gguf", f"Q8_0 of {package}'s weights", native, n, 0)


def test_files_of_real_weights(tmp_path: Path, record: Record) -> None:
    """The package writes them, `quantize_file` converts, the package reads: its own bytes."""
    table = packaged("wordllama", "weights/l2_supercat_256.safetensors")
    real = [files.read_tensor(table, "embedding.weight")[:8192]]
    for package, path in MODELS:
        real += [x for x in weights(package, path) if x.size >= 64]
    source, target = tmp_path / "m.gguf", tmp_path / "q.gguf"
    writer = gguf.GGUFWriter(source, "llama")
    for i, x in enumerate(real):
        writer.add_tensor(f"{i}.weight", x.reshape(-1, 32).astype("f2" if i % 2 else "f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files.quantize_file(source, target)
    before = {tensor.name: tensor.data for tensor in gguf.GGUFReader(source).tensors}
    after = gguf.GGUFReader(target).tensors
    assert len(after) == len(real)
    for tensor in after:
        assert tensor.tensor_type == Q8_0
        there = gguf.quants.quantize(before[tensor.name].astype(np.float32), Q8_0)
        assert tensor.data.tobytes() == there.tobytes()
    record("gguf", "Q8_0 files of real weights", zp.backend(), sum(x.size for x in real), 0)
