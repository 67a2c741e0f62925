"""A call that is refused sets no tensor, the good ones before the bad one included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zeropoint.interop import litert


class Recorder:
    """Two quantized inputs, and what is set."""

    def __init__(self) -> None:
        self.set: list[int] = []

    def get_input_details(self) -> list[dict[str, Any]]:
        found = {
            "scales": np.array([0.5], np.float32),
            "zero_points": np.array([3], np.int32),
            "quantized_dimension": 0,
        }
        shared = {"shape": np.array([2]), "dtype": np.int8, "quantization_parameters": found}
        return [{"name": name, "index": i, **shared} for i, name in enumerate("ab")]

    def get_output_details(self) -> list[dict[str, Any]]:
        return []

    def set_tensor(self, index: int, value: Any) -> None:
        self.set.append(index)

    def invoke(self) -> None:
        self.set.append(-1)


def test_nothing_is_set_before_all_is_quantized() -> None:
    recorder = Recorder()
    run = litert.Runner(recorder)
    good, bad = np.ones(2, np.float32), np.ones(2, np.int32)
    with pytest.raises(TypeError, match="input 'b'"):
        run(good, bad)
    assert recorder.set == []
    run(good, good)
    assert recorder.set == [0, 1, -1]
