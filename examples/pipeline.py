"""Two loops that allocate nothing: camera to an int8 model, microphone to an int8 model.

    pip install ".[litert]" flatbuffers pymicro-wakeword==2.5.0
    python examples/pipeline.py

What is allocated once, before the loop, is all that a step needs: the camera's or microphone's own
buffer, the codes that the Runner keeps, and an array for each output.
"""

import sys
import tracemalloc
from importlib.metadata import distribution

try:
    import flatbuffers
    import numpy as np
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    import zeropoint as zp
    from zeropoint.interop import litert

    PACKAGE = distribution("pymicro-wakeword")
except ImportError as error:
    sys.exit(f"pipeline.py: {error}; its first lines say what to install")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's, of ImageNet
STEPS = 200


def opened(**model):
    interpreter = Interpreter(**model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def image_model():
    """Stands for yours: [1, 224, 224, 3] int8 to [1, 7, 7, 3] int8, the mean of each 32 x 32."""
    graph, call, how = schema.SubGraphT(), schema.OperatorT(), schema.Pool2DOptionsT()
    for size in (224, 7):
        tensor, numbers = schema.TensorT(), schema.QuantizationParametersT()
        numbers.scale, numbers.zeroPoint = [0.0187], [-14]
        tensor.type, tensor.shape = schema.TensorType.INT8, [1, size, size, 3]
        tensor.name, tensor.buffer, tensor.quantization = f"image{size}", 0, numbers
        graph.tensors = [*(graph.tensors or []), tensor]
    how.filterWidth = how.filterHeight = how.strideW = how.strideH = 32
    call.opcodeIndex, call.inputs, call.outputs = 0, [0], [1]
    call.builtinOptionsType, call.builtinOptions = schema.BuiltinOptions.Pool2DOptions, how
    graph.inputs, graph.outputs, graph.operators = [0], [1], [call]
    code, model = schema.OperatorCodeT(), schema.ModelT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.AVERAGE_POOL_2D
    code.version = 2
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def word_model():
    """A real one: [1, 3, 40] int8 to [1, 1] uint8, how likely it is that its word was said."""
    return str(PACKAGE.locate_file("pymicro_wakeword/models/hey_jarvis.tflite"))


def camera():
    """A step: uint8 pixels to normalized int8 codes, 256 table entries a channel."""
    interpreter = opened(model_content=image_model())
    params = litert.params(interpreter.get_input_details()[0])
    run = litert.Runner(interpreter, sources=[zp.image_lookup(MEAN, STD, params)])
    pixels = np.empty((224, 224, 3), np.uint8)  # the camera's own buffer
    results = [np.empty((1, 7, 7, 3), np.float32)]
    picture = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)

    def step(i):
        np.copyto(pixels, picture)  # a camera fills it
        pixels[0, 0, 0] = i
        run(pixels, out=results)

    return step, results


def microphone():
    """A step: a float32 spectrogram of 30 ms to int8 codes, uint8 codes to a probability."""
    run = litert.Runner(opened(model_path=word_model()))
    features = np.empty((1, 3, 40), np.float32)
    results = [np.empty((1, 1), np.float32)]

    def step(i):
        features.fill(i % 26)
        run(features, out=results)

    return step, results


def main():
    print(f"{'bytes':24}{'after 1 step':>14}{f'after {STEPS}':>14}{'at most':>14}")
    for loop in (camera, microphone):
        step, _ = loop()
        step(0)
        tracemalloc.start()  # counts the memory of Python's objects and of NumPy's arrays
        step(1)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for i in range(STEPS):
            step(i)
        after, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        print(f"{loop.__name__:24}{before:14}{after:14}{most:14}")
        if after > before + 1000 or most > before + 4000:
            sys.exit(f"{loop.__name__}: a step allocates")


if __name__ == "__main__":
    main()
