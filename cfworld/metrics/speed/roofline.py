"""The least time that a step can take: its arithmetic and its traffic, from the shapes alone, over a device's rates.

Counted is what no implementation of the same step can leave out: products of matrices and attention; each weight read
once a pass, the remembered keys and values once a pass; the chunk's own keys and values written once. What else the
memory holds may stay where it is, since the state before may be given away. Norms, activations, positions and noise are
not counted, so that a share of the roofline is never flattered.
"""

from dataclasses import dataclass

from cfworld.memory import MemoryConfig
from cfworld.model import TransformerConfig

__all__ = ["Rates", "Work", "needed_bytes", "pass_work", "prompt_work", "rows_bytes", "weights", "work_of_memory"]


@dataclass(frozen=True, slots=True)
class Work:
    """What a part of a step has to do.

    Attributes:
        flops: Floating-point operations, two for each product that is summed.
        bytes: Bytes read from memory and written to it.
    """

    flops: int
    bytes: int

    def __add__(self, other: "Work") -> "Work":
        """Both, one after the other."""
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def times(self, number: int) -> "Work":
        """The same, so many times over."""
        return Work(number * self.flops, number * self.bytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What a device was seen to do.

    Attributes:
        flops_per_s: Of a large product of matrices.
        bytes_per_s: Read and written by a large copy.
    """

    flops_per_s: float
    bytes_per_s: float

    def seconds(self, work: Work) -> float:
        """Least time for a piece of work: its arithmetic and its traffic may hide behind one another."""
        return max(work.flops / self.flops_per_s, work.bytes / self.bytes_per_s)


def pass_work(model: TransformerConfig, memory: MemoryConfig, rows: int, prompt_tokens: int, width: int) -> Work:
    """One pass of the transformer over a chunk whose memory is full and whose prompts' keys are at hand.

    Args:
        model: Sizes of the transformer.
        memory: Sizes of the memory.
        rows: Rows B.
        prompt_tokens: Tokens of each latent's prompt.
        width: Bytes of a number.
    """
    tokens = rows * memory.latents_per_chunk * model.tokens_per_latent
    seen = (memory.num_slots + memory.latents_per_chunk) * model.tokens_per_latent
    patch = model.in_channels * model.patch_size[0] * model.patch_size[1]
    linears = 2 * tokens * (model.depth * _block_weights(model) + 2 * patch * model.dim)
    attention = 4 * tokens * (seen + prompt_tokens) * model.dim * model.depth
    keys_and_values = 2 * rows * (seen + memory.latents_per_chunk * prompt_tokens) * model.dim * model.depth
    read = model.depth * _block_weights(model) + 2 * patch * model.dim + keys_and_values
    return Work(linears + attention, width * read)


def prompt_work(model: TransformerConfig, latents: int, prompt_tokens: int, width: int) -> Work:
    """Projecting the prompts of so many latents into the keys and values of every layer: once a chunk."""
    tokens = latents * prompt_tokens
    matrices = model.prompt_dim * model.dim + 2 * model.depth * model.dim**2
    return Work(2 * tokens * matrices, width * (matrices + tokens * (model.prompt_dim + 2 * model.depth * model.dim)))


def work_of_memory(model: TransformerConfig, memory: MemoryConfig, rows: int, width: int) -> Work:
    """Around the passes: the chunk's keys and values are written. A pass may rotate what it reads as it reads it."""
    return Work(0, _latents_bytes(model, memory.latents_per_chunk, rows, width))


def rows_bytes(model: TransformerConfig, memory: MemoryConfig, rows: int, width: int) -> int:
    """Bytes of the keys and values that a state of so many rows holds."""
    return _latents_bytes(model, memory.num_slots, rows, width)


def _latents_bytes(model: TransformerConfig, latents: int, rows: int, width: int) -> int:
    """Bytes of the keys and values of so many latents in each row."""
    return 2 * width * rows * latents * model.tokens_per_latent * model.dim * model.depth


def weights(model: TransformerConfig) -> int:
    """Weights of the transformer, to within norms, biases and modulations (less than one in a hundred)."""
    patch = model.in_channels * model.patch_size[0] * model.patch_size[1]
    time = model.freq_dim * model.dim + 7 * model.dim**2
    prompts = model.prompt_dim * model.dim + 2 * model.depth * model.dim**2
    return model.depth * _block_weights(model) + (2 + model.input_skip) * patch * model.dim + time + prompts


def needed_bytes(model: TransformerConfig, memory: MemoryConfig, rows: int, width: int) -> int:
    """Memory that steps of so many rows need at their peak, decoding aside.

    The peak is at the end of a chunk: the state before it, its rotated keys, and the state after it with what it is
    gathered from, three times the keys and values in all. Beside them lie the weights and one layer's activations.
    """
    tokens = rows * memory.latents_per_chunk * model.tokens_per_latent
    activations = width * tokens * (model.ffn_dim + 12 * model.dim)
    chunk = 2 * width * tokens * model.dim * model.depth
    return width * weights(model) + 3 * rows_bytes(model, memory, rows, width) + 2 * chunk + activations


def _block_weights(model: TransformerConfig) -> int:
    """Of the products that every token goes through in a block: q, k, v, o; the prompts' q and o; feed-forward."""
    return 6 * model.dim**2 + 2 * model.dim * model.ffn_dim
