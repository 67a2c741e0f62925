"""Who is measured.  A new peer is a new file here and a row in `SYSTEMS`."""

from .article import ArticleNumPy, NumPyWithOut
from .base import Call, Declined, System
from .litert import LiteRT
from .numba import Numba
from .onnxruntime import ONNXRuntime
from .ours import FORCED, Best, BestFresh
from .torch import Torch
from .yardsticks import BareLoop, Rint

SYSTEMS: tuple[type[System], ...] = (
    Best,
    BestFresh,
    *FORCED,
    ArticleNumPy,
    NumPyWithOut,
    Numba,
    ONNXRuntime,
    Torch,
    LiteRT,
    BareLoop,
    Rint,
)

__all__ = ["SYSTEMS", "Call", "Declined", "System"]
