"""The monitor measures what analyze answers, changes nothing, and keeps its cost in bounds."""

from __future__ import annotations

import copy
import csv
import os
import signal
import time

import numpy as np
import pytest

# ruff: noqa: E402 (the imports below need torch)
torch = pytest.importorskip("torch")

import torch_helpers as helpers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import flatmin
import flatmin.torch

N = 24


def problem(outputs=1, dropout=False, dtype=torch.float64):
    model = helpers.mlp(4, 6, outputs, dtype=dtype)
    if dropout:
        model = nn.Sequential(model, nn.Dropout(0.5), nn.Linear(outputs, outputs).to(dtype))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, 4, generator=generator).to(dtype)
    y = torch.randn(N, outputs, generator=generator).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loader = DataLoader(
        TensorDataset(x, y), 4, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    return model, loader, nn.MSELoss(), optimizer


def train(model, loader, loss, optimizer, epochs=2, after=lambda: None):
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
            after()


def test_the_whole_set_gives_the_numbers_of_analyze():
    model, loader, loss, optimizer = problem(outputs=2)
    monitor = flatmin.torch.Monitor(model, loader, loss, optimizer, every=6, max_overhead=None)
    train(model, loader, loss, optimizer, after=monitor.step)
    assert [record["step"] for record in monitor.history] == [6, 12]
    record = monitor.history[-1]
    assert not record["subset"] and record["samples"] == N
    found = flatmin.torch.analyze(
        model, loader, loss, optimizer, sampling="without_replacement", trust_input=True
    )
    assert record["threshold"] == pytest.approx(found.threshold().estimate, rel=1e-3)
    assert record["lambda_max"] == pytest.approx(found.sharpness.lambda_max, rel=1e-9)
    assert record["trace"] == pytest.approx(found.sharpness.trace, rel=1e-9)
    assert record["ratio"] == pytest.approx(record["threshold"] / 0.05)
    x, y = loader.dataset.tensors
    assert record["loss"] == pytest.approx(float(loss(model(x), y).detach()))


def test_batch_sharpness_is_that_of_gauss_newton_matrices_of_batches():
    model, loader, _, optimizer = problem(outputs=3)
    x = loader.dataset.tensors[0]
    y = torch.randint(0, 3, (N,))
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    monitor = flatmin.torch.Monitor(
        model, (x, y), loss, optimizer, batch_size=N, metrics=["batch_sharpness"], max_rows=30
    )
    record = monitor.measure()
    assert record["samples"] == 10 and record["subset"]
    x, y = monitor.samples.inputs[0][0], monitor.samples.targets
    rows = torch.from_numpy(helpers.plain_jacobian(model, x))
    p = model(x).detach().softmax(1)
    hessians = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    matrix = torch.einsum("iap,iab,ibq->pq", rows, hessians, rows) / 10
    value = loss(model(x), y)
    grads = torch.autograd.grad(value, list(model.parameters()))
    g = torch.cat([grad.reshape(-1) for grad in grads])
    assert record["batch_sharpness"] == pytest.approx(float(g @ matrix @ g / (g @ g)), rel=1e-9)


def test_training_is_the_same_with_and_without():
    ends = []
    for monitored in (False, True):
        torch.manual_seed(0)
        model, loader, loss, optimizer = problem(2, dropout=True)
        after = (lambda: None) if not monitored else None
        if monitored:
            monitor = flatmin.torch.Monitor(model, loader, loss, optimizer, 3, max_overhead=None)
            after = monitor.step
        torch.manual_seed(0)
        train(model, loader, loss, optimizer, after=after)
        assert all(module.training for module in model.modules())
        ends.append(copy.deepcopy(model.state_dict()))
    assert len(monitor.history) == 4
    assert all(torch.equal(a, b) for a, b in zip(*(end.values() for end in ends), strict=True))


def test_a_subset_loads_only_its_samples():
    class Counted(torch.utils.data.Dataset):
        asked = 0

        def __len__(self):
            return 10_000

        def __getitem__(self, i):
            Counted.asked += 1
            return torch.full((4,), i / 1e4).double(), torch.ones(1).double()

    model, _, loss, optimizer = problem()
    loader = DataLoader(Counted(), 32, shuffle=True)
    monitor = flatmin.torch.Monitor(model, loader, loss, optimizer, samples=20)
    record = monitor.measure()
    assert Counted.asked <= 21
    assert record["subset"] and record["samples"] == 20
    assert monitor.batch_size == 32 and record["threshold"] > 0


def test_overhead_is_bounded():
    model, loader, loss, optimizer = problem()
    monitor = flatmin.torch.Monitor(model, loader, loss, optimizer, every=1, max_overhead=0.2)
    monitor.step()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        time.sleep(1e-3)
        monitor.step()
    # One measurement may end beyond the share, none starts there.
    longest = max(record["seconds"] for record in monitor.history)
    assert monitor.spent <= 0.2 * 0.6 + 2 * longest
    assert 1 < len(monitor.history) < monitor.steps


def test_loggers():
    class Board:
        def __init__(self):
            self.seen = []

        def add_scalar(self, tag, value, step):
            self.seen.append((tag, step))

    class Run:
        def log(self, values, step):
            self.seen = [(name, step) for name in values]

    class Lightning:
        def log_metrics(self, values, step):
            self.seen = [(name, step) for name in values]

    model, loader, loss, optimizer = problem()
    expected = {
        f"flatmin/{name}"
        for name in ("learning_rate", *flatmin.torch.Monitor.__init__.__defaults__[4])
    }
    for logger in (Board(), Run(), Lightning()):
        flatmin.torch.Monitor(model, loader, loss, optimizer, logger=logger).measure()
        assert {name for name, _ in logger.seen} == expected
    records = []
    flatmin.torch.Monitor(model, loader, loss, optimizer, logger=records.append).measure()
    assert records[0]["step"] == 0


def test_history_as_csv_and_figure(tmp_path):
    plt = pytest.importorskip("matplotlib").use("agg")
    del plt
    model, loader, loss, optimizer = problem()
    monitor = flatmin.torch.Monitor(model, loader, loss, optimizer, every=3, max_overhead=None)
    train(model, loader, loss, optimizer, after=monitor.step)
    monitor.to_csv(tmp_path / "history.csv")
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [int(row["step"]) for row in rows] == [3, 6, 9, 12]
    assert float(rows[0]["threshold"]) == monitor.history[0]["threshold"]
    ax = monitor.plot()
    labels = [line.get_label() for line in ax.lines]
    assert labels == ["η* (batch size 4)", "2/λ_max", "2/batch sharpness", "learning rate"]
    np.testing.assert_allclose(
        ax.lines[1].get_ydata(), [2 / record["lambda_max"] for record in monitor.history]
    )


def test_a_kill_leaves_a_whole_history(tmp_path):
    model, loader, loss, optimizer = problem()
    monitor = flatmin.torch.Monitor(model, loader, loss, optimizer)
    path = tmp_path / "history.csv"
    rng = np.random.default_rng(0)
    for kill in range(20):
        child = os.fork()
        if child == 0:
            while True:
                for count in (3000, 4000):
                    monitor.history = [{"step": step, "loss": 0.5} for step in range(count)]
                    monitor.to_csv(path)
        while kill == 0 and not path.exists():
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with path.open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) in (3000, 4000), kill
        assert all(row == {"step": str(k), "loss": "0.5"} for k, row in enumerate(rows)), kill


