"""Who is measured.  A new peer is a new file here and a row in `SYSTEMS`."""

from .base import Call, Declined, System
from .formats import GGUF, CompressedTensors
from .litert import LiteRT
from .numba import Numba, NumbaFresh
from .numpy import NumPyByHand, NumPyWithOut
from .offsets import Faiss, SentenceTransformers, XArray
from .onnxruntime import ONNXRuntime, ONNXRuntimeFresh
from .ours import FORCED, Best, BestFresh, Plain, PlainFresh
from .torch import Torch
from .yardsticks import BareLoop, FileCopy, Rint

SYSTEMS: tuple[type[System], ...] = (
    Best,
    BestFresh,
    *FORCED,
    Plain,
    PlainFresh,
    NumPyByHand,
    NumPyWithOut,
    Numba,
    NumbaFresh,
    ONNXRuntime,
    ONNXRuntimeFresh,
    Torch,
    LiteRT,
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
