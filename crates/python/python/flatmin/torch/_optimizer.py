"""What an optimizer of PyTorch is in flatmin's terms: read from its groups and its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flatmin import InputError

OVERRIDE = (
    "or leave the optimizer out and give learning_rate=, momentum=, dampening=, nesterov=, "
    "weight_decay=, decoupled_weight_decay= and preconditioner="
)
NO_STATE = (
    "{name} has no state for parameter {parameter} yet, so that its preconditioner is not "
    "known: analyze after at least one step, or load the state by optimizer.load_state_dict"
)


@dataclass
class ReadOptimizer:
    """Keywords of :func:`flatmin.analyze` that describe an optimizer.

    Attributes
    ----------
    parameters : list of str
        Names of the model's parameters that it changes, in the model's order.
    learning_rate : float
        That of the first group with a trained parameter.
    preconditioner : dict of str to Tensor, or None
        Positive D of a step −η D⁻¹ g for each parameter, float64; None for ones.
    is_adaptive : bool
        True if D holds second moments, and not only the ratios of learning rates.
    """

    parameters: list[str]
    learning_rate: float
    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decoupled_weight_decay: float = 0.0
    preconditioner: dict[str, Tensor] | None = None
    is_adaptive: bool = False
    notes: list[str] = field(default_factory=list)

    def keywords(self) -> dict[str, Any]:
        """All but the preconditioner, which is a matter of columns."""
        return {
            "learning_rate": self.learning_rate,
            "momentum": self.momentum,
            "dampening": self.dampening,
            "nesterov": self.nesterov,
            "weight_decay": self.weight_decay,
            "decoupled_weight_decay": self.decoupled_weight_decay,
        }


def read_optimizer(
    optimizer: Any, model: nn.Module, overrides: dict[str, Any] | None = None
) -> ReadOptimizer:
    """Reads SGD, Adam, AdamW and RMSprop as they would take their next step.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Or a wrapper with the optimizer as its attribute ``optimizer``.
    model : torch.nn.Module
        Parameters that are not in the optimizer are not trained.
    overrides : dict, optional
        Keywords that the user gives; groups need not agree on them.

    Raises
    ------
    InputError
        If no keywords describe the optimizer, with the reason.
    """
    overrides = overrides or {}
    while type(optimizer) not in READERS:  # wrappers of Lightning and accelerate
        inner = getattr(optimizer, "optimizer", None)
        if inner is None or inner is optimizer:
            break
        optimizer = inner
    if isinstance(optimizer, type):
        raise InputError(
            f"optimizer is the class {optimizer.__name__}, expected the object that training "
            f"steps: {optimizer.__name__}(model.parameters(), …)"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer is a {type(optimizer).__name__}, expected a torch.optim.Optimizer"
        )
    reader = READERS.get(type(optimizer))
    if reader is None:
        raise InputError(
            f"{type(optimizer).__name__} is not among the optimizers that are read (SGD, Adam, "
            f"AdamW, RMSprop); take one of these, {OVERRIDE}"
        )
    names = {id(p): name for name, p in model.named_parameters()}
    order = {name: i for i, name in enumerate(names.values())}
    groups = []
    for group in optimizer.param_groups:
        inside = [p for p in group["params"] if id(p) in names and p.requires_grad]
        if inside and float(group["lr"]) != 0.0:
            groups.append((group, {names[id(p)]: p for p in inside}))
    if not groups:
        raise InputError(
            "the optimizer has no trained parameter of this model; was it made for another copy of "
            "it, or with a learning rate of zero?"
        )
    if any(group.get("maximize") for group, _ in groups):
        raise InputError("the optimizer has maximize=True; flatmin is about minima")
    found = reader(optimizer, groups, overrides)
    found.parameters.sort(key=order.__getitem__)
    left = [n for n, p in model.named_parameters() if p.requires_grad and n not in found.parameters]
    if left:
        found.notes.append(
            f"{len(left)} parameters of the model are not in the optimizer, or have a learning "
            f"rate of zero, and count as frozen: {', '.join(left[:3])}"
            f"{', …' if len(left) > 3 else ''}"
        )
    return found


Groups = list[tuple[dict[str, Any], dict[str, Tensor]]]


def _one(groups: Groups, key: str, what: str, overrides: dict[str, Any], as_: str) -> Any:
    """The value that all groups share."""
    if as_ in overrides:
        return overrides[as_]
    values = [group.get(key, 0) for group, _ in groups]
    values = [float(v) if isinstance(v, (int, float, Tensor)) else v for v in values]
    if any(value != values[0] for value in values):
        listed = ", ".join(
            dict.fromkeys(f"{v:g}" if isinstance(v, float) else str(v) for v in values)
        )
        raise InputError(
            f"the groups of the optimizer have different {what} ({listed}), and the theory has "
            f"one; give {as_}=… to take one value for all, and compare the answers"
        )
    return values[0]


def _rates(groups: Groups, decayed: bool) -> tuple[float, dict[str, float]]:
    """The learning rate of the first group, and lr₀/lr for each parameter."""
    first = float(groups[0][0]["lr"])
    factors = {name: first / float(g["lr"]) for g, params in groups for name in params}
    different = any(factor != 1.0 for factor in factors.values())
    if first < 0 or any(float(g["lr"]) < 0 for g, _ in groups):
        raise InputError("a learning rate of the optimizer is negative")
    if different and decayed:
        raise InputError(
            "the groups of the optimizer have different learning rates and weight decay, so that "
            "the decay of a step differs between parameters, and the theory has one; give "
            "weight_decay=0. or decoupled_weight_decay=0. for the answer without it"
        )
    return first, factors


def _rate_notes(groups: Groups, factors: dict[str, float]) -> list[str]:
    if all(factor == 1.0 for factor in factors.values()):
        return []
    rates = ", ".join(f"{float(group['lr']):g}" for group, _ in groups)
    return [
        f"the groups of the optimizer have the learning rates {rates}: thresholds are for the "
        "first, with the ratios of the others to it kept (as a preconditioner)"
    ]


def _scaled(
    groups: Groups, factors: dict[str, float], diagonal: dict[str, Tensor] | None
) -> dict[str, Tensor] | None:
    if diagonal is None and all(factor == 1.0 for factor in factors.values()):
        return None
    return {
        name: factors[name]
        * (
            torch.ones(p.shape, dtype=torch.float64, device="cpu")
            if diagonal is None
            else diagonal[name]
        )
        for _, params in groups
        for name, p in params.items()
    }


def _sgd(optimizer: torch.optim.SGD, groups: Groups, overrides: dict) -> ReadOptimizer:
    decay = _one(groups, "weight_decay", "weight decays", overrides, "weight_decay")
    first, factors = _rates(groups, decayed=decay != 0)
    momentum = _one(groups, "momentum", "momenta", overrides, "momentum")
    found = ReadOptimizer(
        parameters=list(factors),
        learning_rate=first,
        momentum=momentum,
        # Without momentum PyTorch has no buffer, and does not dampen.
        dampening=_one(groups, "dampening", "dampenings", overrides, "dampening")
        if momentum
        else 0.0,
        nesterov=bool(_one(groups, "nesterov", "settings of nesterov", overrides, "nesterov")),
        weight_decay=decay,
        preconditioner=_scaled(groups, factors, None),
    )
    found.notes += _rate_notes(groups, factors)
    return found


def _adam(optimizer: torch.optim.Adam, groups: Groups, overrides: dict) -> ReadOptimizer:
    name = type(optimizer).__name__
    decoupled = isinstance(optimizer, torch.optim.AdamW) or any(
        group.get("decoupled_weight_decay", False) for group, _ in groups
    )
    key = "decoupled_weight_decay" if decoupled else "weight_decay"
    decay = _one(groups, "weight_decay", "weight decays", overrides, key)
    if decay != 0 and not decoupled:
        raise InputError(
            f"Adam(weight_decay={decay:g}) divides the decay by √v̂ like the gradient, so that it "
            "decays parameters unequally, and no flags describe it; AdamW decays all alike. Give "
            "weight_decay=0. for the answer without it"
        )
    betas = [tuple(map(float, group["betas"])) for group, _ in groups]
    if len(set(betas)) > 1:
        raise InputError(
            "the groups of the optimizer have different betas, and the theory has one β₁"
        )
    beta1, beta2 = betas[0]
    first, factors = _rates(groups, decayed=decay != 0)
    diagonal = {}
    steps = []
    for group, params in groups:
        for parameter, p in params.items():
            state = optimizer.state.get(p, {})
            if "exp_avg_sq" not in state:
                raise InputError(NO_STATE.format(name=name, parameter=parameter))
            step = float(state["step"])
            steps.append(step)
            second = state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]
            second = second.detach().cpu().double()
            root = second.sqrt() / (1 - beta2**step) ** 0.5
            # PyTorch divides the learning rate by 1 − β₁ᵗ: a factor of D here.
            diagonal[parameter] = (root + float(group["eps"])) * (1 - beta1**step)
    found = ReadOptimizer(
        parameters=list(factors),
        learning_rate=first,
        momentum=beta1,
        dampening=beta1,
        decoupled_weight_decay=decay if decoupled else 0.0,
        preconditioner=_scaled(groups, factors, diagonal),
        is_adaptive=True,
    )
    found.notes += _rate_notes(groups, factors)
    if min(steps) < 5 / (1 - beta1):
        found.notes.append(
            f"{name} has taken only {min(steps):g} steps: its bias corrections still change, and "
            "the answer freezes them"
        )
    return found


def _rmsprop(optimizer: torch.optim.RMSprop, groups: Groups, overrides: dict) -> ReadOptimizer:
    decay = _one(groups, "weight_decay", "weight decays", overrides, "weight_decay")
    if decay != 0:
        raise InputError(
            f"RMSprop(weight_decay={decay:g}) divides the decay by √v like the gradient, so that "
            "it decays parameters unequally, and no flags describe it. Give weight_decay=0. for "
            "the answer without it"
        )
    momentum = _one(groups, "momentum", "momenta", overrides, "momentum")
    first, factors = _rates(groups, decayed=False)
    diagonal = {}
    for group, params in groups:
        for parameter, p in params.items():
            state = optimizer.state.get(p, {})
            if "square_avg" not in state:
                raise InputError(NO_STATE.format(name="RMSprop", parameter=parameter))
            second = state["square_avg"].detach().cpu().double()
            if group.get("centered"):
                second = (second - state["grad_avg"].detach().cpu().double().square()).clamp(min=0)
            diagonal[parameter] = second.sqrt() + float(group["eps"])
    found = ReadOptimizer(
        parameters=list(factors),
        learning_rate=first,
        momentum=momentum,
        preconditioner=_scaled(groups, factors, diagonal),
        is_adaptive=True,
    )
    found.notes += _rate_notes(groups, factors)
    return found


READERS = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.RMSprop: _rmsprop,
}
