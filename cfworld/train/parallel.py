"""Training by several processes: the standard launchers start them, each takes its rows, and all share the weights.

What is sharded, and how, is said here with PyTorch's FSDP2: the matrices of the transformer's blocks, which are nearly
all of a large model. Everything else stays whole in every process, and its gradients are averaged. docs/adr/0013 says
why.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed import tensor as distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from cfworld.model import Transformer
from cfworld.model.attention import CrossAttention
from cfworld.train.launch import connect

__all__ = ["Processes"]

Rows = TypeVar("Rows")

PATIENCE = timedelta(days=7)
"""How long processes wait while the leader encodes a dataset, draws a sheet or exports."""


class Processes:
    """This process and the others that a launcher started; see `Team`.

    Args:
        device: "cpu", or "cuda" for the GPU of this process's number on its machine.

    Raises:
        ConfigError: If one GPU is asked for by number, or there are fewer GPUs than processes on this machine.
        MissingDependencyError: If Accelerate is not installed.
    """

    def __init__(self, device: str) -> None:
        self.device = connect(device)
        self.size, self.rank = dist.get_world_size(), dist.get_rank()
        self.leads = self.rank == 0
        # Blocks return keys and values as views, which FSDP2 warns of; nobody writes into them.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        self.mesh: DeviceMesh = init_device_mesh(self.device.type, (self.size,))
        self._waiting: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._parts: dict[nn.Parameter, nn.Parameter] = {}
        self._shells: dict[nn.Module, nn.Module] = {}
        self._policy: MixedPrecisionPolicy | None = None
        """What is computed in where weights are shared out; None where they are not."""

    def own(self, rows: Rows, groups: int = 1) -> Rows:
        """The rows from rank * B / size on, of each group."""
        if isinstance(rows, Tensor) and groups > 1:
            grouped: Any = self.own_rows(rows.unflatten(0, (groups, -1)), 1)
            return grouped.flatten(0, 1)
        listed: Any = rows
        count = len(listed) // self.size
        return listed[self.rank * count : (self.rank + 1) * count]

    def total(self, count: int) -> int:
        """Their sum."""
        return int(self.sum(torch.tensor(count, device=self.device)))

    def take(self, rows: Tensor, index: Tensor) -> Tensor:
        """Everybody puts in the rows that it has, and zeros for the others."""
        counts = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        counts[self.rank] = len(rows)
        dist.all_reduce(counts)
        place = index - counts[: self.rank].sum()
        mine = ((place >= 0) & (place < len(rows))).nonzero()[:, 0]
        taken = torch.zeros(len(index), *rows.shape[1:], dtype=rows.dtype, device=rows.device)
        taken[mine] = rows[place[mine]]
        dist.all_reduce(taken)
        return taken

    def sum(self, value: Tensor) -> Tensor:
        """Their sum."""
        value = value.detach().clone()
        dist.all_reduce(value)
        return value

    def mean(self, value: Tensor) -> Tensor:
        """Their mean."""
        return self.sum(value) / self.size

    def mean_of_all(self, values: Tensor) -> Tensor:
        """Sum by number."""
        return self.sum(values.sum()) / self.sum(torch.tensor(values.numel(), device=self.device))

    def channel_std(self, values: Float[Tensor, "B C h w"]) -> Float[Tensor, "1 C 1 1"]:
        """From the squared distances to the mean of all rows."""
        axes, count = (0, 2, 3), self.size * values[:, 0].numel()
        mean = self.sum(values.sum(dim=axes, keepdim=True)) / count
        squares = self.sum((values - mean).square().sum(dim=axes, keepdim=True))
        return (squares / (count - 1)).sqrt()

    def any(self, flag: bool) -> bool:
        """Whether any says so."""
        return self.total(int(flag)) > 0

    def by_rows(self, value: Tensor, axis: int = 0) -> Tensor:
        """A tensor of which this process has a part."""
        return DTensor.from_local(value, self.mesh, [Shard(axis)])

    def own_rows(self, value: Tensor, axis: int = 0) -> Tensor:
        """The part that is here already, or is cut out."""
        if isinstance(value, DTensor):
            return value.to_local()
        count = value.shape[axis] // self.size
        return value.narrow(axis, self.rank * count, count)

    def room(self, shape: Sequence[int], dtype: torch.dtype, axis: int) -> Tensor:
        """A part on this process's device."""
        return distributed.empty(*shape, dtype=dtype, device_mesh=self.mesh, placements=[Shard(axis)])

    def load(self, module: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Cut whole weights to what this process keeps of them."""
        now = module.state_dict()
        module.load_state_dict({name: _shard_like(now.get(name), value) for name, value in state.items()})

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """Its state, in which what belongs to a part of a parameter is marked as such."""

        def marked(parameter: nn.Parameter, value: Any) -> Any:
            if not isinstance(parameter, DTensor) or isinstance(value, DTensor) or value.ndim == 0:
                return value
            shape, stride = parameter.shape, parameter.stride()
            return DTensor.from_local(value, self.mesh, parameter.placements, shape=shape, stride=stride)

        state = optimizer.state_dict()
        return {**state, "state": self._by_parameter(optimizer, state, marked)}

    def load_optimizer(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Cut a whole state to what this process keeps of each parameter."""

        def cut(parameter: nn.Parameter, value: Any) -> Any:
            if value.ndim == 0:
                return value
            value = _shard_like(parameter, value)
            return _local(value) if parameter in self._parts else value

        optimizer.load_state_dict({**state, "state": self._by_parameter(optimizer, state, cut)})

    def _by_parameter(
        self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any], change: Callable[[nn.Parameter, Any], Any]
    ) -> dict[int, Any]:
        """What an optimiser keeps by its parameters' numbers, each value changed with a look at the parameter."""
        owners = {part: parameter for parameter, part in self._parts.items()}
        moved: list[nn.Parameter] = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        whose: list[Any] = [owners.get(part, part) for part in moved]
        return {
            number: {name: change(whose[number], value) for name, value in kept.items()}
            for number, kept in state["state"].items()
        }

    def wait(self) -> None:
        """Wait as long as the leader's work may take."""
        dist.barrier(self._waiting)

    def leave(self) -> None:
        """Part from the others, when all have come to the end."""
        self.wait()
        dist.destroy_process_group()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The others enter when the leader has left."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def agree(self, precision: str, *, shard: bool) -> None:
        """What is kept, and the sums of the gradients, are float32 whatever is computed in."""
        narrow = torch.bfloat16 if precision == "bf16" else None
        policy = MixedPrecisionPolicy(param_dtype=narrow, reduce_dtype=torch.float32, cast_forward_inputs=False)
        self._policy = policy if shard else None

    def shard(self, module: nn.Module, *, shown: bool = False) -> None:
        """FSDP2 over the matrices of the blocks of each transformer in the module; a block is gathered at a time.

        Those that make keys and values of prompts run before the blocks do, and are gathered by themselves.
        """
        if self._policy is None:
            return
        if shown:
            self._shells[module] = copy.deepcopy(module).cpu() if self.leads else nn.Module()
        for transformer in [part for part in module.modules() if isinstance(part, Transformer)]:
            layers = [layer for layer in transformer.blocks.modules() if isinstance(layer, nn.Linear)]
            matrices = {layer.weight for layer in layers}
            whole = {parameter for parameter in transformer.parameters() if parameter not in matrices}
            how = {"mesh": self.mesh, "mp_policy": self._policy, "ignored_params": whole}
            for cross in [part for part in transformer.blocks.modules() if isinstance(part, CrossAttention)]:
                fully_shard([cross.k, cross.v], **how)
            for part in (*transformer.blocks, transformer):
                fully_shard(part, **how)
            register_fsdp_forward_method(transformer, "embed_prompts")

    @contextmanager
    def whole(self, module: nn.Module, device: torch.device) -> Iterator[nn.Module]:
        """Gather the weights, one after the other, in the leader's copy; the others wait until it is done with it."""
        if module not in self._shells:
            yield module
            self.wait()
            return
        shell, state = self._shells[module], {}
        for name, value in module.state_dict().items():
            full = value.full_tensor() if isinstance(value, DTensor) else value
            if self.leads:
                state[name] = full.cpu()
        if self.leads:
            shell.load_state_dict(state)
        yield shell.to(device)
        shell.cpu()
        self.wait()

    def part(self, parameter: nn.Parameter) -> nn.Parameter:
        """The part of a sharded parameter as a plain one that shares its memory, so that all kinds go together."""
        if not isinstance(parameter, DTensor):
            return parameter
        if parameter not in self._parts:
            self._parts[parameter] = nn.Parameter(parameter.to_local().detach())
        return self._parts[parameter]

    def on_whole(self, function: Callable[[Tensor], Tensor], matrix: Tensor) -> Tensor:
        """Gather the matrix once; every process computes the same."""
        if not isinstance(matrix, DTensor):
            return function(matrix)
        return _shard_like(matrix, function(matrix.full_tensor()))

    def clip(self, parameters: list[nn.Parameter], limit: float, device: torch.device) -> Tensor:
        """Average what is whole (FSDP2 has averaged the rest), and scale all by the norm over all."""
        found = [parameter.grad for parameter in parameters if parameter.grad is not None]
        shards = [_local(grad) for grad in found if isinstance(grad, DTensor)]
        wholes = [grad for grad in found if not isinstance(grad, DTensor)]
        self._average(wholes)
        square = torch.zeros((), device=device)
        for grad in shards:
            square += grad.square().sum()
        dist.all_reduce(square)
        for grad in wholes:
            square += grad.square().sum()
        norm = square.sqrt()
        if limit:
            scale = (limit / (norm + 1e-6)).clamp(max=1.0)
            for grad in (*shards, *wholes):
                grad.mul_(scale)
        for parameter, part in self._parts.items():
            part.grad = None if parameter.grad is None else _local(parameter.grad)
        return norm

    def _average(self, gradients: list[Tensor]) -> None:
        """One exchange for all."""
        if gradients:
            flat = torch.cat([grad.flatten() for grad in gradients])
            dist.all_reduce(flat)
            flat /= self.size
            for grad, mean in zip(gradients, flat.split([grad.numel() for grad in gradients]), strict=True):
                grad.copy_(mean.view_as(grad))


def _shard_like(like: Tensor | None, value: Tensor) -> Tensor:
    """A tensor as this process keeps another one: its part if that is sharded, else all of it."""
    if isinstance(like, DTensor) == isinstance(value, DTensor):
        return value
    if isinstance(value, DTensor):
        return value.full_tensor()
    assert isinstance(like, DTensor)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _local(tensor: Tensor) -> Tensor:
    assert isinstance(tensor, DTensor)
    return tensor.to_local()
