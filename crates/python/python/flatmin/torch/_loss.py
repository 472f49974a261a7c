"""What a loss of PyTorch is in flatmin's terms: read from the module, or found by derivatives.

flatmin's loss is (c/2n) Σ ‖f_i − y_i‖², or (1/n) Σ ℓ_i(f_i) with output Hessians. Which of them a
loss is follows from its class; for any other callable, from its derivatives in the outputs of each
sample. Both are tested: the mean over samples must be what the callable returns for the batch.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad, hessian, vmap
from torch.utils._pytree import tree_map

from flatmin import InputError

BY_SAMPLE = (
    "write it as the mean of a loss of each sample, such as lambda output, target: "
    "F.cross_entropy(output, target, reduction='none').mean()"
)


@dataclass
class ReadLoss:
    """Keywords of :func:`flatmin.analyze` that describe a loss.

    Attributes
    ----------
    loss : str
        ``squared``, ``cross-entropy``, ``binary-cross-entropy`` or ``custom``.
    loss_scale : float
        c of the squared loss; 1 for the others.
    residuals : numpy.ndarray
        n × k derivatives of ℓ_i in the outputs, for the squared loss f − y.
    logits : numpy.ndarray
        n × k outputs of the model, the logits of a cross-entropy.
    output_hessian : numpy.ndarray or None
        n × k × k Hessians of ℓ_i.
    summed : bool
        True if the loss of a batch is the sum over its samples, B times their mean.
    are_hard : bool
        True for a cross-entropy whose labels have the probabilities 0 and 1, without smoothing.
    notes : list of str
        Doubts about the reading.
    """

    loss: str
    residuals: np.ndarray
    logits: np.ndarray
    loss_scale: float = 1.0
    output_hessian: np.ndarray | None = None
    summed: bool = False
    are_hard: bool = False
    notes: list[str] = field(default_factory=list)

    def keywords(self, batch_size: int) -> dict[str, Any]:
        """For batches of B; their sum is B times their mean."""
        factor = float(batch_size) if self.summed else 1.0
        found: dict[str, Any] = {
            "loss": self.loss,
            "loss_scale": self.loss_scale * factor,
            "residuals": self.residuals,
            "logits": self.logits,
        }
        if self.output_hessian is not None:
            found["output_hessian"] = self.output_hessian
        return found


def read_loss(
    loss: Callable[[Tensor, Any], Tensor] | None, outputs: Tensor, targets: Any
) -> ReadLoss:
    """The loss at the outputs of all samples.

    Parameters
    ----------
    loss : torch.nn.Module or callable
        Takes the outputs and targets of a batch, and returns their mean (or sum) over samples. None
        stands for ``nn.MSELoss()``.
    outputs : Tensor
        n × …, in the shape that the model returns.
    targets : Tensor or tree of tensors
        With a row for each sample.

    Raises
    ------
    InputError
        If the loss is no mean or sum over samples, has no curvature in the outputs, or is not
        convex in them.
    """
    if loss is None:
        _check_default(outputs, targets)
        loss = nn.MSELoss()
    if isinstance(loss, type):
        raise InputError(
            f"loss is the class {loss.__name__}, expected an object: {loss.__name__}()"
        )
    if not callable(loss):
        raise InputError(
            f"loss is a {type(loss).__name__}, expected a callable of (output, target)"
        )
    if targets is None:
        raise InputError("the data have no targets, which the loss needs: give (x, y)")
    loss = FUNCTIONS[loss]() if _hashable(loss) and loss in FUNCTIONS else loss
    reduction = getattr(loss, "reduction", "mean")
    if reduction == "none":
        raise InputError(
            "the loss has reduction='none' and returns no number; training takes a mean or sum of "
            "it: give that as lambda output, target: loss(output, target).mean()"
        )
    outputs = outputs.detach().cpu().double()
    targets = tree_map(lambda t: _widened(t.detach().cpu()), targets)
    _check_special(loss, outputs, targets)
    loss = _in_double(loss)
    known = _known(loss, outputs, targets)
    summed = _is_sum(loss, outputs, targets)
    found = known if known is not None else _by_derivatives(loss, outputs, targets)
    found.summed = summed
    found.are_hard = _are_hard(loss, targets)
    return found


def _are_hard(loss: Any, targets: Any) -> bool:
    if not isinstance(loss, (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss)):
        return False
    if getattr(loss, "label_smoothing", 0.0) or not isinstance(targets, Tensor):
        return False
    return not targets.is_floating_point() or bool(((targets == 0) | (targets == 1)).all())


def _hashable(value: Any) -> bool:
    return getattr(type(value), "__hash__", None) is not None


FUNCTIONS: dict[Any, type[nn.Module]] = {
    nn.functional.mse_loss: nn.MSELoss,
    nn.functional.cross_entropy: nn.CrossEntropyLoss,
    nn.functional.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    nn.functional.huber_loss: nn.HuberLoss,
    nn.functional.smooth_l1_loss: nn.SmoothL1Loss,
    nn.functional.l1_loss: nn.L1Loss,
    nn.functional.nll_loss: nn.NLLLoss,
}


def _widened(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _in_double(loss: Any) -> Any:
    if isinstance(loss, nn.Module):
        try:
            return copy.deepcopy(loss).cpu().double()
        except (RuntimeError, TypeError, copy.Error):
            return loss
    return loss


def _check_special(loss: Any, outputs: Tensor, targets: Any) -> None:
    """Refuses what is known not to be a mean over samples, each with its way out."""
    if isinstance(loss, nn.L1Loss):
        raise InputError(
            "L1Loss has no curvature: its gradient does not shrink at a minimum, and there is no "
            "stable learning rate to speak of; SmoothL1Loss and HuberLoss have one"
        )
    if isinstance(loss, (nn.NLLLoss, nn.KLDivLoss)):
        raise InputError(
            f"{type(loss).__name__} is linear in its input, the log-probabilities; let the model "
            "(or output=…) return the logits before the log_softmax, with "
            "loss=nn.CrossEntropyLoss(), which is the same loss"
        )
    if isinstance(loss, (nn.MSELoss, nn.HuberLoss, nn.SmoothL1Loss)):
        _check_classes(f"the loss is {type(loss).__name__}", outputs, targets)
    if isinstance(
        loss, (nn.MSELoss, nn.BCEWithLogitsLoss, nn.HuberLoss, nn.SmoothL1Loss, nn.BCELoss)
    ):
        if isinstance(targets, Tensor) and targets.shape != outputs.shape:
            raise InputError(
                f"outputs are {tuple(outputs.shape)} and targets {tuple(targets.shape)}, expected "
                f"one shape: {type(loss).__name__} would broadcast them against each other; use "
                "y.reshape(output.shape) or output=lambda result: "
                "result.squeeze(-1), in training too"
            )
    if isinstance(loss, nn.CrossEntropyLoss) and isinstance(targets, Tensor):
        _check_cross_entropy(loss, outputs, targets)


def _check_default(outputs: Tensor, targets: Any) -> None:
    what = "no loss was given, which stands for nn.MSELoss()"
    _check_classes(what, outputs, targets)
    if isinstance(targets, Tensor) and targets.numel() != outputs.numel():
        raise InputError(
            f"{what}, and the outputs are {tuple(outputs.shape)} with targets "
            f"{tuple(targets.shape)}: give the loss of training as loss=…"
        )


def _check_classes(what: str, outputs: Tensor, targets: Any) -> None:
    """Refuses a squared error with whole numbers as targets that are classes by their shape."""
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
        return
    n, k = len(outputs), outputs[0].numel()
    if targets.numel() != n or targets.shape == outputs.shape:
        return
    lowest, highest = int(targets.min()), int(targets.max())
    if k > 1 and 0 <= lowest and highest < k:
        remedy = "nn.CrossEntropyLoss()"
    elif k == 1 and {lowest, highest} <= {0, 1}:
        remedy = "nn.BCEWithLogitsLoss(), with targets y.to(output.dtype).reshape(output.shape)"
    else:
        return
    raise InputError(
        f"{what}, and the targets are one whole number from {lowest} to {highest} for each sample, "
        f"with {k} output{'' if k == 1 else 's'}: these are classes, to be trained with "
        f"loss={remedy}"
    )


def _check_cross_entropy(loss: nn.CrossEntropyLoss, outputs: Tensor, targets: Tensor) -> None:
    if outputs.dim() < 2:
        raise InputError(
            f"CrossEntropyLoss needs logits n × classes, the outputs are {tuple(outputs.shape)}; "
            "for one logit take BCEWithLogitsLoss"
        )
    if outputs.shape[1] == 1:
        raise InputError(
            "CrossEntropyLoss of a single logit is zero for any network; take BCEWithLogitsLoss"
        )
    if targets.is_floating_point():
        return
    expected = (outputs.shape[0], *outputs.shape[2:])
    if tuple(targets.shape) != expected:
        hint = ""
        if outputs.dim() == 3 and tuple(targets.shape) == tuple(outputs.shape[:2]):
            hint = (
                "; logits n × length × classes are transposed by output=lambda r: r.transpose(1, 2)"
            )
        raise InputError(
            f"CrossEntropyLoss takes class indices {expected} for logits {tuple(outputs.shape)}, "
            f"the targets are {tuple(targets.shape)}{hint}"
        )
    classes = outputs.shape[1]
    ignored = targets == loss.ignore_index
    if bool(ignored.any()):
        raise InputError(
            f"{int(ignored.sum())} targets are ignore_index = {loss.ignore_index}; the mean is "
            "the others of each batch, so that the loss is no mean over samples. Leave these "
            f"samples out, or train with a mean over all positions: {BY_SAMPLE}"
        )
    if bool(((targets < 0) | (targets >= classes)).any()):
        bad = targets[(targets < 0) | (targets >= classes)][0]
        raise InputError(f"a target is class {int(bad)}, expected 0 … {classes - 1}")
    weight = loss.weight
    if weight is not None and loss.reduction == "mean" and float(weight.max() - weight.min()) > 0:
        raise InputError(
            "CrossEntropyLoss(weight=…) divides by the weights of each batch, so that the loss is "
            "no mean over samples; train with lambda output, target: F.cross_entropy(output, "
            "target, weight=w, reduction='none').mean(), whose answer flatmin has"
        )


def _known(loss: Any, outputs: Tensor, targets: Any) -> ReadLoss | None:
    """Losses that :func:`flatmin.analyze` knows by name; None for all others."""
    n = len(outputs)
    flat = outputs.reshape(n, -1)
    k = flat.shape[1]
    if not isinstance(targets, Tensor):
        return None
    kind = type(loss)
    if kind is nn.MSELoss:
        scale = 2.0 if loss.reduction == "sum" else 2.0 / k
        residuals = flat - targets.double().reshape(n, -1)
        return ReadLoss("squared", residuals.numpy(), flat.numpy(), loss_scale=scale)
    if kind is nn.CrossEntropyLoss and loss.weight is None and outputs.dim() == 2:
        probabilities = flat.softmax(dim=1)
        wanted = targets
        if not targets.is_floating_point():
            wanted = nn.functional.one_hot(targets, k).double()
        elif not torch.allclose(wanted.sum(dim=1), torch.ones(n, dtype=wanted.dtype)):
            return None
        wanted = wanted * (1 - loss.label_smoothing) + loss.label_smoothing / k
        return ReadLoss("cross-entropy", (probabilities - wanted).numpy(), flat.numpy())
    plain = kind is nn.BCEWithLogitsLoss and loss.weight is None and loss.pos_weight is None
    if plain and k == 1:
        residuals = torch.sigmoid(flat) - targets.double().reshape(n, 1)
        return ReadLoss("binary-cross-entropy", residuals.numpy(), flat.numpy())
    return None


def _by_derivatives(loss: Any, outputs: Tensor, targets: Any) -> ReadLoss:
    """Gradients and Hessians of each sample's loss in its outputs, by `torch.func`."""
    n, k = len(outputs), outputs[0].numel()

    def of_sample(output: Tensor, target: Any) -> Tensor:
        value = loss(output.unsqueeze(0), tree_map(lambda t: t.unsqueeze(0), target))
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError("the loss returns no single number for a batch")
        return value.reshape(())

    gradients, hessians = _derivatives(of_sample, outputs, targets)
    gradients, hessians = gradients.reshape(n, k), hessians.reshape(n, k, k)
    for i in range(n):
        if not bool(torch.isfinite(hessians[i]).all() and torch.isfinite(gradients[i]).all()):
            raise InputError(
                f"the loss has no finite second derivative in the outputs of sample {i}"
            )
    hessians = (hessians + hessians.transpose(1, 2)) / 2
    values = torch.linalg.eigvalsh(hessians)
    largest = float(values.abs().max())
    if largest == 0.0:
        raise InputError(
            "the loss has no curvature in the outputs (its second derivatives vanish), so that no "
            "learning rate is too large for it; is it one of probabilities where logits are meant?"
        )
    lowest = values[:, 0]
    i = int(lowest.argmin())
    if float(lowest[i]) < -1e-9 * largest:
        raise InputError(
            f"the loss is not convex in the outputs of sample {i}: an eigenvalue of its second "
            f"derivatives is {float(lowest[i]):.3g} (the largest of all is {largest:.3g}); the "
            "Gauss–Newton matrix and its thresholds are for convex losses"
        )
    if float(lowest.min()) < 0:  # rounding
        shift = -float(lowest.min())
        hessians = hessians + shift * torch.eye(k).to(hessians)
    flat = outputs.reshape(n, k).double()
    return ReadLoss("custom", gradients.numpy(), flat.numpy(), output_hessian=hessians.numpy())


