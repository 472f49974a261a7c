"""Stability of minima for functions of JAX.

>>> import flatmin.jax
>>> flatmin.jax.analyze(apply, params, (x, y), loss, optimizer=(tx, state))  # doctest: +SKIP

``apply(params, x)`` is a pure function of a pytree of parameters and a batch of inputs, such as
``model.apply`` of Flax. Nothing here changes the parameters or the configuration of JAX.
"""

from ._analyze import analyze, gram, jacobian
from ._products import products

__all__ = ["analyze", "gram", "jacobian", "products"]
