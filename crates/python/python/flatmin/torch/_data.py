"""What a training script says about its samples: tensors, a Dataset or a DataLoader."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)
from torch.utils.data.distributed import DistributedSampler

from flatmin import InputError

from ._network import Inputs

Choose = Callable[[int], list[int]]
REMEDY = "say how batches are drawn: batch_size=…, sampling=…"


@dataclass
class Samples:
    """All samples that training draws from, and how it draws them.

    Attributes
    ----------
    inputs : tuple of tuple and dict
        Positional and named arguments of the model, a row for each sample.
    targets : Tensor or tree of tensors or None
        What the loss compares the outputs with.
    batch_size, sampling, drop_last
        As far as the data say it, else None (False for `drop_last`).
    notes : list of str
        Doubts about the reading.
    remarks : list of str
        Readings without a doubt that are worth a line, such as a subset.
    total : int
        Samples of the whole set, where only some were chosen.
    """

    inputs: Inputs
    targets: Any
    batch_size: int | None = None
    sampling: str | None = None
    drop_last: bool = False
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    total: int = 0

    @property
    def count(self) -> int:
        """n, the number of samples."""
        return len(tree_leaves(self.inputs)[0])


def read_data(
    data: Any,
    *,
    unpack: Callable[[Any], tuple[Any, Any]] | None = None,
    batch_size: int | None = None,
    sampling: str | None = None,
    choose: Choose | None = None,
) -> Samples:
    """The samples of `data`, with the batches of a DataLoader where none are given.

    Parameters
    ----------
    data : tensor, (x, y), Dataset or DataLoader
        `x` is a tensor, a tuple of positional or a dict of named arguments of the model.
    unpack : callable, optional
        Turns a batch of the data into (inputs, targets) where it is not such a pair.
    batch_size, sampling : optional
        Given by the user; they take the place of what the loader says.
    choose : callable, optional
        Takes the number of samples, and returns the places of those that are wanted.

    Raises
    ------
    InputError
        If the samples or the way in which batches are drawn cannot be read off.
    """
    if isinstance(data, DataLoader):
        return _from_loader(data, unpack, batch_size, sampling, choose)
    if isinstance(data, IterableDataset):
        raise InputError(_ITERABLE)
    if isinstance(data, Dataset):
        return _set(data, None, default_collate, unpack, choose)
    if isinstance(data, (Tensor, np.ndarray)):
        return _some(_samples((data, None), unpack), choose)
    if isinstance(data, (tuple, list)) and (len(data) == 2 or unpack is not None):
        return _some(_samples(data, unpack), choose)
    if isinstance(data, Mapping):
        return _some(_samples(data if unpack else (data, None), unpack), choose)
    if isinstance(data, (tuple, list)):
        raise InputError(
            f"data has {len(data)} parts, expected (x, y); several inputs are one part: "
            "((x1, x2), y)"
        )
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _set(data, None, default_collate, unpack, choose)
    raise InputError(
        f"data is a {type(data).__name__}, expected tensors (x, y), a Dataset or a DataLoader"
    )


_ITERABLE = (
    "an IterableDataset has no samples to draw again from; collect the training set into tensors "
    f"(x, y), and {REMEDY}"
)


def _from_loader(
    loader: DataLoader,
    unpack: Any,
    batch_size: int | None,
    sampling: str | None,
    choose: Choose | None,
) -> Samples:
    if isinstance(loader.dataset, IterableDataset):
        raise InputError(_ITERABLE)
    given = batch_size is not None and sampling is not None
    if loader.batch_size is None and not given:
        sampler = loader.batch_sampler
        what = "does not batch" if sampler is None else f"has a {type(sampler).__name__}"
        raise InputError(f"the DataLoader {what}, whose batches are not known; {REMEDY}")
    custom = loader.batch_sampler is not None and type(loader.batch_sampler) is not BatchSampler
    if custom and not given:
        name = type(loader.batch_sampler).__name__
        raise InputError(f"the DataLoader has a {name}, whose batches are not known; {REMEDY}")
    drawn, indices, notes = _sampling(loader, sampling)
    collate = loader.collate_fn if loader.batch_size is not None or custom else default_collate
    samples = _set(loader.dataset, indices, collate, unpack, choose)
    samples.batch_size = loader.batch_size if batch_size is None else batch_size
    samples.sampling = sampling or drawn
    samples.drop_last = bool(loader.drop_last) and samples.sampling == "reshuffling"
    samples.notes += notes
    if indices is not None:
        samples.remarks.append(
            f"the SubsetRandomSampler draws {len(indices)} of the {len(loader.dataset)} samples, "
            f"in a new order every epoch: the answer is for training on these {len(indices)}"
        )
    full = samples.batch_size is not None and samples.batch_size >= samples.total
    if full and sampling is None:  # a batch is the data set, in whatever order
        samples.batch_size = samples.total
        samples.sampling, samples.drop_last = "without_replacement", False
        samples.notes = [note for note in samples.notes if "order" not in note]
    return samples


def _sampling(
    loader: DataLoader, given: str | None
) -> tuple[str | None, list[int] | None, list[str]]:
    """The sampling of a loader's sampler, the samples that it draws from, and doubts."""
    sampler = _drawer(loader)
    if type(sampler) is SubsetRandomSampler:
        return "reshuffling", list(sampler.indices), []
    n = len(loader.dataset)
    if given is not None:
        return None, None, _unlike(sampler, n, given)
    if type(sampler) is RandomSampler:
        if sampler.replacement:
            return "with_replacement", None, []
        if sampler.num_samples != n:
            raise InputError(
                f"the RandomSampler draws {sampler.num_samples} of {n} samples an epoch; {REMEDY}"
            )
        return "reshuffling", None, []
    if type(sampler) is SequentialSampler:
        note = (
            "the DataLoader draws its batches in a fixed order (shuffle=False), which is no random "
            "sampling; the answer is for batches drawn without replacement at every step. If "
            "training shuffles, give the loader of training, or sampling='reshuffling'"
        )
        return "without_replacement", None, [note]
    if isinstance(sampler, WeightedRandomSampler):
        raise InputError(
            "the WeightedRandomSampler draws samples with unequal probabilities, and flatmin's "
            "batches draw all alike; there is no answer for it"
        )
    if isinstance(sampler, DistributedSampler):
        raise InputError(
            "the DistributedSampler gives this process a share of each batch; give the whole "
            f"DataSet, batch_size={loader.batch_size} × the number of processes, and "
            "sampling='reshuffling'"
        )
    name = type(sampler).__name__
    raise InputError(f"the DataLoader has a {name}, whose order is not known; {REMEDY}")


