"""What reads foreign data takes it or refuses it: the fuzzer for a moment, and what it found.

``tests/deep/test_fuzz_parsers.py`` gives it longer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zeropoint as zp
from zeropoint import files, observers
from zeropoint.interop import litert

from .fuzz import PARSERS, report


@pytest.mark.slow("a process for each parser")
@pytest.mark.parametrize("name", PARSERS)
def test_fuzz(name: str, note: Any) -> None:
    """The corpus, and mutants for a moment."""
    pytest.importorskip(PARSERS[name].needs)
    line = report(name, seconds=0.3, seed=0)
    note(line)


def test_the_fuzzer_sees_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exception, a warning of ours or a part that is left fails it."""
    from . import fuzz

    monkeypatch.chdir(tmp_path)

    def broken(fields: Any) -> Any:
        raise KeyError("scale")

    monkeypatch.setattr(zp.QuantParams, "from_dict", broken)
    with pytest.raises(KeyError):
        fuzz.fuzz("params", 1, 0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["fuzz-params-0-0.pickle"]


# ---------------------------------------------------------------------------------------------
# Found by it

LITERT = {
    "name": "x",
    "shape": [1, 3],
    "dtype": "uint8",
    "quantization_parameters": {
        "scales": np.array([0.5], np.float32),
        "zero_points": np.array([3]),
        "quantized_dimension": 0,
    },
}


def nested(depth: int = 100_000) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize("field", ["scale", "zero_point", "dtype", "qmin", "axis", "scale_dtype"])
def test_deep_lists_are_refused_in_few_words(field: str) -> None:
    """They were a RecursionError, in the search of the list or in the text of the error."""
    fields = zp.QuantParams(0.5, 3).to_dict() | {field: nested()}
    with pytest.raises((TypeError, ValueError), match=field.split("_")[0]) as error:
        zp.QuantParams.from_dict(fields)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("kind", [observers.MinMaxObserver, observers.HistogramObserver])
@pytest.mark.parametrize("field", ["min", "precision", "axis"])
def test_deep_lists_in_observers(kind: Any, field: str) -> None:
    fields = kind().update(np.ones(3, np.float32)).to_dict() | {field: nested()}
    with pytest.raises((TypeError, ValueError), match=field) as error:
        kind.from_dict(fields)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("shape", [(0, 2**62, 2**62), (0, 2**62), (2**62, 0, 16)])
def test_an_empty_array_of_impossible_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """NumPy has no such array; the error did not name the file."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path = tmp_path / "w.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(ValueError, match=r"w.npy: tensor 'w' has a shape that is too large"):
        files.read_tensor(path, "w")


@pytest.mark.parametrize(
    "changed",
    [
        {"quantization_parameters": 3},
        {"dtype": nested()},
        {"shape": [float("inf"), 3]},
        {"name": nested(), "dtype": "float32"},
    ],
    ids=["no dictionary", "deep dtype", "endless shape", "deep name"],
)
def test_litert_details_that_are_none(changed: dict[str, Any]) -> None:
    """They were an AttributeError, a RecursionError or an OverflowError."""
    assert litert.params(LITERT) == zp.QuantParams(0.5, 3, convention="litert")
    with pytest.raises((TypeError, ValueError)):
        litert.params(LITERT | changed)


@pytest.mark.parametrize(
    ("scales", "zero_points"),
    [(0.5, [3]), ([0.5], 3), ([0.5], [3.5]), ([0.5], [float("inf")]), ([[0.5]], [3])],
)
def test_litert_parameters_that_are_no_vectors(scales: Any, zero_points: Any) -> None:
    """They were an IndexError or an OverflowError; and 3.5 was taken for 3."""
    changed = {"scales": scales, "zero_points": zero_points, "quantized_dimension": 0}
    with pytest.raises((TypeError, ValueError), match="tensor 'x'"):
        litert.params(LITERT | {"quantization_parameters": changed})


class TestOnnx:
    """Models that onnx reads and its checker would refuse."""

    @staticmethod
    def model(*nodes: Any, **constants: Any) -> Any:
        onnx = pytest.importorskip("onnx")
        graph = onnx.GraphProto(node=nodes)
        for name, value in constants.items():
            graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return onnx.ModelProto(graph=graph)

    @pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear", "Cast", "Identity"])
    def test_nodes_without_inputs(self, op: str) -> None:
        """They were an IndexError."""
        onnx = pytest.importorskip("onnx")
        from zeropoint.interop.onnx import params

        model = self.model(onnx.helper.make_node(op, [], ["y"]))
        with pytest.raises(ValueError, match=f"of type {op} lacks inputs or outputs"):
            params(model, "y")

    def test_an_unknown_type(self) -> None:
        """It was a KeyError."""
        onnx = pytest.importorskip("onnx")
        from zeropoint.interop.onnx import params

        node = onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])
        for kind, message in ((0, "does not give the type"), (99, "codes of type 99")):
            model = self.model(node, s=np.float32(1), z=np.uint8(0))
            model.graph.initializer[1].data_type = kind
            with pytest.raises(ValueError, match=message):
                params(model, "y")

    def test_a_zero_point_that_makes_itself(self) -> None:
        """It was a RecursionError."""
        onnx = pytest.importorskip("onnx")
        from zeropoint.interop.onnx import params

        node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["z"])
        with pytest.raises(ValueError, match="does not give the type"):
            params(self.model(node, s=np.float32(1)), "x")

    def test_constants_of_too_few_bytes(self) -> None:
        onnx = pytest.importorskip("onnx")
        from zeropoint.interop.onnx import params

        node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])
        model = self.model(node, s=np.float32(1), z=np.uint8(3))
        model.graph.initializer[0].raw_data = b"abc"
        with pytest.raises(ValueError, match="tensor 's' cannot be read"):
            params(model, "x")


def test_a_zarr_codec_that_is_no_dictionary() -> None:
    """It was an AttributeError."""
    pytest.importorskip("zarr")
    from zeropoint.zarr import AffineCodec

    with pytest.raises(ValueError, match="must have params"):
        AffineCodec.from_dict(True)  # type: ignore[arg-type]
