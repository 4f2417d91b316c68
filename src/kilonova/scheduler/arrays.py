"""numpy, imported in one place and late: it costs 60 ms and 25 MB, which a start without a boot need not pay.

BLAS is never used here, so its threads (and their buffers) are switched off before the import.
Modules of the scheduler that need arrays at run time import this one inside the room only.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

__all__ = ["Bools", "Floats", "Ints", "NDArray", "np"]