def test_a_history_goes_through_links_and_into_pipes(tmp_path):
    model, loader, loss, optimizer = problem()
    monitor = flatmin.torch.Monitor(model, loader, loss, optimizer)
    (tmp_path / "there").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "there" / "history.csv")
    monitor.to_csv(tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "there" / "history.csv").read_text() == "step\n"
    monitor.to_csv("/dev/null")
    assert not os.path.isfile("/dev/null")
    with pytest.raises(FileNotFoundError):
        monitor.to_csv(tmp_path / "nowhere" / "history.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        monitor.to_csv(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link.csv", "there"]


def test_what_cannot_be_measured_is_said_at_once_or_recorded():
    model, loader, _, optimizer = problem(outputs=2)
    with pytest.raises(flatmin.InputError, match="no curvature"):
        flatmin.torch.Monitor(model, loader, nn.L1Loss(), optimizer)
    with pytest.raises(flatmin.InputError, match="no metric"):
        flatmin.torch.Monitor(model, loader, metrics=["sharpness"])
    adam = torch.optim.Adam(model.parameters())
    monitor = flatmin.torch.Monitor(model, loader, nn.MSELoss(), adam)
    with pytest.warns(flatmin.torch.ReadingWarning, match="no state"):
        record = monitor.measure()
    assert "no state" in record["error"]
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    monitor.optimizer = optimizer
    with pytest.warns(flatmin.torch.ReadingWarning, match="diverge"):
        monitor.measure()


def test_as_a_lightning_callback(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            x, y = batch
            return nn.functional.mse_loss(self.model(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.model.parameters(), lr=0.05)

    model, loader, loss, _ = problem(dtype=torch.float32)
    monitor = flatmin.torch.Monitor(model, loader, loss, every=3, max_overhead=None)
    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[monitor],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        logger=False,
    )
    trainer.fit(Module(model), loader)
    assert [record["step"] for record in monitor.history] == [3, 6, 9, 12]
    assert all(record["ratio"] > 0 for record in monitor.history)


def test_hooks_of_lightning_by_duck_typing():
    model, loader, loss, optimizer = problem()
    monitor = flatmin.torch.Monitor(model, loader, loss, every=2, max_overhead=None)

    class Trainer:
        optimizers = (optimizer,)
        logger = None

    monitor.setup(None, None, "fit")
    monitor.on_train_start(None, None)
    for _ in range(4):
        monitor.on_train_batch_end(Trainer, None, None, None, 0)
    assert [record["learning_rate"] for record in monitor.history] == [0.05, 0.05]
    again = flatmin.torch.Monitor(model, loader, loss, optimizer)
    again.load_state_dict(monitor.state_dict())
    assert again.steps == 4 and again.history == monitor.history
    with pytest.raises(AttributeError):
        monitor.nothing  # noqa: B018
