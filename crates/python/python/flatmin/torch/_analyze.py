"""The one-liner: model, data, loss and optimizer of a training script, as they are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

import flatmin
from flatmin import InputError
from flatmin._ask import DEFAULTS, analyze_made
from flatmin._granted import granted
from flatmin._keywords import unknown_keyword

from ._data import Samples, read_data
from ._gram import MEMORY_LIMIT, in_bytes, network_gram, network_jacobian
from ._loss import ReadLoss, read_loss
from ._network import Inputs, Network, check_type, unwrapped
from ._optimizer import ReadOptimizer, read_optimizer
from ._products import network_products
from ._remarks import of_labels, of_mode, of_moments, of_scaling

if TYPE_CHECKING:
    from flatmin import Analysis

READ_FROM_LOSS = ("loss_scale", "logits", "output_hessian", "residuals")
READ_FROM_DATA = ("samples", "outputs", "axes", "jacobian", "gram")


class ReadingWarning(UserWarning):
    """A doubt about how a model, data, loss or optimizer was read."""


@torch.inference_mode(False)
def analyze(
    model: nn.Module,
    data: Any,
    loss: Callable[[Tensor, Any], Tensor] | None = None,
    optimizer: Any = None,
    *,
    batch_size: int | Sequence[int] | None = None,
    learning_rate: float | Sequence[float] | None = None,
    sampling: str | None = None,
    output: Callable[[Any], Tensor] | None = None,
    unpack: Callable[[Any], tuple[Any, Any]] | None = None,
    params: Sequence[str] | None = None,
    chunk_size: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    memory_limit: float = MEMORY_LIMIT,
    **keywords: Any,
) -> Analysis:
    """At which learning rates the optimizer can stay at the minimum where the model is.

    Loss, optimizer and batches are read from what training uses: the factor 2/k of a mean squared
    error, the Hessian of a cross-entropy, learning rate, momentum and weight decay, Adam's v̂, the
    batch size of a loader and how it shuffles. Every keyword takes the place of what is read.

    Parameters
    ----------
    model : torch.nn.Module
        At the minimum, in evaluation mode where it has dropout or batch normalisation. It is not
        changed.
    data : (x, y), Dataset or DataLoader
        All samples of training. `x` is a tensor, a tuple of positional or a dict of named arguments
        of the model.
    loss : torch.nn.Module or callable
        Of (output, target) of a batch: a mean or sum over samples, convex and twice differentiable
        in the output. Default: ``nn.MSELoss()``.
    optimizer : torch.optim.Optimizer, optional
        SGD, Adam, AdamW or RMSprop. Default: plain SGD, which the notes of the answer say.
    batch_size : int or list of int, optional
        Default: that of the DataLoader, else 1.
    learning_rate : float or list of float, optional
        Default: that of the optimizer.
    sampling : str, optional
        ``without_replacement``, ``with_replacement``, ``reshuffling`` or ``poisson``. Default: that
        of the DataLoader, else without replacement.
    output, unpack, params, chunk_size, device, dtype
        As in :func:`flatmin.torch.jacobian`.
    memory_limit : float
        GiB for the Jacobian or its Gram matrix.
    **keywords
        Further keywords of :func:`flatmin.analyze`; ``blocks=True`` gives the sharpness of each
        parameter tensor.

    Returns
    -------
    flatmin.Analysis

    Raises
    ------
    InputError
        If the input does not determine an answer. The message says what to do.

    Warns
    -----
    ReadingWarning
        If a reading is in doubt, such as batches in a fixed order.

    Notes
    -----
    The notes of the answer, at the end of its text, say what was taken for granted: a loss, an
    optimizer or a batch size that was not given, a subset of the samples, layers that act otherwise
    in training mode, labels without smoothing.

    The answer is for training that goes on as the model is here: without dropout, and with the
    statistics of batch normalisation fixed. A batch draws samples, each with all of its outputs:
    all logits of all positions for a cross-entropy over sequences. Adam's v̂ is frozen as it is now.
    One model must not be analysed, or trained, by two threads at the same time.

    Examples
    --------
    >>> model.eval()
    >>> flatmin.torch.analyze(model, loader, nn.CrossEntropyLoss(label_smoothing=0.1), optimizer)
    """
    for name in (*READ_FROM_LOSS, *READ_FROM_DATA):
        if name in keywords:
            raise InputError(f"{name} is read from the data and the loss; flatmin.analyze takes it")
    for name in keywords:
        if name not in DEFAULTS:
            known = [*DEFAULTS, "optimizer", "output", "params", "chunk_size", "dtype"]
            raise unknown_keyword("flatmin.torch.analyze", name, known)
    limit = in_bytes(memory_limit)
    check_type(model)
    if isinstance(data, (Tensor, np.ndarray)):
        raise InputError(
            f"data is one array {tuple(data.shape)}, expected the samples of training, inputs and "
            "targets: (x, y), a Dataset or a DataLoader (predictions do not do, the model computes "
            "them)"
        )
    if isinstance(batch_size, (int, np.integer)):
        batch_size = [int(batch_size)]
    elif batch_size is not None and not isinstance(batch_size, (list, tuple, range, np.ndarray)):
        raise InputError(f"batch_size is {batch_size!r}, expected a whole number or several")
    samples = read_data(
        data,
        unpack=unpack,
        batch_size=None if batch_size is None or len(batch_size) == 0 else int(min(batch_size)),
        sampling=sampling,
    )
    read = None
    if optimizer is not None:
        read = read_optimizer(optimizer, unwrapped(model), keywords)
        params = _both(params, read)
    network = Network(model, output=output, params=params, device=device, dtype=dtype)
    inputs = network.prepared(samples.inputs)
    outputs = network.outputs(inputs, chunk_size=chunk_size)
    found = read_loss(loss, outputs, samples.targets)
    words = _words(samples, found, read, batch_size, learning_rate, sampling, keywords)
    given = words.pop("preconditioner", None)
    diagonal = _diagonal(network, read) if given is None else _split(network, given)
    notes = network.notes + samples.notes + found.notes + (read.notes if read else [])
    if read is not None and read.is_adaptive:
        notes += of_moments(network, inputs, diagonal)
    for note in notes:
        warnings.warn(note, ReadingWarning, stacklevel=3)  # past the decorator
    if read is not None and read.is_adaptive:
        notes += of_scaling(optimizer, read)
    notes += samples.remarks + of_mode(network.model) + of_labels(found.are_hard)
    if loss is None:
        notes.append("no loss was given: the answer is for nn.MSELoss()")
    size_given = samples.batch_size if batch_size is None else batch_size
    notes += granted(optimizer, size_given, keywords)
    answer = _answer(network, inputs, outputs, words, diagonal, chunk_size, limit, notes)
    answer.notes = notes
    return answer


def _answer(
    network: Network,
    inputs: Inputs,
    outputs: Tensor,
    words: dict[str, Any],
    diagonal: dict[str, np.ndarray] | None,
    chunk_size: int | None,
    limit: int,
    notes: list[str],
) -> Analysis:
    """Asks flatmin.analyze: with the Jacobian where it is small, with its Gram matrix where that
    fits into memory, and with products else.
    """
    n, k, p = len(outputs), outputs[0].numel(), network.parameter_count
    wanted = words.pop("blocks", None)
    bracket = _is_bracket(words, n * k, limit, notes)
    if 8 * n * k * p <= limit // 4:
        rows = network_jacobian(network, inputs, chunk_size=chunk_size, memory_limit=limit)
        if diagonal is not None:
            words["preconditioner"] = np.concatenate([d.reshape(-1) for d in diagonal.values()])
        if wanted:
            words["blocks"] = blocks(network) if wanted is True else wanted
        return flatmin.analyze(rows[:, 0] if k == 1 else rows, samples=n, outputs=k, **words)
    if wanted:
        raise InputError(
            f"blocks need the Jacobian, {n} × {k} × {p} numbers, beyond a quarter of memory_limit"
        )
    made = {"parameters": p, "preconditioned": diagonal is not None}
    if bracket:
        scale = None
        if diagonal is not None:
            scale = np.concatenate([d.reshape(-1) for d in diagonal.values()]) ** -0.5
        found = network_products(
            network, inputs, k, scale=scale, chunk_size=chunk_size, memory_limit=limit
        )
        return analyze_made(words, products=found, **made)
    scale = None
    if diagonal is not None:
        scale = {name: torch.from_numpy(d**-0.5) for name, d in diagonal.items()}
    gram = network_gram(network, inputs, scale=scale, chunk_size=chunk_size, memory_limit=limit)
    return analyze_made(words | {"samples": n, "outputs": k}, gram=gram, **made)


def _reshuffles(has_momentum: bool, drops_last: bool) -> str:
    """The difference between a loader's epochs and independent batches."""
    short = "" if drops_last else ", but a short last batch can lower it much"
    seen = (
        "With momentum the edge of the epochs may be lower, by 3 to 36 % in problems of 20 to 300 "
        "samples that were tried, so that a learning rate close to this one is not safe"
        if has_momentum
        else f"The edge of the epochs is usually within a few per cent of this one{short}"
    )
    return (
        "the loader reshuffles its samples every epoch, and the edge of that has no bracket: the "
        f"answer is for batches that are drawn anew at every step. {seen}"
    )


