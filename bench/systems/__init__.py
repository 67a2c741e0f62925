"""Who is measured.  A new peer is a new file here and a row in `SYSTEMS`."""

from .base import Call, Declined, System
from .c import C
from .formats import GGUF, CompressedTensors
from .litert import LiteRT
from .numba import Numba, NumbaFresh
from .numpy import NumPyByHand, NumPyTake, NumPyWithOut
from .offsets import Faiss, SentenceTransformers, XArray
from .onnxruntime import ONNXRuntime, ONNXRuntimeFresh
from .opencv import OpenCV
from .ours import FORCED, Best, BestFresh, FloatPath, Plain, PlainFresh
from .torch import Torch
from .yardsticks import BareLoop, FileCopy, Rint

SYSTEMS: tuple[type[System], ...] = (
    Best,
    BestFresh,
    *FORCED,
    C,
    FloatPath,
    Plain,
    PlainFresh,
    NumPyByHand,
    NumPyWithOut,
    NumPyTake,
    Numba,
    NumbaFresh,
    ONNXRuntime,
    ONNXRuntimeFresh,
    Torch,
    LiteRT,
    OpenCV,
    CompressedTensors,
    GGUF,
    Faiss,
    SentenceTransformers,
    XArray,
    BareLoop,
    Rint,
    FileCopy,
)

__all__ = ["SYSTEMS", "Call", "Declined", "System"]
