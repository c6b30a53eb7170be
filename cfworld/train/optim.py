"""Optimisers and the learning-rate schedule."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfworld.errors import ConfigError
from cfworld.train.muon import Muon, OnWhole

__all__ = ["Role", "build_optimizers", "clip_gradients", "learning_rate", "split_parameters"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A part of a stage's module that learns at a pace of its own: a student, its critic.

    Attributes:
        module: The part; its parameters with `requires_grad` are trained.
        lr_ratio: Its learning rate as a share of the loop's.
        betas: AdamW's decay rates; None for the loop's.
    """

    module: nn.Module
    lr_ratio: float = 1.0
    betas: tuple[float, float] | None = None


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Sort the trained parameters of a module by how they are optimised.

    Returns:
        Matrices: weights of hidden `nn.Linear` layers that are no output layer, for Muon.
        Decayed: all other weights with two axes or more (convolutions, embeddings, outputs).
        Plain: biases, gains and other vectors, without weight decay.
    """
    hidden = {
        layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and min(layer.weight.shape) > 1 and not _is_end(name)
    }
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter in hidden]
    decayed = [parameter for parameter in trained if parameter.ndim > 1 and parameter not in hidden]
    plain = [parameter for parameter in trained if parameter.ndim <= 1]
    return matrices, decayed, plain


def _is_end(name: str) -> bool:
    """Tell embeddings and output layers, which Muon does not suit, by the usual names."""
    parts = name.split(".")
    return any(part.startswith(("embed", "patch", "head", "out_head", "unembed")) for part in parts)


def build_optimizers(
    module: nn.Module,
    *,
    name: str,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
    part: Callable[[nn.Parameter], nn.Parameter] = lambda parameter: parameter,
    on_whole: OnWhole = lambda function, matrix: function(matrix),
) -> list[torch.optim.Optimizer]:
    """Build the optimisers of a module.

    Args:
        module: Its parameters with `requires_grad` are optimised.
        name: "adamw", or "muon": Muon for hidden matrices and AdamW for the rest.
        lr: Peak learning rate; Muon's update is scaled to AdamW's size, so that both share it.
        betas: AdamW's decay rates.
        weight_decay: Decoupled decay of everything but vectors.
        part: What AdamW moves of a parameter that is shared out between processes.
        on_whole: Applies a function of a whole matrix to one that is shared out, for Muon.

    Returns:
        One optimiser, or Muon and AdamW.

    Raises:
        ConfigError: If nothing is to be trained, or the name is unknown.
    """
    matrices, decayed, plain = split_parameters(module)
    if not matrices and not decayed and not plain:
        raise ConfigError("got a module without trained parameters; set requires_grad on what shall be trained.")
    if name == "adamw":
        return [_adamw(map(part, [*matrices, *decayed]), map(part, plain), lr, betas, weight_decay)]
    if name != "muon":
        raise ConfigError(f"got optimizer {name!r}; expected 'adamw' or 'muon'.")
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, lr=lr, weight_decay=weight_decay, on_whole=on_whole))
    if decayed or plain:
        optimizers.append(_adamw(map(part, decayed), map(part, plain), lr, betas, weight_decay))
    return optimizers


def _adamw(
    decayed: Iterable[nn.Parameter],
    plain: Iterable[nn.Parameter],
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> torch.optim.AdamW:
    groups = [
        {"params": list(decayed), "weight_decay": weight_decay},
        {"params": list(plain), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, device: torch.device) -> Tensor:
    """Scale gradients down to a norm, together.

    Args:
        parameters: Those without a gradient are left out.
        limit: Largest norm; 0 leaves the gradients as they are.
        device: Where the norm is wanted. PyTorch's own is on the CPU if there is no gradient at all.

    Returns:
        The norm before, a scalar on `device`; 0 if there is no gradient.
    """
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    if not with_gradient:
        return torch.zeros((), device=device)
    return nn.utils.clip_grad_norm_(with_gradient, limit or math.inf).to(device)


def learning_rate(step: int, *, steps: int, peak: float, warmup: int, schedule: str, final_ratio: float) -> float:
    """Return the learning rate of a step.

    Args:
        step: Number of the step; the first is 0.
        steps: Steps of the entire run.
        peak: Learning rate after the warm-up.
        warmup: Steps of linear growth from peak / warmup.
        schedule: "cosine" (from `peak` to `final_ratio` * `peak` at the last step) or "constant".
        final_ratio: Where the cosine ends, as a share of the peak.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "constant":
        return peak
    progress = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
    return peak * (final_ratio + (1.0 - final_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress)))
