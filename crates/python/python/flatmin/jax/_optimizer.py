"""What an optimizer of optax is in flatmin's terms, found by trying its update.

An optax optimizer is a pair of functions; its settings are not stored anywhere. They follow from
what its update does with a few gradients at chosen states, and the answer is checked with others.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flatmin import InputError

from ._network import double_precision

REMEDY = (
    "give learning_rate=, momentum=, dampening=, nesterov=, weight_decay=, decoupled_weight_decay= "
    "and preconditioner= in place of optimizer="
)

#: The size of the gradients that are tried, below the usual limits of clipping.
SMALL = 1e-4

#: A second moment beside which the ε of an optimizer is nothing, and its root.
HUGE, ROOT = 1e24, 1e12

#: Relative error up to which the update is that of the settings.
SAME = 1e-6


def read_optimizer(optimizer: Any, params: Any) -> dict[str, Any]:
    """Keywords of :func:`flatmin.analyze` for the next step of ``(transformation, state)``.

    Reads ``optax.sgd`` (momentum, Nesterov), ``optax.adam``, ``optax.adamw`` and
    ``optax.rmsprop`` without momentum, with schedules, ``add_decayed_weights`` and clipping, which
    is taken to be inactive at the minimum.

    Raises
    ------
    InputError
        If the update is another one.
    """
    if isinstance(optimizer, tuple) and hasattr(optimizer, "update"):
        raise InputError(
            "optimizer is a transformation of optax alone, expected (transformation, state), with "
            "the state that training has reached: optimizer=(tx, state)"
        )
    try:
        update, state = optimizer[0].update, optimizer[1]
    except (TypeError, AttributeError, IndexError, KeyError) as error:
        raise InputError("optimizer is no pair (transformation, state) of optax") from error
    with double_precision():
        return _Probe(update, state, params).keywords()


def _wide(x: Any) -> Any:
    x = jnp.asarray(x)
    return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


class _Probe:
    """An update, tried at chosen gradients and states."""

    def __init__(self, update: Any, state: Any, params: Any) -> None:
        self._update = update
        self.params = jax.tree_util.tree_map(_wide, params)
        self.state = jax.tree_util.tree_map(_wide, state)
        named = jax.tree_util.tree_leaves(self.state, is_leaf=_is_moment)
        self.moments = [part for part in named if _is_moment(part)]
        names = [_name(part) for part in self.moments]
        if len(names) > 1:
            raise InputError(f"the optimizer has several moments ({', '.join(names)}); {REMEDY}")

    def constant(self, value: float) -> Any:
        return jax.tree_util.tree_map(lambda x: jnp.full_like(x, value), self.params)

    def step(self, gradient: Any, params: Any, **moments: Any) -> tuple[np.ndarray, Any]:
        """The flat update, and the moment's state after it."""

        def replaced(part: Any) -> Any:
            return part._replace(**moments) if _is_moment(part) and moments else part

        state = jax.tree_util.tree_map(replaced, self.state, is_leaf=_is_moment)
        try:
            update, after = self._update(gradient, state, params)
        except (TypeError, ValueError) as error:
            raise InputError(f"the update of the optimizer fails: {error}; {REMEDY}") from error
        leaves = [np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(update)]
        found = [x for x in jax.tree_util.tree_leaves(after, is_leaf=_is_moment) if _is_moment(x)]
        return np.concatenate(leaves), found[0] if found else None

    def keywords(self) -> dict[str, Any]:
        name = _name(self.moments[0]) if self.moments else ""
        if name in {"", "TraceState"}:
            return self._sgd(has_trace=bool(name))
        return self._adaptive(has_mean=name == "ScaleByAdamState")

    def _sgd(self, has_trace: bool) -> dict[str, Any]:
        zero, small = self.constant(0.0), self.constant(SMALL)
        trace = {"trace": zero} if has_trace else {}
        pure, _ = self.step(small, zero, **trace)
        gain = _uniform(-pure / SMALL)
        beta, nesterov = 0.0, False
        if has_trace:
            moved, after = self.step(zero, zero, trace=small)
            beta = _uniform(_flat(after.trace) / SMALL)
            carried = _uniform(-moved / SMALL)
            # Heavy ball: η, ηβ. Nesterov: η (1 + β), ηβ².
            nesterov = beta > 0 and abs(carried * (1 + beta) - gain * beta**2) < SAME * gain
            if not nesterov and abs(carried - gain * beta) > SAME * gain:
                raise InputError(f"the update is not that of SGD with momentum; {REMEDY}")
        rate = gain / (1 + beta) if nesterov else gain
        decay, after = self.step(zero, small, **trace)
        if has_trace and float(np.abs(_flat(after.trace)).max()) > 0:
            coupled = _uniform(_flat(after.trace) / SMALL)
            decayed = {"weight_decay": _round(coupled)}
        else:
            # Without a trace both kinds of decay are one.
            name = "decoupled_weight_decay" if has_trace else "weight_decay"
            decayed = {name: _round(_uniform(-decay / SMALL) / rate)}
        self._check(gain, trace)
        words = {"learning_rate": _round(rate), "momentum": _round(beta), "nesterov": nesterov}
        return words | {name: w for name, w in decayed.items() if w}

    def _adaptive(self, has_mean: bool) -> dict[str, Any]:
        zero, one = self.constant(0.0), self.constant(1.0)
        moment = self.moments[0]
        # Small, since the update divides by the root of the second moment.
        mean = {"mu": zero} if has_mean else {}
        _, after = self.step(zero, zero, nu=one, **mean)
        beta2 = _uniform(_flat(after.nu))
        # The second moment is frozen at its value: the step multiplies it by β₂ before.
        frozen = jax.tree_util.tree_map(lambda nu: nu / beta2, moment.nu)
        if has_mean:
            step, after = self.step(zero, zero, mu=one, nu=frozen)
            beta1 = _uniform(_flat(after.mu))
            count = {"count": jnp.asarray(2**30, jnp.int32)}
            plain, _ = self.step(zero, zero, mu=one, nu=self.constant(HUGE / beta2), **count)
            rate = _uniform(-plain * ROOT / beta1)
            applied = -step / beta1
        else:
            beta1 = 0.0
            # A gradient that leaves the second moment as it is, up to its square.
            tiny = 1e-9
            plain, _ = self.step(self.constant(tiny), zero, nu=self.constant(HUGE / beta2))
            rate = _uniform(-plain * ROOT / tiny)
            least = float(np.sqrt(np.maximum(_flat(moment.nu), 1e-30)).min())
            step, _ = self.step(self.constant(tiny * least), zero, nu=frozen)
            applied = -step / (tiny * least)
        if not (np.isfinite(applied).all() and (applied > 0).all()):
            raise InputError(
                "the optimizer's second moments vanish for some parameters: analyze after a few "
                "steps of training"
            )
        decay, _ = self.step(zero, one, nu=self.constant(1.0), **mean)
        decayed = _uniform(-decay / rate)
        words = {
            "learning_rate": _round(rate),
            "momentum": _round(beta1),
            "dampening": _round(beta1),
            "preconditioner": rate / applied,
        }
        return words | ({"decoupled_weight_decay": _round(decayed)} if decayed else {})

    def _check(self, gain: float, trace: dict[str, Any]) -> None:
        """Checks that the update is linear in the gradient, and alike for all parameters."""
        keys = jax.random.split(jax.random.PRNGKey(0), len(jax.tree_util.tree_leaves(self.params)))
        leaves, tree = jax.tree_util.tree_flatten(self.params)
        noise = [
            SMALL * jax.random.normal(key, leaf.shape, jnp.float64)
            for key, leaf in zip(keys, leaves, strict=True)
        ]
        found, _ = self.step(jax.tree_util.tree_unflatten(tree, noise), self.constant(0.0), **trace)
        expected = -gain * np.concatenate([np.ravel(leaf) for leaf in noise])
        if np.abs(found - expected).max() > 1e-5 * np.abs(expected).max():
            raise InputError(f"the update is no multiple of the gradient; {REMEDY}")


def _is_moment(part: Any) -> bool:
    return _name(part) in {"TraceState", "ScaleByAdamState", "ScaleByRmsState"}


def _name(part: Any) -> str:
    return type(part).__name__


def _flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(tree)])


def _uniform(values: np.ndarray) -> float:
    """The common value of all parameters."""
    middle = float(np.median(values))
    if not np.isfinite(values).all() or np.abs(values - middle).max() > SAME * abs(middle):
        raise InputError(
            "the optimizer treats parameters differently (masks, partitions or layers with other "
            f"rates); {REMEDY}"
        )
    return middle


def _round(value: float) -> float:
    """Without the rounding of the settings' own arithmetic."""
    return float(f"{value:.7g}")
