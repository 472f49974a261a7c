"""Sharpness and thresholds along a training run."""

from __future__ import annotations

import csv
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

import flatmin
from flatmin import InputError

from ._analyze import ReadingWarning
from ._data import Samples, read_data
from ._gauss_newton import batch_sharpness, output_roots, weighted
from ._gram import MEMORY_LIMIT, in_bytes, network_gram
from ._loss import read_loss
from ._network import Network, take, unwrapped
from ._optimizer import ReadOptimizer, read_optimizer

METRICS = ("loss", "lambda_max", "trace", "threshold", "ratio", "batch_sharpness")


class Monitor:
    """Measures how far training is from the edge of stability, every so many steps.

    Call :meth:`step` after each step of the optimizer, or give the monitor to a Lightning trainer
    as a callback. A measurement evaluates a fixed random subset of the training set, with the model
    in evaluation mode for its duration; nothing of the training run changes, its random numbers
    included.

    Parameters
    ----------
    model : torch.nn.Module
    data : (x, y), Dataset or DataLoader
        Of training; only the samples of the subset are loaded.
    loss : torch.nn.Module or callable, optional
        As in :func:`flatmin.torch.analyze`. Default: ``nn.MSELoss()``.
    optimizer : torch.optim.Optimizer, optional
        Read at each measurement, so that schedules of the learning rate count. Under Lightning,
        default: the trainer's first.
    every : int
        Steps between measurements.
    samples : int
        Size of the subset; less where samples × outputs exceed `max_rows`.
    metrics : sequence of str
        Some of ``loss``, ``lambda_max`` and ``trace`` (of the Gauss–Newton matrix, in the metric of
        the optimizer's preconditioner), ``threshold`` (η*), ``ratio`` (η* over the learning rate)
        and ``batch_sharpness`` (mean over batches of gᵀHg/gᵀg, g and H the gradient and
        Gauss–Newton matrix of the batch).
    logger : object, optional
        With ``log_metrics(dict, step=)`` (Lightning), ``add_scalar(tag, value, step)``
        (TensorBoard), ``log(dict, step=)`` (wandb), or a callable of the record.
    seed : int
        Of the subset, and of the batches of the batch sharpness.
    batch_size : int, optional
        Default: that of the DataLoader, else 1.
    max_overhead : float or None
        The share of training time that measurements may take: while it is exceeded, a measurement
        that is due waits. None: no limit.
    max_rows : int
        Most samples × outputs.
    output, unpack, params, device, dtype, memory_limit
        As in :func:`flatmin.torch.analyze`.

    Attributes
    ----------
    history : list of dict
        A record for each measurement: ``step``, ``samples``, ``subset`` (True if there are more),
        ``learning_rate``, ``seconds`` and the metrics. One that failed has ``error`` instead.
    overhead : float
        Seconds of measurements over seconds of training since the first step.

    Raises
    ------
    InputError
        At once, if model, data or loss cannot be analysed.

    Notes
    -----
    The subset makes η* an estimate: of a subset it is below that of all samples on average, λ_max
    above, the trace unbiased. Batches are drawn with replacement from a subset, and without
    replacement where it holds all samples.

    Examples
    --------
    >>> monitor = flatmin.torch.Monitor(model, loader, loss, optimizer, every=500)
    >>> for x, y in loader:
    ...     train_step(x, y)
    ...     monitor.step()
    >>> monitor.to_csv("sharpness.csv")
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        loss: Callable[[Tensor, Any], Tensor] | None = None,
        optimizer: Any = None,
        every: int = 500,
        samples: int = 256,
        metrics: Sequence[str] = METRICS,
        logger: Any = None,
        seed: int = 0,
        *,
        batch_size: int | None = None,
        max_overhead: float | None = 0.05,
        max_rows: int = 640,
        output: Callable[[Any], Tensor] | None = None,
        unpack: Callable[[Any], tuple[Any, Any]] | None = None,
        params: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        memory_limit: float = MEMORY_LIMIT,
    ) -> None:
        unknown = [name for name in metrics if name not in METRICS]
        if unknown:
            raise InputError(f"no metric is called {unknown[0]!r}; there are {', '.join(METRICS)}")
        if every < 1 or samples < 1:
            raise InputError(f"every is {every} and samples {samples}, expected at least 1")
        self.model, self.optimizer, self.logger = model, optimizer, logger
        self.loss = nn.MSELoss() if loss is None else loss
        self.every, self.metrics, self.seed = every, tuple(metrics), seed
        self.max_overhead, self.limit = max_overhead, in_bytes(memory_limit)
        self._params = params
        self._reading = {"output": output, "device": device, "dtype": dtype}
        self.history: list[dict[str, Any]] = []
        self.steps, self.spent = 0, 0.0
        self._started: float | None = None
        found = self._subset(data, samples, unpack, batch_size)
        k = self._outputs_of(found)
        rows = max(1, min(found.count, max_rows // max(1, k)))
        self.samples = Samples(
            take(found.inputs, slice(0, rows)),
            tree_map(lambda t: t[:rows], found.targets),
            total=found.total,
        )
        self.batch_size = batch_size or found.batch_size or 1

    def _subset(self, data: Any, count: int, unpack: Any, batch_size: int | None) -> Samples:
        def choose(total: int) -> list[int]:
            generator = torch.Generator("cpu").manual_seed(self.seed)
            order = torch.randperm(total, generator=generator, device="cpu")
            return order[:count].tolist()

        sampling = None if batch_size is None else "with_replacement"
        return read_data(
            data, unpack=unpack, batch_size=batch_size, sampling=sampling, choose=choose
        )

    def _outputs_of(self, samples: Samples) -> int:
        """k; also finds out whether model and loss can be analysed at all."""
        with _evaluated(self.model):
            network = Network(self.model, params=self._params, **self._reading)
            outputs = network.outputs(network.prepared(samples.inputs))
            read_loss(self.loss, outputs, samples.targets)
        return outputs[0].numel()

    @property
    def overhead(self) -> float:
        """Seconds of measurements over seconds of training since the first step."""
        if self._started is None:
            return 0.0
        trained = time.monotonic() - self._started - self.spent
        return self.spent / max(trained, 1e-9)

    def step(self) -> dict[str, Any] | None:
        """Counts a step of training, and measures if it is time.

        Returns
        -------
        dict or None
            The record, if a measurement was made.
        """
        self.steps += 1
        if self._started is None:
            self._started = time.monotonic()
        last = self.history[-1]["step"] if self.history else 0
        if self.steps - last < self.every:
            return None
        if self.max_overhead is not None and self.overhead > self.max_overhead:
            return None
        return self.measure()

    def measure(self) -> dict[str, Any]:
        """Measures now, appends the record to the history and logs it."""
        began = time.monotonic()
        record: dict[str, Any] = {
            "step": self.steps,
            "samples": self.samples.count,
            "subset": self.samples.count < self.samples.total,
        }
        try:
            with _evaluated(self.model), torch.inference_mode(False):
                record |= self._measured()
        except InputError as error:
            record["error"] = str(error)
            warnings.warn(f"no measurement at step {self.steps}: {error}", ReadingWarning, 3)
        record["seconds"] = time.monotonic() - began
        if self._started is not None:
            self.spent += record["seconds"]
        self.history.append(record)
        self._log(record)
        return record

    def _measured(self) -> dict[str, Any]:
        read = None
        if self.optimizer is not None:
            read = read_optimizer(self.optimizer, unwrapped(self.model))
        params = self._params if read is None or self._params else read.parameters
        network = Network(self.model, params=params, **self._reading)
        inputs = network.prepared(self.samples.inputs)
        outputs = network.outputs(inputs)
        loss = read_loss(self.loss, outputs, self.samples.targets)
        scale = None
        if read is not None and read.preconditioner is not None:
            scale = {name: read.preconditioner[name] ** -0.5 for name in network.trained}
        found: dict[str, Any] = {"learning_rate": None if read is None else read.learning_rate}
        if "loss" in self.metrics:
            found["loss"] = self._loss_value(outputs)
        if set(self.metrics) <= {"loss"}:
            return found
        gram = network_gram(
            network, inputs, scale=scale, single=True, quiet=True, memory_limit=self.limit
        )
        words = loss.keywords(self.batch_size)
        n, k = len(outputs), outputs[0].numel()
        roots = output_roots(words, n, k)
        if {"lambda_max", "trace"} & set(self.metrics):
            values = np.linalg.eigvalsh(weighted(gram, roots)) / n
            found |= {"lambda_max": float(values[-1]), "trace": float(values.sum())}
        if "batch_sharpness" in self.metrics:
            found["batch_sharpness"] = batch_sharpness(
                gram, roots, words["residuals"], size=self.batch_size, seed=self.seed
            )
        if {"threshold", "ratio"} & set(self.metrics):
            edge = self._threshold(gram, words, read)
            found["threshold"] = edge
            if read is not None:
                found["ratio"] = edge / read.learning_rate
        wanted = {"learning_rate", *self.metrics}
        return {name: value for name, value in found.items() if name in wanted}

    def _loss_value(self, outputs: Tensor) -> float:
        with torch.no_grad():
            targets = tree_map(lambda t: t.to(outputs.device), self.samples.targets)
            return float(self.loss(outputs, targets))

    def _threshold(
        self, gram: np.ndarray, words: dict[str, Any], read: ReadOptimizer | None
    ) -> float:
        n = self.samples.count
        words = {name: value for name, value in words.items() if name != "residuals"}
        if read is not None:
            words |= read.keywords()
            words.pop("learning_rate")
        whole = n == self.samples.total
        found = flatmin.analyze(
            gram=gram,
            samples=n,
            outputs=len(gram) // n,
            batch_size=min(self.batch_size, n) if whole else self.batch_size,
            sampling="without_replacement" if whole else "with_replacement",
            tolerance=1e-4,
            trust_input=True,
            **words,
        )
        return found.threshold().estimate

    def _log(self, record: dict[str, Any]) -> None:
        logger = self.logger
        if logger is None or "error" in record:
            return
        names = [n for n in ("learning_rate", *self.metrics) if record.get(n) is not None]
        scalars = {f"flatmin/{name}": float(record[name]) for name in names}
        if hasattr(logger, "log_metrics"):
            logger.log_metrics(scalars, step=record["step"])
        elif hasattr(logger, "add_scalar"):
            for name, value in scalars.items():
                logger.add_scalar(name, value, record["step"])
        elif isinstance(logger, logging.Logger):
            logger.info("flatmin: %s", record)
        elif hasattr(logger, "log"):
            logger.log(scalars, step=record["step"])
        elif callable(logger):
            logger(record)
        else:
            raise InputError(
                f"logger is a {type(logger).__name__}, expected one with add_scalar, log or "
                "log_metrics, or a callable"
            )

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes the history, a row for each measurement and a column for each field.

        The file is replaced as a whole: a program that is killed leaves the old one or the new one.
        """
        columns = list(dict.fromkeys(name for record in self.history for name in record))
        with _replacing(path) as file:
            writer = csv.DictWriter(file, columns or ["step"])
            writer.writeheader()
            writer.writerows(self.history)

    def plot(self, ax: Any = None) -> Any:
        """Draws η*, the edge 2/λ_max of gradient descent and the learning rate against steps.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Default: a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        curves = {
            f"η* (batch size {self.batch_size})": ("threshold", lambda value: value),
            "2/λ_max": ("lambda_max", lambda value: 2 / value if value else float("inf")),
            "2/batch sharpness": ("batch_sharpness", lambda v: 2 / v if v else float("inf")),
            "learning rate": ("learning_rate", lambda value: value),
        }
        for label, (name, curve) in curves.items():
            points = [(r["step"], curve(r[name])) for r in self.history if r.get(name) is not None]
            if points:
                style = {"color": "black", "linestyle": "--"} if name == "learning_rate" else {}
                ax.plot(*zip(*points, strict=True), label=label, marker=".", **style)
        ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel("learning rate")
        subset = any(record.get("subset") for record in self.history)
        size = f"{self.samples.count} of {self.samples.total} samples"
        ax.set_title(f"edges of stability ({size}: a subset)" if subset else "edges of stability")
        ax.legend()
        return ax

    # Lightning calls every hook of a callback; this one has a use for two of them.

    state_key = "flatmin.torch.Monitor"

    def on_train_batch_end(self, trainer: Any = None, *args: Any, **kwargs: Any) -> None:
        """The hook of a Lightning callback: :meth:`step`, with the trainer's optimizer."""
        if self.optimizer is None:
            self.optimizer = next(iter(getattr(trainer, "optimizers", None) or []), None)
        if self.logger is None:
            self.logger = getattr(trainer, "logger", None)
        self.step()

    def state_dict(self) -> dict[str, Any]:
        """Steps and history, for checkpoints."""
        return {"steps": self.steps, "history": list(self.history)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.steps, self.history = state["steps"], list(state["history"])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_") or name in ("setup", "teardown"):
            return lambda *args, **kwargs: None
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """A text file that gets its name when it is whole; a device or a pipe is written as it is."""
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "w", newline="", encoding="utf-8") as file:
            yield file
        return
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".tmp-{os.getpid()}-{name}")
    try:
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            os.remove(temporary)
        raise


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, and afterwards each module in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
