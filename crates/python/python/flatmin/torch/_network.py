"""A module as a checked function of its trained parameters.

Everything of this package sees a model through :class:`Network`: which parameters are trained, what
a batch and a single sample return, and in which precision. The model itself is never changed: it is
called with copies of its parameters and buffers (``torch.func.functional_call``).
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from flatmin import InputError

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
DROPOUT = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
LOW_PRECISION = (torch.float16, torch.bfloat16)
Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of a model; every tensor in them has a row for each sample."""


class Network:
    """The outputs of a model as a function of its trained parameters.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode wherever that makes a difference (dropout, batch normalisation).
    output : callable, optional
        Picks the tensor of outputs from what the model returns.
    params : sequence of str, optional
        Names of the parameters to keep. Default: all that require a gradient.
    device : torch.device or str, optional
        Where to compute. Default: where the parameters are.
    dtype : torch.dtype, optional
        Precision to compute in. Default: that of the parameters, and float32 for half precision.

    Attributes
    ----------
    trained : dict of str to Tensor
        Detached parameters, in the order of ``model.named_parameters()``; a shared parameter occurs
        once, under its first name.
    parameter_count : int
        p, the sum of their sizes.
    notes : list of str
        What a reader should know about the reading of the model.

    Raises
    ------
    InputError
        If the samples of a batch have no outputs of their own, or if there is nothing to train.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        output: Callable[[Any], Tensor] | None = None,
        params: Sequence[str] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_type(model)
        self.model = unwrapped(model)
        check_mode(self.model)
        self.output = output
        self.notes: list[str] = []
        named = dict(self.model.named_parameters())
        chosen = _chosen(named, params)
        self.device = torch.device(device) if device is not None else _device(chosen)
        self.dtype = self._compute_dtype(chosen, dtype)
        self._cast_all = dtype is not None
        self.trained = {name: self._moved(p) for name, p in chosen.items()}
        self.fixed = {n: self._moved(p) for n, p in named.items() if n not in chosen}
        self.buffers = {n: self._moved(b) for n, b in self.model.named_buffers()}
        self.parameter_count = sum(p.numel() for p in self.trained.values())

    def _compute_dtype(
        self, chosen: dict[str, nn.Parameter], dtype: torch.dtype | None
    ) -> torch.dtype:
        for name, p in chosen.items():
            if not p.is_floating_point():
                raise InputError(f"parameter {name} is {p.dtype}, expected real floating point")
        if dtype is not None:
            if dtype not in (torch.float32, torch.float64):
                raise InputError(f"dtype is {dtype}, expected torch.float32 or torch.float64")
            return dtype
        low = sorted({str(p.dtype) for p in chosen.values() if p.dtype in LOW_PRECISION})
        if low:
            self.notes.append(
                f"the weights are {' and '.join(low)}: computed in float32 at these rounded "
                "weights (dtype=torch.float64 for more digits)"
            )
        wide = any(p.dtype == torch.float64 for p in chosen.values())
        return torch.float64 if wide else torch.float32

    def _cast(self, tensor: Tensor) -> Tensor:
        if tensor.is_floating_point() and (self._cast_all or tensor.dtype in LOW_PRECISION):
            tensor = tensor.to(self.dtype)
        tensor = tensor.to(self.device)
        return tensor.clone() if tensor.is_inference() else tensor

    def _moved(self, tensor: Tensor) -> Tensor:
        """A copy for buffers that a model might write to; values only, without a graph."""
        return self._cast(tensor.detach()).clone()

    def prepared(self, inputs: Inputs) -> Inputs:
        """The inputs on the device and in the precision of the computation."""
        return tree_map(lambda leaf: self._cast(leaf.detach()), inputs)

    def call(self, trained: dict[str, Tensor], inputs: Inputs) -> Tensor:
        """What the model returns for a batch, as the tensor of its outputs, not reshaped."""
        args, kwargs = inputs
        buffers = {name: b.clone() for name, b in self.buffers.items()}
        result = functional_call(self.model, {**self.fixed, **buffers, **trained}, args, kwargs)
        if self.output is not None:
            result = self.output(result)
        if isinstance(result, Tensor):
            return result
        raise InputError(_not_a_tensor(result))

    def rows(self, trained: dict[str, Tensor], inputs: Inputs) -> Tensor:
        """Outputs of a batch, a row of k numbers for each sample."""
        result = self.call(trained, inputs)
        return result.reshape(sample_count(inputs), -1)

    def single(self, trained: dict[str, Tensor], sample: Inputs) -> Tensor:
        """The k outputs of one sample, whose tensors come without the axis of samples."""
        return self.call(trained, tree_map(lambda leaf: leaf.unsqueeze(0), sample)).reshape(-1)

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """Kernels that can be differentiated in every way, and random numbers left as they were."""
        fast_path = torch.backends.mha.get_fastpath_enabled()
        python, numpy = random.getstate(), np.random.get_state()
        devices = [self.device] if self.device.type == "cuda" else []
        recurrent = any(isinstance(m, RECURRENT) for m in self.model.modules())
        cudnn = torch.backends.cudnn.enabled and not recurrent
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            with (
                torch.random.fork_rng(devices=devices),
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.autocast(self.device.type, enabled=False),
                sdpa_kernel(SDPBackend.MATH),
                torch.backends.cudnn.flags(enabled=cudnn),
                warnings.catch_warnings(),
            ):
                warnings.filterwarnings("ignore", message="There is a performance drop")
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            random.setstate(python)
            np.random.set_state(numpy)

    def outputs(self, inputs: Inputs, *, chunk_size: int | None = None) -> Tensor:
        """Outputs of all samples in the shape of the model's result, without a graph.

        Raises
        ------
        InputError
            If the result has no row for each sample, is random, or if the outputs of a sample
            depend on the samples that it is evaluated with.
        """
        n = sample_count(inputs)
        step = chunk_size or min(n, 256)
        with self.calm(), torch.no_grad():
            parts = []
            for start in range(0, n, step):
                part = take(inputs, slice(start, start + step))
                result = self._tried(part, "for these inputs")
                self._check_rows(result, sample_count(part))
                if sample_count(part) == 1 and parts:  # a squeeze takes the axis away
                    result = result.reshape(1, *parts[0].shape[1:])
                parts.append(result)
            outputs = torch.cat(parts)
            self._check_deterministic(inputs, outputs, step)
            self._check_independent(inputs, outputs)
        bad = (~torch.isfinite(outputs.reshape(n, -1)).all(dim=1)).nonzero()
        if len(bad):
            i = int(bad[0])
            raise InputError(f"the output of sample {i} is not finite; did the training diverge?")
        return outputs

    def _tried(self, inputs: Inputs, where: str) -> Tensor:
        try:
            return self.call(self.trained, inputs)
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the model fails {where}: {error}") from error

    def _check_rows(self, result: Tensor, n: int) -> None:
        if not result.is_floating_point():
            raise InputError(f"the outputs are {result.dtype}, which has no derivative")
        if result.dim() == 0 or result.shape[0] != n:
            squeezed = n == 1 and result.numel() > 0
            if squeezed:  # a squeeze in the model removed the axis of samples
                return
            raise InputError(
                f"the model returns shape {tuple(result.shape)} for {n} samples, expected a row "
                "for each sample first; if it returns a loss, give the outputs by "
                "output=lambda result: …, if its samples are on another axis (batch_first=False), "
                "wrap it"
            )

    def _check_deterministic(self, inputs: Inputs, outputs: Tensor, step: int) -> None:
        again = self.call(self.trained, take(inputs, slice(0, step)))
        if again.shape != outputs[:step].shape or not torch.allclose(
            again, outputs[:step], rtol=self._tolerance(), atol=0.0, equal_nan=True
        ):
            raise InputError(
                "the model returns other outputs when it is called again with the same inputs: "
                "call model.eval(), and pass training=self.training to functional dropout"
            )

    def _tolerance(self) -> float:
        return 1e-8 if self.dtype == torch.float64 else 1e-3

    def _check_independent(self, inputs: Inputs, outputs: Tensor) -> None:
        """A batch of one must give the row that the sample has among others."""
        n = len(outputs)
        largest = float(outputs.abs().max()) if outputs.numel() else 0.0
        for i in sorted({0, n // 3, (2 * n) // 3, n - 1}):
            alone = take(inputs, slice(i, i + 1))
            one = self._tried(alone, "for a batch of one, but not of more").reshape(-1)
            row = outputs[i].reshape(-1)
            if one.shape != row.shape:
                raise InputError(
                    f"the model returns {one.numel()} numbers for sample {i} alone and "
                    f"{row.numel()} for it in a batch"
                )
            difference = float((one - row).abs().max()) if row.numel() else 0.0
            if difference > self._tolerance() * largest:
                raise InputError(
                    f"the outputs of sample {i} differ by {difference:.2g} between a batch of one "
                    f"and a batch of {n}: the model mixes the samples of a batch, so that a sample "
                    "has no gradient of its own (batch statistics, a contrastive loss, or samples "
                    "on another axis, as with batch_first=False)"
                )


def check_type(model: object) -> None:
    """Refuses what is no module, such as the class of one."""
    if isinstance(model, type):
        raise InputError(f"model is the class {model.__name__}, expected the trained object of it")
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}, expected a torch.nn.Module")


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``."""
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def check_mode(model: nn.Module) -> None:
    """Refuses modules that are random or mix the samples of a batch.

    Raises
    ------
    InputError
        For batch normalisation or dropout in training mode, with the name of the module.
    """
    for name, module in model.named_modules():
        where = f"the module {name} ({type(module).__name__})" if name else "the model"
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is None:
                raise InputError(
                    f"{where} has track_running_stats=False, so that it mixes the samples of a "
                    "batch in evaluation mode too; a sample has no gradient of its own"
                )
            if module.training:
                raise InputError(
                    f"{where} is in training mode, where it mixes the samples of a batch; call "
                    "model.eval() before, and model.train() after"
                )
        if module.training and _drops(module):
            raise InputError(
                f"{where} is in training mode, where it is random; call model.eval() before, and "
                "model.train() after"
            )


