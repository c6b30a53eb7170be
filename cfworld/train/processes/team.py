"""The processes that train a stage together, as the stage and the loop see them.

Each process has as many rows of a step's batch. It draws what the whole batch needs from the step's one generator and
keeps its own rows, so that no draw depends on how many processes there are. Its losses are scaled so that their mean
over the processes is the loss of the whole batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cfworld.train.optim import clip_gradients

__all__ = ["ALONE", "Alone", "Team"]

Rows = TypeVar("Rows")


@runtime_checkable
class Team(Protocol):
    """One or several processes.

    Attributes:
        size: How many there are.
        leads: Whether this is the one that logs and writes.
    """

    size: int
    leads: bool

    def own(self, rows: Rows, groups: int = 1) -> Rows:
        """This process's rows of a tensor, an array or a list that has those of the whole batch.

        Args:
            rows: Anything with rows first.
            groups: How many times the batch stands in it, one after the other (tensors only).
        """
        ...

    def total(self, count: int) -> int:
        """Sum of a count over the processes."""
        ...

    def take(self, rows: Tensor, index: Tensor) -> Tensor:
        """Rows of what all processes have, one after the other; they may have different numbers of rows.

        Args:
            rows: This process's, [m, ...].
            index: Numbers of rows, the same in every process, 0 to `total(m)` - 1.
        """
        ...

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the processes, without a gradient."""
        ...

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes, without a gradient."""
        ...

    def mean_of_all(self, values: Tensor) -> Tensor:
        """Mean of all elements of all processes, which may have different numbers of them, without a gradient."""
        ...

    def channel_std(self, values: Float[Tensor, "B C h w"]) -> Float[Tensor, "1 C 1 1"]:
        """Standard deviation of each channel over the whole batch, without a gradient."""
        ...

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        ...

    def by_rows(self, value: Tensor, axis: int = 0) -> Tensor:
        """Mark a part of a stage's state that has this process's rows on an axis, so that all rows are saved."""
        ...

    def own_rows(self, value: Tensor, axis: int = 0) -> Tensor:
        """This process's rows of what `by_rows` marked when it was saved, by however many processes."""
        ...

    def room(self, shape: Sequence[int], dtype: torch.dtype, axis: int) -> Tensor:
        """An empty tensor of which this process has its part on an axis."""
        ...

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Load whole or sharded weights into a module."""
        ...

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """State of an optimiser, with marks where it is that of parts."""
        ...

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Restore what `optimizer_state` returned, in however many processes."""
        ...

    def wait(self) -> None:
        """Wait for the others."""
        ...

    def leader_first(self) -> AbstractContextManager[None]:
        """A context whose block the leader runs while the others wait; then they run it."""
        ...

    def agree(self, precision: str, *, shard: bool) -> None:
        """Say how networks are shared out from now on.

        Args:
            precision: "bf16" if they compute in bfloat16, else "fp32".
            shard: Whether each process keeps a part of a transformer's weights, or all of them.
        """
        ...

    def shard(self, module: nn.Module, *, shown: bool = False) -> None:
        """Share the weights of a module out between the processes, in place, if that was agreed on.

        Args:
            module: A network.
            shown: Whether `whole` will be asked for it.
        """
        ...

    def whole(self, module: nn.Module, device: torch.device) -> AbstractContextManager[nn.Module]:
        """A context with a network as one process has it; only the leader may use it."""
        ...

    def part(self, parameter: nn.Parameter) -> nn.Parameter:
        """What this process keeps of a parameter: what an optimiser that works by elements moves."""
        ...

    def on_whole(self, function: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
        """Apply a function of a whole matrix, and keep of its result what this process has of the matrix."""
        ...

    def clip(self, parameters: list[nn.Parameter], limit: float, device: torch.device) -> Tensor:
        """Average gradients over the processes and scale them down to a norm; see `clip_gradients`."""
        ...


class Alone:
    """The only process."""

    size = 1
    leads = True

    def own(self, rows: Rows, groups: int = 1) -> Rows:
        """All of them."""
        del groups
        return rows

    def total(self, count: int) -> int:
        """The count."""
        return count

    def take(self, rows: Tensor, index: Tensor) -> Tensor:
        """The rows."""
        return rows[index]

    def sum(self, value: Tensor) -> Tensor:
        """The value."""
        return value.detach()

    def mean(self, value: Tensor) -> Tensor:
        """The value."""
        return value.detach()

    def mean_of_all(self, values: Tensor) -> Tensor:
        """Their mean."""
        return values.detach().mean()

    def channel_std(self, values: Float[Tensor, "B C h w"]) -> Float[Tensor, "1 C 1 1"]:
        """That of the rows."""
        return values.detach().std(dim=(0, 2, 3), keepdim=True)

    def any(self, flag: bool) -> bool:
        """The flag."""
        return flag

    def by_rows(self, value: Tensor, axis: int = 0) -> Tensor:
        """The value."""
        del axis
        return value

    def own_rows(self, value: Tensor, axis: int = 0) -> Tensor:
        """The value."""
        del axis
        return value

    def room(self, shape: Sequence[int], dtype: torch.dtype, axis: int) -> Tensor:
        """All of it."""
        del axis
        return torch.empty(shape, dtype=dtype)

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Load them."""
        module.load_state_dict(state)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Its state."""
        return optimizer.state_dict()

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Restore it."""
        optimizer.load_state_dict(dict(state))

    def wait(self) -> None:
        """There is nobody to wait for."""

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the block."""
        yield

    def agree(self, precision: str, *, shard: bool) -> None:
        """There is nobody to agree with."""
        del precision, shard

    def shard(self, module: nn.Module, *, shown: bool = False) -> None:
        """Keep it whole."""
        del module, shown

    @contextmanager
    def whole(self, module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
        """The module."""
        del device
        yield module

    def part(self, parameter: nn.Parameter) -> nn.Parameter:
        """All of it."""
        return parameter

    def on_whole(self, function: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
        """Apply it."""
        return function(matrix)

    def clip(self, parameters: list[nn.Parameter], limit: float, device: torch.device) -> Tensor:
        """Clip them."""
        return clip_gradients(parameters, limit, device)


ALONE = Alone()
"""The team of a run in one process."""
