"""A photograph through the start of an int8 model, from codes to codes, with no float in between.

    pip install ".[plot]"
    python examples/codes_to_codes.py

The photograph is real: Grace Hopper's, as matplotlib ships it.  Its pixels become the codes of a
model's input, go through an activation, and become codes under the parameters of the next layer.
Each step is a table of 256 codes, beside the same in floats.
"""

import sys
import time

try:
    import numpy as np
    from matplotlib.cbook import get_sample_data
    from matplotlib.image import imread

    import zeropoint as zp
except ImportError as error:
    sys.exit(f"codes_to_codes.py: {error}; its first lines say what to install")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # torchvision's, of ImageNet
INPUT = zp.QuantParams(0.0186, -14, "int8", convention="litert")
ACTIVATED = zp.QuantParams(0.0118, -96, "int8", convention="litert")
NEXT = zp.QuantParams(0.0157, -104, "int8", convention="litert")


def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def normalized(pixels, real):
    return (pixels.astype(real) / real(255) - np.array(MEAN, real)) / np.array(STD, real)


def microseconds(call):
    """The best of several calls."""
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return 1e6 * best


def row(name, table, floats):
    us = microseconds(table), microseconds(floats)
    differing = int(np.count_nonzero(table() != floats()))
    print(f"{name:34} {us[0]:9.0f} us {us[1]:9.0f} us {differing:8,}")


def main():
    with get_sample_data("grace_hopper.jpg") as file:
        pixels = imread(file, "jpg")[100:324, 140:364]
    print(f"pixels {pixels.shape} {pixels.dtype}, {pixels.size:,} bytes")
    print(f"{'':34} {'a table':>12} {'in floats':>12} {'differ':>8}")

    look_up = zp.image_lookup(MEAN, STD, INPUT)
    codes = np.empty(pixels.shape, np.int8)
    row(
        "pixels to codes, in float64",
        lambda: look_up(pixels, out=codes),
        lambda: zp.quantize(normalized(pixels, np.float64), INPUT),
    )
    row(
        "the same in float32",
        lambda: look_up(pixels, out=codes),
        lambda: zp.quantize(normalized(pixels, np.float32), INPUT),
    )

    activate = zp.Lookup(hard_swish, INPUT, ACTIVATED)
    row(
        "hard swish",
        lambda: activate(codes),
        lambda: zp.quantize(hard_swish(zp.dequantize(codes, INPUT, dtype="float64")), ACTIVATED),
    )
    print(f"its worst error is {activate.max_abs_error / ACTIVATED.scale:.3f} steps")

    active = activate(codes)
    for arithmetic in ("exact", "float", "litert", "litert_reference"):
        row(
            f'rescale, arithmetic="{arithmetic}"',
            lambda a=arithmetic: zp.rescale(active, ACTIVATED, NEXT, arithmetic=a),
            lambda: zp.quantize(zp.dequantize(active, ACTIVATED), NEXT),
        )


if __name__ == "__main__":
    main()
