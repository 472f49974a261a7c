"""What an answer takes for granted because nothing says it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

#: Keywords that describe an optimizer.
OF_OPTIMIZER = (
    "momentum",
    "dampening",
    "nesterov",
    "weight_decay",
    "decoupled_weight_decay",
    "preconditioner",
)


def granted(optimizer: Any, batch_size: Any, keywords: Collection[str]) -> list[str]:
    """Notes on an optimizer and a batch size that are not given."""
    notes = []
    if optimizer is None and not any(name in keywords for name in OF_OPTIMIZER):
        notes.append(
            "no optimizer was given: the answer is for SGD without momentum and weight decay; "
            "optimizer=… takes that of training"
        )
    if batch_size is None:
        notes.append(
            "no batch size was given, and the data have none: the answer is for batches of one "
            "sample; batch_size=… takes that of training"
        )
    return notes
