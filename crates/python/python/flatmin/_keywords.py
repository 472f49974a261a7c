"""Keywords that a function does not have, and those that were probably meant."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import ParamSpec, TypeVar

#: Words of other libraries for keywords of this one.
_OTHER_WORDS = {
    "lr": "learning_rate",
    "eta": "learning_rate",
    "step_size": "learning_rate",
    "bs": "batch_size",
    "batch": "batch_size",
    "beta": "momentum",
    "criterion": "loss",
    "loss_fn": "loss",
    "opt": "optimizer",
    "J": "jacobian",
    "ntk": "gram",
    "kernel": "gram",
}

P = ParamSpec("P")
R = TypeVar("R")


def unknown_keyword(function: str, name: str, known: Iterable[str]) -> TypeError:
    """The error for a keyword that a function does not have."""
    known = list(known)
    meant = _OTHER_WORDS.get(name)
    if meant not in known:
        meant = next(iter(get_close_matches(name, known, n=1)), None)
    hint = f"; is {meant}=… meant?" if meant else f"; help({function}) lists those that it has"
    return TypeError(f"{function} has no keyword {name}{hint}")


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Says which keyword was meant where a function does not have the one that is given."""
    code = function.__code__
    known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    name = f"flatmin.{function.__name__}"

    @functools.wraps(function)
    def call(*args: P.args, **keywords: P.kwargs) -> R:
        for keyword in keywords:
            if keyword not in known:
                raise unknown_keyword(name, keyword, known)
        return function(*args, **keywords)

    return call
