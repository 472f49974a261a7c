"""flatmin for PyTorch: model, data, loss and optimizer of a training script, as they are.

=====================================  =============================================================
:func:`analyze`                        at which learning rates the optimizer can stay at the minimum
:func:`jacobian`                       n × k × p derivatives of the outputs in the parameters
:func:`gram`                           nk × nk matrix JJᵀ, for any number of parameters
:func:`products`                       J·V, Jᵀ·U and J_iJ_iᵀ, for any number of samples
:class:`Monitor`                       sharpness and thresholds during training
=====================================  =============================================================
"""

from ._analyze import ReadingWarning, analyze
from ._gram import gram, jacobian
from ._monitor import Monitor
from ._products import products

__all__ = ["Monitor", "ReadingWarning", "analyze", "gram", "jacobian", "products"]