def _drops(module: nn.Module) -> bool:
    if isinstance(module, DROPOUT):
        return module.p > 0
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    return isinstance(module, nn.RReLU) or (
        isinstance(module, nn.MultiheadAttention) and module.dropout > 0
    )


def _chosen(named: dict[str, nn.Parameter], params: Sequence[str] | None) -> dict:
    if params is None:
        chosen = {name: p for name, p in named.items() if p.requires_grad}
    else:
        wanted = [params] if isinstance(params, str) else list(params)
        for name in wanted:
            if name not in named:
                raise InputError(f"no parameter is called {name!r}; there are {', '.join(named)}")
        chosen = {name: p for name, p in named.items() if name in wanted}
    if not chosen:
        raise InputError(
            "no parameter of the model is trained: all have requires_grad=False, or none was chosen"
        )
    for name, p in chosen.items():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise InputError(f"parameter {name} has no values yet; call the model once before")
    return chosen


def _device(chosen: dict[str, nn.Parameter]) -> torch.device:
    devices = {p.device for p in chosen.values()}
    if len(devices) > 1:
        raise InputError(
            f"the parameters are on {len(devices)} devices; give device=… to compute on one of them"
        )
    device = devices.pop()
    if device.type == "meta":
        raise InputError("the parameters are on the meta device and have no values")
    return device


def _not_a_tensor(result: Any) -> str:
    if isinstance(result, dict) or hasattr(result, "keys"):
        keys = ", ".join(map(repr, result.keys()))
        first = next(iter(result.keys()), "logits")
        return (
            f"the model returns a {type(result).__name__} with {keys}; say where the outputs are: "
            f"output=lambda result: result[{first!r}]"
        )
    if isinstance(result, (tuple, list)):
        return (
            f"the model returns {len(result)} values; say which are the outputs: "
            "output=lambda result: result[0]"
        )
    return f"the model returns a {type(result).__name__}, expected a tensor"


def sample_count(inputs: Inputs) -> int:
    """n, the number of rows of the first tensor."""
    return len(tree_leaves(inputs)[0])


def take(inputs: Any, rows: Any) -> Any:
    """Some samples of all tensors."""
    return tree_map(lambda leaf: leaf[rows], inputs)
