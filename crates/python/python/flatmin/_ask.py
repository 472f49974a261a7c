"""Questions about a minimum: the keywords of Python and the options of the command."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _native
from ._analysis import Analysis, Threshold
from ._arrays import buffer
from ._keywords import checked
from ._native import InputError
from ._products import JacobianProducts, functions
from ._words import in_python

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class DoubtWarning(UserWarning):
    """The input looks like something else than what it was taken for."""


@checked
def analyze(
    jacobian: ArrayLike | Mapping[str, ArrayLike] | None = None,
    gram: ArrayLike | None = None,
    *,
    products: JacobianProducts | None = None,
    batch_size: int | Sequence[int] = 1,
    learning_rate: float | Sequence[float] | None = None,
    sampling: str = "without_replacement",
    drop_last: bool = False,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    decoupled_weight_decay: float = 0.0,
    preconditioner: ArrayLike | None = None,
    loss: str = "squared",
    logits: ArrayLike | None = None,
    output_hessian: ArrayLike | None = None,
    residuals: ArrayLike | None = None,
    loss_scale: float = 1.0,
    samples: int | None = None,
    outputs: int | None = None,
    axes: str | None = None,
    blocks: Mapping[str, Sequence[int] | bool] | None = None,
    almost_sure: bool = False,
    trust_input: bool = False,
    tolerance: float = 1e-10,
    memory_limit: float = 16.0,
    threads: int | None = None,
    rank: int | None = None,
    relative_width: float | None = None,
) -> Analysis:
    """Says at which learning rates and batch sizes an optimizer can stay at a minimum.

    The keywords are the options of the command ``flatmin analyze``, and mean the same. The
    convention is the loss (1/2n) Σ ‖f − y‖², so that G = JᵀJ/n; give ``loss_scale=2`` for a mean
    squared error without the ½, and 2/k for one that is also the mean over k outputs.

    Parameters
    ----------
    jacobian
        Derivatives of the outputs (not of the loss) in the parameters at the minimum, n × p with a
        row per sample or n × k × p for k outputs; or a dictionary of arrays n × (parameter) or
        n × k × (parameter), one for each parameter, which adds the sharpness of each.
    gram
        In its place the matrix JJᵀ, not divided by n: n × n, or for k outputs n × n × k × k,
        n × k × n × k, or nk × nk with ``outputs=k``.
    products
        In place of both, functions that multiply with J, for any number of samples.
    batch_size
        Samples in a step, one number or several.
    learning_rate
        Learning rates to judge.
    sampling
        ``"without_replacement"``, ``"with_replacement"``, ``"poisson"``, or ``"reshuffling"`` as a
        data loader with ``shuffle=True`` draws; ``drop_last`` belongs to the last.
    momentum, dampening, nesterov, weight_decay
        The settings of ``torch.optim.SGD``.
    decoupled_weight_decay
        Weight decay past the momentum, as in AdamW.
    preconditioner
        p positive numbers D: √v̂ + ε for Adam at frozen second moments, with
        ``momentum=dampening=β₁``.
    loss
        ``"squared"``, ``"cross-entropy"`` or ``"binary-cross-entropy"`` at ``logits``, or
        ``"custom"`` with ``output_hessian``.
    logits
        n × k, or n for the binary loss. With another loss, the outputs at the point, which tell
        with ``residuals`` how near the minimum is.
    output_hessian
        n × k × k, the second derivatives of each sample's loss in its outputs.
    residuals
        n or n × k, the derivatives of the loss in the outputs; f − y for the squared loss. They add
        the noise floor, and let the input be checked.
    loss_scale
        Factor of the loss.
    samples, outputs, axes
        How the axes are to be read, where the shape alone does not tell.
    blocks
        ``{"layer": (first, end), …}``, columns of which the sharpness is wanted.
    almost_sure
        Adds the edge up to which single runs converge.
    trust_input
        Take the input for what it seems, in spite of doubts.
    tolerance
        Relative width of the interval.
    memory_limit
        Most memory to use, in GiB. Where an exact threshold needs more, a bracket takes its place;
        what has no bracket is refused.
    threads
        Threads to use, at most one for each processor. Results do not depend on them.
    rank, relative_width
        Bracket thresholds by at most so many leading modes, or until the bracket has this relative
        width, without an nk × nk matrix. With ``products``, 5 % is the default.

    Returns
    -------
    Analysis
        Its ``repr`` is the text of the command.

    Raises
    ------
    InputError
        If an array or a keyword is refused, with the command's message.

    Examples
    --------
    >>> import numpy as np, flatmin
    >>> jacobian = np.random.default_rng(0).standard_normal((24, 280))
    >>> analysis = flatmin.analyze(jacobian, batch_size=[1, 8], learning_rate=0.01)
    >>> analysis.threshold(batch_size=8).kind
    'certified'
    """
    words = _options(locals())
    answer = _ask(
        jacobian,
        gram,
        words,
        beside={
            "preconditioner": preconditioner,
            "logits": logits,
            "output-hessian": output_hessian,
            "residuals": residuals,
        },
        blocks=blocks,
        threads=threads,
        products=products,
    )
    return Analysis(answer)


#: The keywords of :func:`analyze` with their defaults.
DEFAULTS: dict[str, Any] = analyze.__wrapped__.__kwdefaults__


def analyze_made(
    words: Mapping[str, Any],
    *,
    parameters: int,
    preconditioned: bool,
    gram: ArrayLike | None = None,
    products: JacobianProducts | None = None,
) -> Analysis:
    """Like :func:`analyze`, for a Gram matrix or products that this package made of a model."""
    words = dict(words)
    beside = {
        name.replace("_", "-"): words.pop(name, None)
        for name in ("logits", "output_hessian", "residuals")
    }
    threads = words.pop("threads", None)
    answer = _ask(
        None,
        gram,
        _options(words),
        beside=beside,
        parameters=parameters,
        preconditioned=preconditioned,
        threads=threads,
        products=products,
    )
    return Analysis(answer)


def threshold(
    jacobian: ArrayLike | Mapping[str, ArrayLike] | None = None,
    gram: ArrayLike | None = None,
    *,
    batch_size: int = 1,
    **keywords: Any,
) -> Threshold:
    """The largest learning rate at which an optimizer can stay at a minimum.

    The keywords are those of :func:`analyze`.

    Returns
    -------
    Threshold
        An interval for the learning rate, with its kind.

    Raises
    ------
    InputError
        As :func:`analyze`.

    Warns
    -----
    DoubtWarning
        Where the input looks like something else, unless ``trust_input`` is true.

    Examples
    --------
    >>> import numpy as np, flatmin
    >>> flatmin.threshold(np.eye(3), batch_size=3).estimate  # the edge of gradient descent, 2n
    6.0
    """
    analysis = analyze(jacobian, gram, batch_size=batch_size, **keywords)
    if not keywords.get("trust_input"):
        for doubt in analysis.doubts:
            warnings.warn(doubt.text, DoubtWarning, stacklevel=2)
    return analysis.threshold()


#: Keywords that are no words of the command, or that are not passed as such.
_OTHER = frozenset(
    {
        "jacobian",
        "gram",
        "preconditioner",
        "logits",
        "output_hessian",
        "residuals",
        "blocks",
        "threads",
        "products",
    }
)


def _options(keywords: Mapping[str, Any]) -> list[str]:
    """The words of the command for these keywords, where they are not the defaults."""
    words = []
    for name, value in keywords.items():
        if name in _OTHER or value is None or value is False:
            continue
        if isinstance(value, (int, float, str)) and value == DEFAULTS[name]:
            continue
        option = "--" + name.replace("_", "-")
        if value is True:
            words.append(option)
        elif (text := _word(name, value)) or isinstance(value, str):
            words.append(f"{option}={text}")
    return words


def _word(name: str, value: Any) -> str:
    """A value as a word of the command; nothing for an empty list."""
    if isinstance(value, str):
        return value.replace("_", "-") if name in {"sampling", "loss"} else value
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float):
        return repr(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return ",".join(_word(name, part) for part in value)
    return str(value)


def _ask(
    jacobian: ArrayLike | Mapping[str, ArrayLike] | None,
    gram: ArrayLike | None,
    words: Sequence[str],
    *,
    beside: Mapping[str, ArrayLike | None],
    blocks: Mapping[str, Any] | None = None,
    parameters: int | None = None,
    preconditioned: bool = False,
    threads: int | None = None,
    products: JacobianProducts | None = None,
) -> _native.Answer:
    """Asks the extension module."""
    if sum(given is not None for given in (jacobian, gram, products)) != 1:
        raise InputError("give either jacobian or gram, or products")
    if blocks is not None and (jacobian is None or isinstance(jacobian, Mapping)):
        raise InputError(
            "blocks name columns of a jacobian that is one array; a dictionary of arrays has a "
            "block for each of them, and a Gram matrix or products have no columns"
        )
    words = list(words)
    main = "jacobian" if gram is None else "gram"
    if products is not None:
        main, arrays = "products", []
        if not any(word.startswith(("--rank", "--relative-width")) for word in words):
            words.append("--relative-width=0.05")
    elif gram is not None:
        arrays = [buffer(main, gram)]
        words.append("--gram")
    elif isinstance(jacobian, Mapping):
        arrays = [buffer(str(name), array) for name, array in jacobian.items()]
        words.append("--sum-arrays")
    else:
        arrays = [buffer(main, jacobian)]
    names = {array[0] for array in arrays}
    for option, array in beside.items():
        if array is None:
            continue
        if option in names:
            raise InputError(f'{main}: a parameter is called "{option}", as is an array beside it')
        arrays.append(buffer(option, array))
        words.append(f"--{option}={option}")
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, expected at least 1")
    text = None if blocks is None else _blocks(blocks)
    by_functions = None if products is None else functions(products)
    try:
        return _native.analyze(
            main, arrays, words, text, parameters, preconditioned, threads, by_functions
        )
    except InputError as error:
        raise InputError(in_python(str(error))) from None


def _blocks(blocks: Mapping[str, Any]) -> str:
    """Blocks of columns as the JSON of ``--blocks``."""
    import json

    if not isinstance(blocks, Mapping):
        raise InputError('blocks: expected {"name": (first, end), …}')

    def plain(value: Any) -> Any:
        if isinstance(value, bool):
            return value
        try:
            return [int(number) for number in value]
        except (TypeError, ValueError) as error:
            raise InputError(f'blocks: expected {{"name": (first, end), …}}: {error}') from error

    return json.dumps({str(name): plain(value) for name, value in blocks.items()})