def _is_bracket(words: dict[str, Any], rows: int, limit: int, notes: list[str]) -> bool:
    """True if the exact threshold is not wanted or does not fit; `words` are made to fit then."""
    wanted = "rank" in words or "relative_width" in words
    if not wanted and 2 * 8 * rows**2 <= limit:
        return False
    if not wanted:
        _check_decay(words, rows, limit)
        words["relative_width"] = 0.05
        warnings.warn(
            f"the exact threshold needs matrices of {rows} × {rows} numbers, beyond memory_limit; "
            "the answer is a bracket from leading modes (relative_width=0.05)",
            ReadingWarning,
            stacklevel=5,
        )
    drops_last = bool(words.pop("drop_last", False))
    if words.get("sampling") == "reshuffling":
        words["sampling"] = "without_replacement"
        note = _reshuffles(bool(words.get("momentum")), drops_last)
        notes.append(note)
        warnings.warn(note, ReadingWarning, stacklevel=5)
    return True


def _check_decay(words: dict[str, Any], rows: int, limit: int) -> None:
    """A bracket that nobody asked for must not be refused in the words of one that was."""
    for name in ("weight_decay", "decoupled_weight_decay"):
        if words.get(name):
            raise InputError(
                f"the exact threshold needs matrices of {rows} × {rows} numbers, beyond "
                f"memory_limit ({limit / 2**30:g} GiB), and the bracket in its place has no "
                f"{name} ({words[name]:g} here); give {name}=0. for the answer without it, or a "
                "larger memory_limit"
            )