def _drawer(loader: DataLoader) -> Any:
    """What chooses the samples: the sampler, also inside of PyTorch's batches, or another one."""
    batches = loader.batch_sampler
    if type(batches) is BatchSampler:
        return batches.sampler
    return loader.sampler if batches is None else batches


def _unlike(sampler: Any, n: int, given: str) -> list[str]:
    """The doubt about a sampling that is given for a sampler which draws in a way of its own."""
    plain = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler and (sampler.replacement or sampler.num_samples == n)
    )
    if plain:
        return []
    return [
        f"the DataLoader draws by a {type(sampler).__name__}, which was not read: the answer is "
        f"for all {n} samples of its data set, each as likely as the others, with "
        f"sampling={given!r}. If it draws only some of them, or some more often, there is no "
        "answer for it"
    ]


def _set(
    dataset: Any,
    indices: list[int] | None,
    collate: Callable,
    unpack: Any,
    choose: Choose | None,
) -> Samples:
    """Samples of a data set, of which only those that are wanted are loaded."""
    total = len(dataset if indices is None else indices)
    if choose is not None:
        indices = [i if indices is None else indices[i] for i in choose(total)]
    samples = _samples(_collated(dataset, indices, collate), unpack)
    samples.total = total
    if isinstance(dataset, Subset):
        whole = dataset.dataset
        of = f" of {len(whole)}" if hasattr(whole, "__len__") else ""
        samples.remarks.append(
            f"the data are a Subset, {len(dataset)}{of} samples: the answer is for training on "
            f"these {len(dataset)}, not on all"
        )
    return samples


