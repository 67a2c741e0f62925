"""An int8 wake-word model, fed by the line that notebooks have, and by zeropoint.

    pip install ".[litert]" pymicro-wakeword==2.5.0
    python examples/litert_wake_word.py

Every 30 ms the model takes a chunk of a spectrogram as int8, and gives as uint8 how likely it is
that somebody has said "hey mycroft"; its maker counts that as heard from 0.95 on.
"""

import sys
import timeit
from importlib.metadata import distribution

try:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    from zeropoint.interop import litert

    PACKAGE = distribution("pymicro-wakeword")
except ImportError as error:
    sys.exit(f"litert_wake_word.py: {error}; its first lines say what to install")

MODEL = PACKAGE.locate_file("pymicro_wakeword/models/hey_mycroft.tflite")


def opened():
    interpreter = Interpreter(str(MODEL), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def spectrogram():
    """100 steps [1, 3, 40] of a made-up voice: three wandering bands, loud and silent in turn.

    Most such voices say nothing to the model; this seed is one that it takes for its word.
    """
    rng, frame, band = np.random.default_rng(113), np.arange(300)[:, None], np.arange(40)
    x = rng.uniform(0, 2, (300, 40))
    for start in (8, 18, 28):
        centre = start + np.cumsum(rng.normal(0, 0.7, (300, 1)), axis=0)
        loud = 18 * (np.sin(frame / 12 + 113) > -0.3)
        x += loud * np.exp(-0.5 * ((band - centre) / 1.7) ** 2)
    return x.astype(np.float32).reshape(100, 1, 3, 40)


def main():
    interpreter, x = opened(), spectrogram()
    given, taken = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    (scale, zero_point), (out_scale, out_zero_point) = given["quantization"], taken["quantization"]

    # Before: nothing is rounded, so half of the codes are off by one; nothing saturates, so the
    # loudest values wrap around to silence.
    def by_hand(step):
        codes = (step / scale + zero_point).astype(np.int8)
        interpreter.set_tensor(given["index"], codes)
        interpreter.invoke()
        codes = interpreter.get_tensor(taken["index"])
        return [(codes.astype(np.float32) - out_zero_point) * out_scale]

    # After: the codes that LiteRT's own QUANTIZE operator makes of the same values.
    run = litert.Runner(opened())

    params = litert.params(given)
    right = np.clip(np.rint(x * (1 / params.scale)) + zero_point, -128, 127)  # its formula
    codes = (x / scale + zero_point).astype(np.int8), params.quantize(x)
    errors = [abs(q - right) for q in codes]
    rows = {
        "wrong codes, %": [100 * np.mean(error > 0) for error in errors],
        "wrapped around, %": [100 * np.mean(error > 1) for error in errors],
        "highest probability": [max(way(step)[0].item() for step in x) for way in (by_hand, run)],
        "us a step": [microseconds(way, x) for way in (by_hand, run)],
        "... of which the model": [microseconds(lambda _: interpreter.invoke(), x)] * 2,
    }
    print(f"{'':24}{'by hand':>10}{'zeropoint':>12}")
    for name, (before, after) in rows.items():
        print(f"{name:24}{before:10.3f}{after:12.3f}")
    if errors[1].any():
        sys.exit("zeropoint's codes differ from LiteRT's formula")


def microseconds(way, x):
    return min(timeit.repeat(lambda: [way(step) for step in x], number=1, repeat=50)) / len(x) * 1e6


if __name__ == "__main__":
    main()
