"""At which learning rate can your optimizer stay at the minimum it found?

``flatmin.analyze`` answers for the Jacobian or the Gram matrix of any network,
``flatmin.torch.analyze`` and ``flatmin.jax.analyze`` for a model in one line. The theory is that of
linear stability in mean square (Wu and Su, ICML 2023), made exact: thresholds come as certified
intervals for any batch size, sampling and optimizer of the list in ``flatmin.analyze``.

>>> import numpy as np, flatmin
>>> jacobian = np.array([[2.0, 0.0], [0.0, 1.0]])      # n × p, a row per sample
>>> flatmin.threshold(jacobian, batch_size=1).estimate  # doctest: +ELLIPSIS
0.5...

Importing ``flatmin`` imports neither numpy nor a deep-learning library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._analysis import Analysis, Doubt, Sharpness, Threshold, Verdict
from ._ask import DoubtWarning, analyze, threshold
from ._native import InputError, __version__
from ._products import JacobianProducts

if TYPE_CHECKING:
    from . import jax, torch

__all__ = [
    "Analysis",
    "Doubt",
    "DoubtWarning",
    "InputError",
    "JacobianProducts",
    "Sharpness",
    "Threshold",
    "Verdict",
    "__version__",
    "analyze",
    "jax",
    "threshold",
    "torch",
]


def __getattr__(name: str) -> object:
    """Imports ``flatmin.torch`` and ``flatmin.jax`` when they are first used."""
    if name in {"torch", "jax"}:
        import importlib

        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