def _both(params: Sequence[str] | None, read: ReadOptimizer | None) -> list[str] | None:
    """Parameters that are chosen and in the optimizer."""
    if read is None:
        return None if params is None else list(params)
    if params is None:
        return read.parameters
    wanted = [params] if isinstance(params, str) else list(params)
    outside = [name for name in wanted if name not in read.parameters]
    if outside:
        raise InputError(f"the optimizer does not train {', '.join(outside)}")
    return wanted


def _words(
    samples: Samples,
    found: ReadLoss,
    read: ReadOptimizer | None,
    batch_size: Sequence[int] | None,
    learning_rate: float | Sequence[float] | None,
    sampling: str | None,
    keywords: dict[str, Any],
) -> dict[str, Any]:
    """Keywords of flatmin.analyze: what is read, then what is given."""
    given = [] if batch_size is None else [int(size) for size in batch_size]
    sizes = given or [samples.batch_size or 1]
    words: dict[str, Any] = {"batch_size": sizes}
    words["sampling"] = sampling or samples.sampling or "without_replacement"
    words["drop_last"] = samples.drop_last
    if read is not None:
        words |= read.keywords()
    words |= keywords
    if learning_rate is not None:
        words["learning_rate"] = learning_rate
    if words["sampling"] == "without_replacement" and max(sizes) > samples.count:
        raise InputError(
            f"batch_size is {max(sizes)}, and the data have {samples.count} samples to draw from "
            "without replacement; give a smaller one or sampling='with_replacement'"
        )
    if found.summed:
        _check_sum(samples, sizes, words)
    return words | found.keywords(sizes[0])


def _check_sum(samples: Samples, sizes: list[int], words: dict[str, Any]) -> None:
    if len(set(sizes)) > 1:
        raise InputError(
            "with a loss that is summed over the batch, the loss itself depends on the batch size; "
            "give one batch_size at a time"
        )
    short = samples.count % sizes[0]
    if words["sampling"] == "reshuffling" and short and not words["drop_last"]:
        raise InputError(
            f"with a loss that is summed over the batch, the short last batch of {short} samples "
            f"takes a smaller step than those of {sizes[0]}, which the theory does not have; use "
            "drop_last=True or a mean over the batch"
        )


def _diagonal(network: Network, read: ReadOptimizer | None) -> dict[str, np.ndarray] | None:
    if read is None or read.preconditioner is None:
        return None
    return {name: read.preconditioner[name].numpy() for name in network.trained}


def _split(network: Network, given: Any) -> dict[str, np.ndarray]:
    """A preconditioner of the user, one number for each parameter, by parameter."""
    flat = np.asarray(given, dtype=np.float64).reshape(-1)
    if len(flat) != network.parameter_count or not (flat > 0).all():
        raise InputError(
            f"preconditioner has {len(flat)} numbers, expected {network.parameter_count} positive "
            "ones, in the order of model.named_parameters()"
        )
    return {name: flat[first:end] for name, (first, end) in blocks(network).items()}


def blocks(network: Network) -> dict[str, list[int]]:
    """First and end column of each trained parameter."""
    found, first = {}, 0
    for name, p in network.trained.items():
        found[name] = [first, first + p.numel()]
        first += p.numel()
    return found
