"""Products of a model's Jacobian, and brackets where the exact threshold does not fit."""

from __future__ import annotations

import numpy as np
import pytest

import flatmin

torch = pytest.importorskip("torch")
nn = torch.nn


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTM(3, 4, batch_first=True)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.cell(x)[0][:, -1])


MODELS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), (6,)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.GroupNorm(1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)
        ),
        (1, 4, 4),
    ),
    "recurrent": (Recurrent, (5, 3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_products_are_those_of_the_jacobian(name):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model = make().double()
    x = torch.randn(11, *shape, dtype=torch.float64)
    jacobian = flatmin.torch.jacobian(model, x)
    rows = jacobian.reshape(-1, jacobian.shape[2])
    found = flatmin.torch.products(model, x, chunk_size=4)
    assert found[:3] == jacobian.shape
    rng = np.random.default_rng(1)
    v, u = rng.standard_normal((rows.shape[1], 3)), rng.standard_normal((rows.shape[0], 3))
    np.testing.assert_allclose(found.jvp(v), rows @ v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.vjp(u), rows.T @ u, rtol=1e-10, atol=1e-10)
    grams = np.einsum("iap,ibp->iab", jacobian, jacobian)
    np.testing.assert_allclose(found.sample_grams(), grams, rtol=1e-10, atol=1e-12)


def test_frozen_parameters_and_parameters_without_effect():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)).double()
    model.unused = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    model[0].weight.requires_grad_(False)
    x = torch.randn(6, 4, dtype=torch.float64)
    rows = flatmin.torch.jacobian(model, x)[:, 0]
    found = flatmin.torch.products(model, x)
    v = np.random.default_rng(1).standard_normal((rows.shape[1], 2))
    np.testing.assert_allclose(found.jvp(v), rows @ v, rtol=1e-12, atol=1e-12)


def problem():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    x = torch.randn(40, 5, dtype=torch.float64)
    labels = torch.randint(3, (40,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(8):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x, labels), batch_size=8, shuffle=True
    )
    return model, loader, nn.CrossEntropyLoss(), optimizer


@pytest.mark.filterwarnings("ignore::flatmin.torch.ReadingWarning")
def test_the_one_liner_brackets_what_does_not_fit():
    model, loader, loss, optimizer = problem()
    exact = flatmin.torch.analyze(model, loader, loss, optimizer, sampling="without_replacement")
    edge = exact.threshold().estimate
    # By products, and by the Jacobian in memory.
    for limit in (1.5e-4, 2e-3):
        with pytest.warns(flatmin.torch.ReadingWarning, match="drawn anew"):
            found = flatmin.torch.analyze(model, loader, loss, optimizer, memory_limit=limit / 10)
        bracket = found.threshold()
        assert bracket.kind == "bracket" and bracket.lower <= edge <= bracket.upper
        assert found.to_dict()["batches"][0]["optimizer"]["preconditioned"]
        assert found.to_dict()["batches"][0]["learning_rates"][0]["learning_rate"] == 1e-3


@pytest.mark.filterwarnings("ignore::flatmin.torch.ReadingWarning")
def test_a_width_can_be_asked_for():
    model, loader, loss, optimizer = problem()
    found = flatmin.torch.analyze(model, loader, loss, optimizer, relative_width=0.2)
    assert found.threshold().kind == "bracket"
