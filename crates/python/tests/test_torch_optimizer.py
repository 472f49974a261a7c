"""Optimizers of PyTorch are read right: their own steps follow the linear rule of the keywords."""

from __future__ import annotations

import math

import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as helpers
from torch import nn

import flatmin
import flatmin.torch
from flatmin.torch._optimizer import read_optimizer


def step(model, optimizer, count=3):
    """Some steps with gradients that differ between parameters."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(count):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator).to(p) * 0.1
        optimizer.step()


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.1, "momentum": 0.8, "nesterov": True},
        {"lr": torch.tensor(0.1), "momentum": 0.9, "weight_decay": 5e-4},
    ],
)
def test_sgd(settings):
    model = helpers.mlp()
    read = read_optimizer(torch.optim.SGD(model.parameters(), **settings), model)
    expected = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "weight_decay": 0.0}
    expected |= settings
    expected["learning_rate"] = pytest.approx(float(expected.pop("lr")))
    expected["decoupled_weight_decay"] = 0.0
    assert read.keywords() == expected
    assert read.preconditioner is None
    assert read.parameters == [name for name, _ in model.named_parameters()]


ADAPTIVE = {
    "adam": (torch.optim.Adam, {"lr": 0.01}),
    "adam, betas": (torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4}),
    "amsgrad": (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 0.01}),
    "rmsprop, centered": (torch.optim.RMSprop, {"lr": 0.01, "centered": True, "momentum": 0.5}),
}


@pytest.mark.parametrize("name", ADAPTIVE)
def test_the_preconditioner_is_that_of_the_next_step(name):
    """At a frozen second moment, PyTorch's step is −η D⁻¹ times the momentum buffer."""
    make, settings = ADAPTIVE[name]
    model = helpers.mlp()
    optimizer = make(model.parameters(), **settings)
    step(model, optimizer, 40)
    read = read_optimizer(optimizer, model)
    assert read.learning_rate == 0.01
    betas = optimizer.param_groups[0].get("betas")
    if betas:
        assert (read.momentum, read.dampening) == (betas[0], betas[0])
    decay = read.decoupled_weight_decay
    for parameter_name, p in model.named_parameters():
        state = optimizer.state[p]
        before, t = p.detach().clone(), state["step"].item()
        # Undo the last update of the step counter and moments, so that the step that PyTorch takes
        # now ends with just the state that was read.
        if betas:
            g = torch.randn_like(p)
            beta1, beta2 = betas
            m, v = state["exp_avg"].clone(), state["exp_avg_sq"].clone()
            state["exp_avg"] = (m - (1 - beta1) * g) / beta1
            state["exp_avg_sq"] = (v - (1 - beta2) * g * g) / beta2
            state["step"] = torch.tensor(t - 1.0)
            direction = m
        else:
            g = torch.randn_like(p) * 1e-3
            alpha, v = 0.99, state["square_avg"].clone()
            state["square_avg"] = (v - (1 - alpha) * g * g) / alpha
            if "grad_avg" in state:
                average = state["grad_avg"].clone()
                state["grad_avg"] = (average - (1 - alpha) * g) / alpha
            direction = g
            if read.momentum:
                state["momentum_buffer"].zero_()
        for q in model.parameters():
            q.grad = None
        p.grad = g
        optimizer.step()
        moved = p.detach() - before
        expected = -0.01 * (direction / read.preconditioner[parameter_name] + decay * before)
        torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-12)


def test_groups_with_other_learning_rates_are_a_preconditioner():
    model = helpers.mlp(4, 6, 1)

    def groups():
        return [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters()}]

    optimizer = torch.optim.SGD(groups(), lr=0.4, momentum=0.5)
    read = read_optimizer(optimizer, model)
    assert read.learning_rate == 0.1
    assert {float(d.unique()) for n, d in read.preconditioner.items() if n[0] == "2"} == {0.25}
    x, y = torch.randn(8, 4).double(), torch.randn(8, 1).double()
    with pytest.warns(flatmin.torch.ReadingWarning, match=r"learning rates 0\.1, 0\.4"):
        found = flatmin.torch.analyze(model, (x, y), nn.MSELoss(), optimizer, batch_size=8)
    # gradient descent with momentum: θ' = θ − η D⁻¹∇, edge 2(1 + β)/λ_max(D^−½ G D^−½)
    scale = torch.cat([read.preconditioner[n].reshape(-1) for n, _ in model.named_parameters()])
    rows = torch.from_numpy(helpers.plain_jacobian(model, x)[:, 0]) / scale.sqrt()
    edge = 2 * 1.5 / float(torch.linalg.eigvalsh(2 * rows @ rows.T / 8).max())
    assert found.threshold().estimate == pytest.approx(edge, rel=1e-8)
    decayed = torch.optim.SGD(groups(), lr=0.4, weight_decay=1e-3)
    with pytest.raises(
        flatmin.InputError, match=r"learning rates and weight decay.*weight_decay=0"
    ):
        read_optimizer(decayed, model)
    assert read_optimizer(decayed, model, {"weight_decay": 0.0}).weight_decay == 0.0


