"""A point that training has not brought to its minimum is doubted, and a minimum is not."""

from __future__ import annotations

import re

import numpy as np
import pytest

import flatmin

torch = pytest.importorskip("torch")
nn = torch.nn


def classifier(seed, classes=3):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, classes)).double()
    x = torch.randn(30, 6, dtype=torch.float64)
    return model, x, x[:, :classes].argmax(dim=1)


def minimise(model, loss, x, y, steps=400):
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        max_iter=steps,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        return value

    optimizer.step(closure)


def kinds(analysis):
    return [doubt.kind for doubt in analysis.doubts]


def ask(model, loss, x, y, **keywords):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, **keywords.pop("optimizer", {}))
    return flatmin.torch.analyze(model, (x, y), loss, optimizer, batch_size=10, **keywords)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("decay", [0.0, 5e-4])
def test_an_untrained_classifier_is_doubted(smoothing, decay):
    model, x, y = classifier(0)
    loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
    found = ask(model, loss, x, y, optimizer={"weight_decay": decay})
    assert kinds(found) == ["before_the_minimum"]
    text = repr(found)
    assert "Doubt: the point is not close to a minimum" in text
    assert "\nIf the point is close to a minimum (see the doubt above), SGD with" in text


def test_a_classifier_at_its_minimum_is_not_doubted():
    model, x, y = classifier(1)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    minimise(model, loss, x, y)
    found = ask(model, loss, x, y)
    assert kinds(found) == []
    assert found.to_dict()["residual_gradients"]["distance"] < 1e-3


@pytest.mark.parametrize("name", ["mse", "huber", "two outputs"])
def test_an_untrained_regression_is_doubted_and_a_trained_one_is_not(name):
    outputs = 2 if name == "two outputs" else 1
    model, x, _ = classifier(2, outputs)
    y = torch.sin(2 * x[:, :outputs])
    loss = nn.HuberLoss(delta=3.0) if name == "huber" else nn.MSELoss()
    (doubt,) = ask(model, loss, x, y).doubts
    assert re.search(r"moves the outputs by \d+ % of the spread", doubt.text)
    minimise(model, loss, x, y)
    assert kinds(ask(model, loss, x, y)) == []


def test_the_numbers_are_those_of_numpy():
    model, x, _ = classifier(3, 1)
    y = torch.sin(2 * x[:, :1])
    found = ask(model, nn.MSELoss(), x, y, trust_input=True)
    jacobian = flatmin.torch.jacobian(model, x)[:, 0]
    outputs, targets = model(x).detach().numpy(), y.numpy()
    residuals = (outputs - targets)[:, 0]
    step = np.linalg.lstsq(jacobian, residuals, rcond=1e-3)[0]
    left = residuals - jacobian @ step
    point = found.to_dict()["residual_gradients"]
    lowered = (residuals @ residuals - left @ left) / 30
    spread = np.sqrt(np.mean((targets - outputs.mean()) ** 2))
    assert point["decrement"] == pytest.approx(lowered, rel=1e-8)
    assert point["distance"] == pytest.approx(np.sqrt(lowered) / spread, rel=1e-8)


def test_a_regression_that_cannot_fit_its_noise_is_at_its_minimum():
    torch.manual_seed(4)
    x = torch.randn(200, 3, dtype=torch.float64)
    y = x[:, :1] + 0.5 * torch.randn(200, 1, dtype=torch.float64)
    model = nn.Linear(3, 1).double()
    minimise(model, nn.MSELoss(), x, y)
    found = ask(model, nn.MSELoss(), x, y)
    assert kinds(found) == []
    assert found.to_dict()["residual_gradients"]["decrement"] < 1e-15


def test_huber_with_outliers_is_not_judged():
    torch.manual_seed(6)
    x = torch.randn(60, 3, dtype=torch.float64)
    y = x[:, :1] + 0.1 * torch.randn(60, 1, dtype=torch.float64)
    y[:15] += 5
    model, loss = nn.Linear(3, 1).double(), nn.HuberLoss(delta=0.3)
    minimise(model, loss, x, y)
    found = ask(model, loss, x, y)
    assert kinds(found) == []
    assert found.to_dict()["residual_gradients"] is None
    assert "The loss is linear in outputs of some samples" in repr(found)


def test_targets_that_are_all_zero_are_no_scale():
    model, x, _ = classifier(7, 1)
    y = torch.zeros(30, 1, dtype=torch.float64)
    minimise(model, nn.MSELoss(), x, y, steps=20)
    found = ask(model, nn.MSELoss(), x, y)
    assert kinds(found) == []
    assert found.to_dict()["residual_gradients"]["distance"] is None


def test_a_bracket_doubts_as_well():
    model, x, y = classifier(5)
    found = ask(model, nn.CrossEntropyLoss(), x, y, relative_width=0.3)
    (doubt,) = found.doubts
    assert (
        doubt.kind == "before_the_minimum"
        and "lowers the quadratic model of the loss by at least" in doubt.text
    )


def test_jax_doubts_as_well():
    jax = pytest.importorskip("jax")
    optax = pytest.importorskip("optax")
    import flatmin.jax

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (30, 6))
        labels = x[:, :3].argmax(axis=1)
        parameters = {
            "in": jax.random.normal(keys[1], (6, 24)) / 6**0.5,
            "out": jax.random.normal(keys[2], (24, 3)) / 24**0.5,
        }

        def model(parameters, x):
            return jax.numpy.tanh(x @ parameters["in"]) @ parameters["out"]

        def loss(outputs, labels):
            return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

        found = flatmin.jax.analyze(
            model, parameters, (x, labels), loss, batch_size=10, learning_rate=0.01
        )
    assert kinds(found) == ["before_the_minimum"]