def _some(samples: Samples, choose: Choose | None) -> Samples:
    if choose is None:
        return samples
    rows = torch.tensor(choose(samples.total))
    samples.inputs = tree_map(lambda leaf: leaf[rows.to(leaf.device)], samples.inputs)
    if samples.targets is not None:
        samples.targets = tree_map(lambda leaf: leaf[rows.to(leaf.device)], samples.targets)
    return samples


def _collated(dataset: Any, indices: list[int] | None, collate: Callable) -> Any:
    """One batch of all samples, in the order of the data set, not of a loader."""
    if len(dataset) == 0:
        raise InputError("the data set is empty")
    if type(dataset) is TensorDataset and indices is None and collate is default_collate:
        return dataset.tensors
    with _random_numbers_kept():
        items = [dataset[i] for i in (range(len(dataset)) if indices is None else indices)]
        first = 0 if indices is None else indices[0]
        if not _same(items[0], dataset[first]):
            raise InputError(
                "the data set returns another sample when it is asked again for the same one; "
                "switch random augmentation off, so that the samples are those of the minimum"
            )
        try:
            return collate(items)
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"the samples do not fit into one batch ({error}); give tensors (x, y) of one shape"
            ) from error


def _samples(batch: Any, unpack: Callable[[Any], tuple[Any, Any]] | None) -> Samples:
    if unpack is not None:
        batch = unpack(batch)
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        if isinstance(batch, Mapping):
            what = f"a dict with {', '.join(map(repr, batch))}"
        elif isinstance(batch, (tuple, list)):
            what = f"{len(batch)} parts"
        else:
            what = f"a {type(batch).__name__}"
        raise InputError(
            f"a sample has {what}, expected (inputs, target); say which is which: "
            "unpack=lambda batch: (inputs, target)"
        )
    computed = [leaf for leaf in tree_leaves(batch[0]) if getattr(leaf, "grad_fn", None)]
    inputs = _arguments(batch[0])
    targets = None if batch[1] is None else tree_map(_tensor, batch[1])
    leaves = tree_leaves(inputs)
    if not leaves:
        raise InputError("the data have no inputs")
    counts = {len(leaf) if leaf.dim() else 0 for leaf in leaves}
    if targets is not None:
        counts |= {len(leaf) if leaf.dim() else 0 for leaf in tree_leaves(targets)}
    if len(counts) > 1:
        raise InputError(
            f"inputs and targets have {' and '.join(map(str, sorted(counts)))} rows, expected a "
            "row for each sample in each of them"
        )
    if counts == {0}:
        raise InputError("the data set is empty")
    samples = Samples(inputs, targets, total=counts.pop())
    if computed:
        samples.notes.append(
            f"the inputs were computed from parameters (by {type(computed[0].grad_fn).__name__}): "
            "are they predictions of the model? Give the inputs, the model computes the predictions"
        )
    return samples


def _arguments(inputs: Any) -> Inputs:
    if isinstance(inputs, Mapping):
        return (), {key: tree_map(_tensor, value) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return tuple(tree_map(_tensor, value) for value in inputs), {}
    return (_tensor(inputs),), {}


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (np.ndarray, np.generic, list)):
        try:
            return torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError) as error:
            raise InputError(f"an array of the data is no tensor of numbers: {error}") from error
    raise InputError(
        f"the data hold a {type(value).__name__} among the tensors; leave it out by unpack=…"
    )


def _same(one: Any, other: Any) -> bool:
    left, right = tree_leaves(one), tree_leaves(other)
    if len(left) != len(right):
        return False
    for a, b in zip(left, right, strict=True):
        if isinstance(a, (Tensor, np.ndarray)):
            a, b = torch.as_tensor(a), torch.as_tensor(b)
            if a.shape != b.shape or not torch.equal(a.nan_to_num(), b.nan_to_num()):
                return False
        elif isinstance(a, (int, float, str)) and a != b:
            return False
    return True


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
