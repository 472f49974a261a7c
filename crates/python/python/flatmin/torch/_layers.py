"""Closed forms: rows of the Jacobian from what goes into a layer and what comes back to its output.

For a layer that is linear in its parameters, the derivative of an output f_a(x_i) with respect to
them is a product of two things that one forward pass and k backward passes of a whole batch give:
the input of the layer for sample i, and the derivative of f_a(x_i) in the output of the layer. That
saves the loop over samples. Whether a form applies to a parameter is not decided here but tried:
see :func:`flatmin.torch._blocks.classify`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge


class DoesNotApply(Exception):
    """A closed form cannot be used for a parameter; its derivative is taken in another way."""

    def __init__(self, names: list[str], why: str) -> None:
        super().__init__(f"{', '.join(names)}: {why}")
        self.names = names


@dataclass
class Call:
    """One call of a layer: its input, and the place of its output in the graph."""

    module: nn.Module
    input: Tensor
    version: int
    edge: GradientEdge
    output_shape: torch.Size
    state: tuple[Tensor, ...] = ()  # running statistics, as they were used
    cache: dict[str, Tensor] = field(default_factory=dict)


def _positions(tensor: Tensor, samples: int) -> Tensor:
    """(samples·m) × … as samples × m × …, for layers that see several rows of each sample."""
    if tensor.shape[0] % samples:
        raise ValueError("rows are not those of the samples")
    return tensor.reshape(samples, tensor.shape[0] // samples, *tensor.shape[1:])


def _linear(call: Call, grads: Tensor, role: str, lo: int, hi: int) -> Tensor:
    n, k = grads.shape[:2]
    g = grads[..., lo:hi].reshape(n, k, -1, hi - lo)  # n × k × T × out
    if role == "bias":
        return g.sum(dim=2)
    x = call.input.reshape(n, -1, call.input.shape[-1])  # n × T × in
    t = g.shape[2]
    g = g.transpose(2, 3).reshape(n, k * (hi - lo), t)
    return torch.bmm(g, x).reshape(n, k, -1)


def _patches(call: Call, n: int) -> Tensor:
    """n × groups × (channels of a group · kernel) × T of a convolution."""
    if "patches" in call.cache:
        return call.cache["patches"]
    module, x = call.module, call.input
    one_dimensional = isinstance(module, nn.Conv1d)
    if module.padding_mode != "zeros":
        mode = module.padding_mode
        x = F.pad(x, module._reversed_padding_repeated_twice, mode=mode)
        padding: tuple[int, ...] = (0,) * len(module.kernel_size)
    elif module.padding == "same":
        x = F.pad(x, module._reversed_padding_repeated_twice)
        padding = (0,) * len(module.kernel_size)
    else:
        padding = (0,) * len(module.kernel_size) if module.padding == "valid" else module.padding
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if one_dimensional:
        x = x.unsqueeze(2)
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
        padding = (0, *padding)
    if all(v == 1 for v in kernel) and not any(padding) and all(v == 1 for v in stride):
        columns = x.flatten(2)
    else:
        columns = F.unfold(x, kernel, dilation=dilation, padding=padding, stride=stride)
    rows, width, t = columns.shape
    columns = columns.reshape(rows, module.groups, width // module.groups, t)
    if rows != n:  # several images of each sample: positions of one long image
        columns = columns.reshape(n, rows // n, *columns.shape[1:]).movedim(1, 3).flatten(3)
    call.cache["patches"] = columns
    return columns


def _convolution(call: Call, grads: Tensor, role: str, lo: int, hi: int) -> Tensor:
    n, k = grads.shape[:2]
    one = call.output_shape[1:]  # channels, positions…
    g = grads.reshape(n, k, -1, one[0], one[1:].numel())  # n × k × m × channels × T
    g = g[:, :, :, lo:hi]
    if role == "bias":
        return g.sum(dim=(2, 4))
    g = g.movedim(2, 3).flatten(3)  # n × k × channels × mT
    patches = _patches(call, n)
    groups = call.module.groups
    if groups == 1:
        t = g.shape[-1]
        product = torch.bmm(g.reshape(n, -1, t), patches[:, 0].transpose(1, 2))
        return product.reshape(n, k, -1)
    if (lo, hi) != (0, one[0]):
        raise ValueError("the channels of several groups are taken together")
    g = g.reshape(n, k, groups, -1, g.shape[-1])
    return torch.einsum("nkgct,ngwt->nkgcw", g, patches).reshape(n, k, -1)


def _embedding(call: Call, grads: Tensor, role: str, lo: int, hi: int) -> Tensor:
    n, k = grads.shape[:2]
    width = grads.shape[-1]
    g = grads.reshape(n, k, -1, width)
    tokens = call.input.reshape(n, -1)
    padding = call.module.padding_idx
    kept = (tokens >= lo) & (tokens < hi)
    if padding is not None:  # PyTorch gives this row no gradient
        kept &= tokens != padding
    rows = g.new_zeros(n, k, hi - lo, width)
    index = torch.where(kept, tokens - lo, 0)[:, None, :, None].expand_as(g)
    rows.scatter_add_(2, index, g * kept[:, None, :, None])
    return rows.reshape(n, k, -1)


def _layer_norm(call: Call, grads: Tensor, role: str, lo: int, hi: int) -> Tensor:
    n, k = grads.shape[:2]
    shape = call.module.normalized_shape
    g = grads.reshape(n, k, -1, *shape)
    if role == "weight":
        if isinstance(call.module, nn.LayerNorm):
            normal = F.layer_norm(call.input, shape, eps=call.module.eps)
        else:
            normal = F.rms_norm(call.input, shape, eps=call.module.eps)
        g = g * normal.reshape(n, 1, -1, *shape)
    return g.sum(dim=2).reshape(n, k, -1)


def _channel_norm(call: Call, grads: Tensor, role: str, lo: int, hi: int) -> Tensor:
    """Group normalisation, and batch normalisation with fixed statistics."""
    n, k = grads.shape[:2]
    channels = call.output_shape[1]
    g = grads.reshape(n, k, -1, channels, call.output_shape[2:].numel())
    if role == "weight":
        if isinstance(call.module, nn.GroupNorm):
            normal = F.group_norm(call.input, call.module.num_groups, eps=call.module.eps)
        else:
            mean, var = call.state
            shape = (1, channels) + (1,) * (call.input.dim() - 2)
            normal = (call.input - mean.view(shape)) / (var + call.module.eps).sqrt().view(shape)
        g = g * normal.reshape(n, 1, *g.shape[2:])
    return g.sum(dim=(2, 4))


FORMS: dict[type[nn.Module], Callable[[Call, Tensor, str, int, int], Tensor]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.GroupNorm: _channel_norm,
    nn.BatchNorm1d: _channel_norm,
    nn.BatchNorm2d: _channel_norm,
    nn.BatchNorm3d: _channel_norm,
}
SLICED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
"""Layers whose weight can be done a few output rows at a time."""


def owners(model: nn.Module, names: list[str]) -> dict[str, list[tuple[nn.Module, str]]]:
    """For each parameter, the layers with a closed form that hold it, and its role in them.

    Parameters with an owner that has no form are left out.
    """
    parameters = dict(model.named_parameters())
    found: dict[str, list[tuple[nn.Module, str]]] = {}
    for name in names:
        held = [
            (module, role)
            for module in model.modules()
            for role, p in module._parameters.items()
            if p is parameters[name]
        ]
        if all(type(module) in FORMS and _plain(module) for module, _ in held):
            found[name] = held
    return found


def _plain(module: nn.Module) -> bool:
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.scale_grad_by_freq and not module.sparse
    return True


@contextlib.contextmanager
def captured(modules: list[nn.Module], *, clone: bool) -> Iterator[dict[nn.Module, list[Call]]]:
    """Records the calls of the modules during the forward pass inside of the context."""
    calls: dict[nn.Module, list[Call]] = {module: [] for module in modules}

    def hook(module: nn.Module, args: tuple, kwargs: dict[str, Any], result: Any) -> None:
        given = args[0] if args else next(iter(kwargs.values()), None)
        if not isinstance(given, Tensor) or not isinstance(result, Tensor):
            return
        if not result.requires_grad:
            return
        state: tuple[Tensor, ...] = ()
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            state = (module.running_mean, module.running_var)
        kept = given.detach().clone() if clone else given.detach()
        calls[module].append(
            Call(module, kept, given._version, get_gradient_edge(result), result.shape, state)
        )
        calls[module][-1].cache["given"] = given

    handles = [m.register_forward_hook(hook, with_kwargs=True) for m in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def overwritten(calls: dict[nn.Module, list[Call]], *, clone: bool) -> bool:
    """True if the model changed the input of a layer in place after the call."""
    found = False
    for call in (call for found_calls in calls.values() for call in found_calls):
        given = call.cache.pop("given")
        found |= not clone and given._version != call.version
    return found


def contribution(call: Call, grads: Tensor, role: str, lo: int, hi: int) -> Tensor:
    """samples × k × columns that one call adds to rows lo … hi of a parameter.

    ``grads`` is samples × k × (shape of the layer's output for all rows of a sample).
    """
    return FORMS[type(call.module)](call, grads, role, lo, hi)


def output_gradients(outputs: Tensor, calls: list[Call]) -> list[Tensor]:
    """For each call, samples × k × m × … derivatives of the outputs in what the layer returned.

    ``outputs`` is samples × k. One backward pass for each of the k outputs gives those of all
    samples, because the outputs of a sample do not depend on other samples.
    """
    n, k = outputs.shape
    kept: list[Tensor] = []
    for call in calls:
        if call.output_shape[0] % n:
            raise ValueError("rows are not those of the samples")
        m = call.output_shape[0] // n
        kept.append(outputs.new_zeros(n, k, m, *call.output_shape[1:]))
    edges = [call.edge for call in calls]
    for a in range(k):
        grads = torch.autograd.grad(
            outputs[:, a].sum(), edges, retain_graph=a + 1 < k, allow_unused=True
        )
        for target, grad in zip(kept, grads, strict=True):
            if grad is not None:
                target[:, a] = _positions(grad, n)
    return kept