def _derivatives(of_sample: Callable, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    """By vmap, or one sample at a time where the loss is not made for it."""
    for precision in (torch.float64, torch.float32):
        given = outputs.to(precision)
        wanted = _like(targets, given)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="There is a performance drop")
                first = vmap(grad(of_sample))(given, wanted)
                return first.double(), vmap(hessian(of_sample))(given, wanted).double()
        except InputError:
            raise
        except Exception:  # torch.func has no one type for what it cannot do
            pass
        try:
            return _loop(of_sample, given, wanted)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            problem = error
    raise InputError(
        f"the loss cannot be taken of one sample, or not be differentiated twice: {problem}"
    ) from problem


def _loop(of_sample: Callable, outputs: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    gradients, hessians = [], []
    for i in range(len(outputs)):
        target = tree_map(lambda t, i=i: t[i], targets)
        output = outputs[i].detach().requires_grad_()
        (first,) = torch.autograd.grad(of_sample(output, target), output, create_graph=True)
        rows = [
            torch.autograd.grad(g, output, retain_graph=True, allow_unused=True)[0]
            if g.requires_grad
            else None
            for g in first.reshape(-1)
        ]
        rows = [torch.zeros_like(output) if row is None else row for row in rows]
        gradients.append(first.detach().double().reshape(-1))
        hessians.append(torch.stack(rows).double().reshape(len(rows), -1))
    return torch.stack(gradients), torch.stack(hessians)


def _is_sum(loss: Any, outputs: Tensor, targets: Any) -> bool:
    """True if the loss of a batch is the sum of those of its samples, False if it is the mean.

    Raises
    ------
    InputError
        If it is neither.
    """
    if getattr(loss, "reduction", None) == "sum":
        return True
    n = len(outputs)
    # Where every loss vanishes, mean and sum are alike: move away from there.
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype, device="cpu")
    plain, outputs = outputs, outputs + 1e-3 * (1 + outputs.abs()) * noise

    def value(rows: slice) -> float:
        some = tree_map(lambda t: t[rows], targets)
        for given in (outputs[rows], outputs[rows].float()):
            try:
                result = loss(given, _like(some, given))
                break
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                if given.dtype == torch.float32:
                    raise InputError(f"the loss fails for these outputs: {error}") from error
        if not isinstance(result, Tensor) or result.numel() != 1:
            raise InputError("the loss returns no single number for a batch")
        return float(result.detach())

    with torch.no_grad():
        try:
            singles = np.array([value(slice(i, i + 1)) for i in range(n)])
            if not np.isfinite(singles).all():
                raise InputError("outside of the domain of the loss")
        except InputError:  # such as probabilities beyond 1
            outputs = plain
            singles = np.array([value(slice(i, i + 1)) for i in range(n)])
        scale = float(np.abs(singles).mean()) + 1e-30
        verdicts = []
        for rows in {n, max(1, (2 * n) // 3), min(n, 2)}:
            if rows < 2:
                continue
            batch = value(slice(0, rows))
            mean = float(singles[:rows].mean())
            error = 1e-5 * scale
            if abs(batch - mean) <= error:
                verdicts.append("both" if abs(batch - rows * mean) <= rows * error else "mean")
            elif abs(batch - rows * mean) <= rows * error:
                verdicts.append("sum")
            else:
                raise InputError(
                    f"the loss of {rows} samples together is {batch:.6g}, and their losses one by "
                    f"one have the mean {mean:.6g}: it is no mean over samples (class weights, "
                    "ignored targets, broadcast shapes or terms between samples); " + BY_SAMPLE
                )
    return "sum" in verdicts and "mean" not in verdicts


def _like(targets: Any, outputs: Tensor) -> Any:
    return tree_map(lambda t: t.to(outputs.dtype) if t.is_floating_point() else t, targets)
