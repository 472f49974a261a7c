"""Columns of the Jacobian, a group of parameters at a time.

Three ways lead to the same numbers. Closed forms for common layers are the fastest; `torch.func`
takes all else; where it has no rule (`nn.LSTM`, control flow that depends on numbers), a loop over
samples and outputs does. :func:`classify` tries on a few samples which way each parameter can go,
and believes a closed form only if it agrees with a backward pass of PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from flatmin import InputError

from ._general import loop_rows, vmap_rows
from ._layers import (
    SLICED,
    Call,
    DoesNotApply,
    captured,
    contribution,
    output_gradients,
    overwritten,
    owners,
)
from ._network import Inputs, Network, sample_count, take

PROBE_SAMPLES = 5
"""A prime, so that rows of a layer are hardly a multiple of it by chance."""


@dataclass(frozen=True)
class Part:
    """Columns `first` up to `end` of a flattened parameter."""

    name: str
    first: int
    end: int
    kind: str

    @property
    def columns(self) -> int:
        return self.end - self.first


@dataclass
class Ways:
    """How to differentiate each parameter, and what a sample costs.

    Attributes
    ----------
    kinds : dict of str to str
        ``closed``, ``vmap`` or ``loop`` for each trained parameter.
    rows : dict of torch.nn.Module to list of tuple of int
        For each layer with a closed form and each of its calls, the rows of a sample, and the
        shape of one.
    once : set of str
        Weights and biases of linear layers that see each sample exactly once.
    activation_bytes : int
        What autograd keeps of the forward pass of one sample.
    output_count : int
        k, the outputs of a sample.
    """

    kinds: dict[str, str]
    output_count: int
    activation_bytes: int
    owners: dict[str, list[tuple[nn.Module, str]]] = field(default_factory=dict)
    rows: dict[nn.Module, list[tuple[int, ...]]] = field(default_factory=dict)
    once: set[str] = field(default_factory=set)


def classify(network: Network, inputs: Inputs) -> Ways:
    """Tries on a few samples how each parameter can be differentiated.

    Raises
    ------
    InputError
        If the outputs do not depend on the parameters in a differentiable way.
    """
    n = sample_count(inputs)
    chosen = sorted({(i * n) // PROBE_SAMPLES for i in range(PROBE_SAMPLES)})
    probe = take(inputs, torch.tensor(chosen, device=network.device))
    with network.calm():
        reference, sketch, cost = _reference(network, probe)
        k = sketch.shape[1]
        ways = Ways(dict.fromkeys(network.trained, "vmap"), k, cost)
        ways.owners = owners(network.model, list(network.trained))
        candidates = list(ways.owners)
        while candidates:
            try:
                good = _agreeing(network, ways, probe, candidates, reference, sketch)
            except DoesNotApply as error:
                candidates = [name for name in candidates if name not in error.names]
                continue
            except (RuntimeError, ValueError, TypeError, NotImplementedError):
                good = []
            for name in good:
                ways.kinds[name] = "closed"
            break
        general = [name for name, kind in ways.kinds.items() if kind == "vmap"]
        if general and not _vmap_works(network, probe, general):
            ways.kinds.update(dict.fromkeys(general, "loop"))
    return ways


def _reference(network: Network, probe: Inputs) -> tuple[dict[str, Tensor], Tensor, int]:
    """Jᵀu of the probe by a plain backward pass, u, and the bytes that autograd keeps a sample."""
    leaves = {name: p.detach().requires_grad_() for name, p in network.trained.items()}
    weights = {p.data_ptr() for p in leaves.values()}
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        if tensor.data_ptr() not in weights:
            kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = network.rows(leaves, probe)
    if not outputs.requires_grad:
        raise InputError(
            "the outputs do not depend on the trained parameters in a way that autograd can follow "
            "(torch.no_grad, detach or argmax inside of the model?)"
        )
    generator = torch.Generator("cpu").manual_seed(0)
    shape = outputs.shape
    sketch = torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")
    sketch = sketch.to(outputs)
    try:
        grads = torch.autograd.grad(outputs, list(leaves.values()), sketch, allow_unused=True)
    except RuntimeError as error:
        raise InputError(f"the backward pass of the model fails: {error}") from error
    reference = {
        name: torch.zeros_like(p) if grad is None else grad
        for (name, p), grad in zip(leaves.items(), grads, strict=True)
    }
    return reference, sketch, kept // len(outputs)


def _agreeing(
    network: Network,
    ways: Ways,
    probe: Inputs,
    names: list[str],
    reference: dict[str, Tensor],
    sketch: Tensor,
) -> list[str]:
    """Those parameters whose closed form gives the reference; records the rows of their layers."""
    found = forward_and_back(network, ways, probe, names)
    for module, (calls, _) in found.items():
        ways.rows[module] = [_row_shape(call, len(sketch)) for call in calls]
    sums, scales = {}, {}
    for name in names:
        inner = max(1, network.trained[name][0].numel()) if network.trained[name].dim() else 1
        step = max(1, 2**24 // (sketch.numel() * inner))
        sums[name] = torch.zeros_like(reference[name]).reshape(-1)
        square = 0.0
        for part in _split(network, ways, name, "closed", step * inner):
            rows = closed_columns(network, ways, found, part, len(sketch))
            if rows is not None:
                sums[name][part.first : part.end] = torch.einsum("nk,nkc->c", sketch, rows)
                square += float((sketch[..., None] * rows).square().sum())
        scales[name] = square**0.5
    wide = network.dtype == torch.float64
    tolerance, floor = (1e-9, 1e-13) if wide else (3e-4, 1e-6)
    largest = max(scales.values(), default=0.0)
    good = []
    for name in names:
        error = float((sums[name] - reference[name].reshape(-1)).norm())
        if error <= tolerance * scales[name] + floor * largest:
            good.append(name)
            if _sees_samples_once(ways.owners[name], found, len(sketch)):
                ways.once.add(name)
    return good


def _sees_samples_once(
    held: list[tuple[nn.Module, str]],
    found: dict[nn.Module, tuple[list[Call], list[Tensor]]],
    samples: int,
) -> bool:
    module = held[0][0]
    if len(held) != 1 or type(module) is not nn.Linear:
        return False
    calls = found[module][0]
    return len(calls) == 1 and calls[0].input.numel() == samples * module.in_features


def _vmap_works(network: Network, probe: Inputs, names: list[str]) -> bool:
    """Tries the smallest parameter on one sample; the rules that it needs are those of all."""
    name = min(names, key=lambda name: network.trained[name].numel())
    try:
        vmap_rows(network, take(probe, slice(0, 2)), [name], 1)
    except InputError:
        raise
    except Exception:  # torch.func has no one type for what it cannot do
        return False
    return True


def forward_and_back(
    network: Network, ways: Ways, inputs: Inputs, names: list[str]
) -> dict[nn.Module, tuple[list[Call], list[Tensor]]]:
    """For each layer that holds one of the parameters, its calls and what came back to them."""
    modules = list(dict.fromkeys(m for name in names for m, _ in ways.owners[name]))
    leaves = dict(network.trained)
    leaves |= {name: leaves[name].detach().requires_grad_() for name in names}
    for clone in (False, True):
        with captured(modules, clone=clone) as calls:
            outputs = network.rows(leaves, inputs)
        if not overwritten(calls, clone=clone):
            break
    for module, found in calls.items():
        expected = ways.rows.get(module)
        if expected and [_row_shape(call, len(outputs)) for call in found] != expected:
            raise ValueError("a layer is called otherwise than for the first samples")
    flat = [call for found in calls.values() for call in found]
    if not flat or not outputs.requires_grad:
        return {module: ([], []) for module in modules}
    grads = iter(output_gradients(outputs, flat))
    return {module: (found, [next(grads) for _ in found]) for module, found in calls.items()}


def _row_shape(call: Call, samples: int) -> tuple[int, ...]:
    """Rows of a sample in the output of a layer, and the shape of one."""
    return (call.output_shape[0] // samples, *call.output_shape[1:])


def closed_columns(
    network: Network,
    ways: Ways,
    found: dict[nn.Module, tuple[list[Call], list[Tensor]]],
    part: Part,
    samples: int,
) -> Tensor | None:
    """samples × k × columns of a part; None if no layer used the parameter."""
    parameter = network.trained[part.name]
    inner = parameter[0].numel() if parameter.dim() else 1
    lo, hi = part.first // inner, part.end // inner
    total: Tensor | None = None
    for module, role in ways.owners[part.name]:
        for call, grads in zip(*found[module], strict=True):
            # grads: samples × k × m × …; layers without further positions see m = 1
            try:
                rows = contribution(call, grads, role, lo, hi)
                rows = rows.reshape(samples, -1, part.columns)
            except (RuntimeError, ValueError, IndexError) as error:
                raise DoesNotApply([part.name], str(error)) from error
            total = rows if total is None else total + rows
    return total


def _split(network: Network, ways: Ways, name: str, kind: str, columns: int) -> list[Part]:
    """Parts of at most `columns` columns, where the way of the parameter allows it."""
    parameter = network.trained[name]
    size, step = parameter.numel(), columns
    if kind == "closed":
        held = ways.owners[name]
        sliced = all(
            type(m) in SLICED and role == "weight" and getattr(m, "groups", 1) == 1
            for m, role in held
        )
        inner = parameter[0].numel() if parameter.dim() else 1
        step = max(1, columns // inner) * inner if sliced else size
    step = max(1, step)
    return [Part(name, a, min(a + step, size), kind) for a in range(0, size, step)]


def groups(network: Network, ways: Ways, columns: int, names: Sequence[str]) -> list[list[Part]]:
    """The columns of the named parameters in groups of one kind, at most `columns` in each.

    A group is larger only where a single parameter cannot be split.
    """
    made: list[list[Part]] = []
    for kind in ("closed", "vmap", "loop"):
        width = columns + 1
        for name in names:
            if ways.kinds[name] != kind:
                continue
            for part in _split(network, ways, name, kind, columns):
                if width + part.columns > columns:
                    made.append([])
                    width = 0
                made[-1].append(part)
                width += part.columns
    return made


def fill(
    network: Network,
    ways: Ways,
    inputs: Inputs,
    parts: list[Part],
    out: Sequence[Tensor],
    *,
    work_bytes: int,
    chunk_size: int | None = None,
) -> None:
    """Writes the columns of the parts; `out` has a tensor n × k × columns for each of them."""
    kind = parts[0].kind
    size = chunk_size or _chunk(network, ways, parts, work_bytes)
    n = sample_count(inputs)
    with network.calm():
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            chunk = take(inputs, rows)
            if kind == "closed":
                try:
                    _fill_closed(network, ways, chunk, parts, [o[rows] for o in out])
                    continue
                except (DoesNotApply, ValueError, RuntimeError):
                    pass  # the general way takes every sample as it is
            _fill_general(network, chunk, parts, [o[rows] for o in out], kind, work_bytes)


def _chunk(network: Network, ways: Ways, parts: list[Part], work_bytes: int) -> int:
    """Samples at a time so that what autograd and the layers keep stays within the bytes."""
    item = torch.empty(0, dtype=network.dtype).element_size()
    sizes = {part.name: network.trained[part.name].numel() for part in parts}
    k = ways.output_count
    if parts[0].kind == "closed":
        # Gradients of layer outputs are kept for all outputs, other activations once; patches of
        # convolutions are about ten times their input.
        largest = max(part.columns for part in parts)
        each = ways.activation_bytes * (3 + k) + k * largest * item
    else:
        each = k * (2 * ways.activation_bytes + 2 * sum(sizes.values()) * item)
    return max(1, min(1024, work_bytes // max(1, each)))


def _fill_closed(
    network: Network, ways: Ways, chunk: Inputs, parts: list[Part], out: list[Tensor]
) -> None:
    names = list(dict.fromkeys(part.name for part in parts))
    found = forward_and_back(network, ways, chunk, names)
    samples = sample_count(chunk)
    for part, target in zip(parts, out, strict=True):
        rows = closed_columns(network, ways, found, part, samples)
        if rows is None:
            target.zero_()
        else:
            target.copy_(rows)


def _fill_general(
    network: Network,
    chunk: Inputs,
    parts: list[Part],
    out: list[Tensor],
    kind: str,
    work_bytes: int,
) -> None:
    names = list(dict.fromkeys(part.name for part in parts))
    if kind == "loop":
        rows = loop_rows(network, chunk, names)
    else:
        item = torch.empty(0, dtype=network.dtype).element_size()
        each = item * sum(network.trained[name].numel() for name in names) * sample_count(chunk)
        at_once = max(1, work_bytes // max(1, each))
        try:
            rows = vmap_rows(network, chunk, names, at_once)
        except InputError:
            raise
        except Exception:  # control flow that only some samples take
            rows = loop_rows(network, chunk, names)
    for part, target in zip(parts, out, strict=True):
        target.copy_(rows[part.name][..., part.first : part.end])