def test_parameters_outside_of_the_optimizer_are_frozen():
    model = helpers.mlp(4, 6, 1)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    x, y = torch.randn(8, 4).double(), torch.randn(8, 1).double()
    with pytest.warns(flatmin.torch.ReadingWarning, match=r"2 parameters .* not in the optimizer"):
        found = flatmin.torch.analyze(model, (x, y), nn.MSELoss(), optimizer, batch_size=2)
    assert found.parameters == 7


def test_adam_in_one_line_is_the_edge_of_cohen_et_al():
    """(2 + 2β₁)/((1 − β₁) η) = λ_max(D^−½ G D^−½): 38/η at β₁ = 0.9."""
    model = helpers.mlp(4, 6, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    step(model, optimizer, 200)
    x, y = torch.randn(8, 4).double(), torch.randn(8, 1).double()
    found = flatmin.torch.analyze(model, (x, y), nn.MSELoss(), optimizer, batch_size=8)
    read = read_optimizer(optimizer, model)
    scale = torch.cat([read.preconditioner[n].reshape(-1) for n, _ in model.named_parameters()])
    rows = torch.from_numpy(helpers.plain_jacobian(model, x)[:, 0]) / scale.sqrt()
    largest = float(torch.linalg.eigvalsh(2 * rows @ rows.T / 8).max())
    assert found.threshold().estimate == pytest.approx(38 / largest, rel=1e-7)
    assert math.isclose(found.to_dict()["batches"][0]["learning_rates"][0]["learning_rate"], 1e-3)


def different(key, one, other, make=torch.optim.SGD, **settings):
    def build(model):
        groups = [
            {"params": model[0].parameters(), key: one},
            {"params": model[2].parameters(), key: other},
        ]
        return make(groups, lr=0.1, **settings)

    return build


REFUSED = {
    "maximize": (lambda m: torch.optim.SGD(m.parameters(), lr=0.1, maximize=True), "maximize"),
    "momenta": (different("momentum", 0.9, 0.5), r"different momenta \(0.9, 0.5\)"),
    "decays": (different("weight_decay", 1e-4, 0.0), r"different weight decays.*weight_decay=…"),
    "betas": (different("betas", (0.9, 0.99), (0.8, 0.99), torch.optim.Adam), "different betas"),
    "coupled decay of Adam": (
        lambda m: torch.optim.Adam(m.parameters(), weight_decay=1e-4),
        r"Adam\(weight_decay=0.0001\) divides the decay.*AdamW",
    ),
    "coupled decay of RMSprop": (
        lambda m: torch.optim.RMSprop(m.parameters(), weight_decay=1e-4),
        "divides the decay",
    ),
    "no state": (lambda m: torch.optim.Adam(m.parameters()), r"no state.*after at least one step"),
    "no state of RMSprop": (lambda m: torch.optim.RMSprop(m.parameters()), "no state"),
    "Adagrad": (lambda m: torch.optim.Adagrad(m.parameters()), r"Adagrad is not.*momentum="),
    "LBFGS": (lambda m: torch.optim.LBFGS(m.parameters()), "LBFGS is not among"),
    "another model": (
        lambda m: torch.optim.SGD(helpers.mlp().parameters(), lr=0.1),
        "another copy",
    ),
    "rate of zero": (lambda m: torch.optim.SGD(m.parameters(), lr=0.0), "learning rate of zero"),
    "a string": (lambda m: "sgd", r"expected a torch\.optim\.Optimizer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_do(name):
    make, text = REFUSED[name]
    model = helpers.mlp()
    with pytest.raises(flatmin.InputError, match=text):
        read_optimizer(make(model), model)


def test_keywords_settle_what_groups_disagree_on():
    model = helpers.mlp()
    optimizer = different("weight_decay", 1e-4, 0.0)(model)
    x, y = torch.randn(8, 4).double(), torch.randn(8, 1).double()
    edges = [
        flatmin.torch.analyze(model, (x, y), nn.MSELoss(), optimizer, batch_size=2, weight_decay=w)
        for w in (0.0, 1e-4)
    ]
    assert edges[0].to_dict()["batches"][0]["optimizer"]["weight_decay"] == 0.0
    assert edges[1].to_dict()["batches"][0]["optimizer"]["weight_decay"] == 1e-4


def test_wrapped_optimizers_and_few_steps():
    class Wrapper:
        def __init__(self, optimizer):
            self.optimizer = optimizer

    class Disguised(Wrapper, torch.optim.SGD):
        """As Lightning makes them: a class of its own that is an SGD too."""

    model = helpers.mlp()
    for wrapper in (Wrapper, Disguised):
        wrapped = wrapper(torch.optim.SGD(model.parameters(), lr=0.25))
        assert read_optimizer(wrapped, model).learning_rate == 0.25
    adam = torch.optim.Adam(model.parameters())
    step(model, adam, 3)
    assert "only 3 steps" in read_optimizer(adam, model).notes[0]
