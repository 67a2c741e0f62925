"""A torch observer's parameters in zeropoint: the bits of torch's eager operators, sooner.

    pip install ".[torch,demo]"
    python examples/torch_observers.py

The weights are a trained embedding table, 32,000 words of 256 values, that wordllama ships.
"""

import sys
import timeit
from importlib.metadata import distribution

try:
    import torch
    from torch.ao.quantization import FakeQuantize, PerChannelMinMaxObserver
    from torch.ao.quantization.fx import _decomposed  # noqa: F401  (torch.ops.quantized_decomposed)

    import zeropoint as zp
    from zeropoint.files import read_tensor
    from zeropoint.interop import torch as zpt

    TABLE = distribution("wordllama").locate_file("wordllama/weights/l2_supercat_256.safetensors")
except ImportError as error:
    sys.exit(f"torch_observers.py: {error}; its first lines say what to install")


def main():
    torch.set_num_threads(1)
    zp.set_num_threads(1)
    table = torch.from_numpy(read_tensor(TABLE, "embedding.weight")).float()

    # One observer of weights, a scale a word, and one fake-quantize module of activations.
    per_word = PerChannelMinMaxObserver(dtype=torch.int8, qscheme=torch.per_channel_symmetric)
    per_word(table)
    module = FakeQuantize(dtype=torch.uint8)
    module(table)
    module.disable_observer()

    rows, whole = zpt.from_torch(per_word), zpt.from_torch(module)
    scales, zero_points, qmin, qmax, dtype = zpt.to_torch(rows)
    how = scales, zero_points, rows.axis, qmin, qmax
    ops = torch.ops.quantized_decomposed
    codes = zpt.quantize(table, rows)
    jobs = {
        "quantize, a scale per row": (
            lambda: ops.quantize_per_channel(table, *how, dtype),
            lambda: zpt.quantize(table, rows),
        ),
        "dequantize, a scale per row": (
            lambda: ops.dequantize_per_channel(codes, *how, dtype),
            lambda: zpt.dequantize(codes, rows),
        ),
        "the fake-quantize module": (
            lambda: module(table),
            lambda: zpt.fake_quantize(table, whole),
        ),
    }
    print(f"{table.numel():,} values, one thread     torch, ms   zeropoint, ms   differ")
    for name, (theirs, ours) in jobs.items():
        before, after = (
            1e3 * min(timeit.repeat(job, number=1, repeat=5)) for job in (theirs, ours)
        )
        different = (theirs() != ours()).sum().item()
        print(f"{name:32}{before:10.1f}{after:16.1f}{different:9}")
        if different:
            sys.exit("zeropoint's bits differ from torch's")


if __name__ == "__main__":
    main()
