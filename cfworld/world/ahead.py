"""Steps one ahead: the next chunk is generated while the last one is decoded."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from cfworld.world.generation import Generated
from cfworld.world.output import StepOutput, after_step
from cfworld.world.state import WorldState

__all__ = ["play"]

Decoded = tuple[Tensor | None, Mapping[str, Tensor]]
"""Frames [B, F, H, W, 3] uint8, and what a decoder that streams carries on."""


def play(
    generate: Callable[[WorldState, Any], Generated],
    decode: Callable[[Generated, WorldState], Decoded],
    state: WorldState,
    actions: Iterable[Any],
    device: torch.device,
) -> Iterator[tuple[WorldState, StepOutput]]:
    """What `World.play` does.

    Generating reads nothing that decoding writes. On a GPU a chunk is therefore decoded on a stream of its own, and the
    next one is asked for before anybody waits for its frames.

    Args:
        generate: The next chunk of a state under actions.
        decode: Decodes a chunk that follows a state.
        state: Where the rows are.
        actions: Of each step.
        device: Where it all runs.
    """
    side = torch.cuda.Stream(device) if device.type == "cuda" else None
    upcoming = iter(actions)
    last: tuple[WorldState, StepOutput] | None = None
    done: torch.cuda.Event | None = None
    while True:
        try:
            made = generate(state, next(upcoming))
            (frames, decoder), following_done = _beside(side, decode, made, state)
        except StopIteration:
            break
        except Exception:
            if last is not None:
                yield _ready(last, done, device)
            raise
        following = after_step(state, made, frames, decoder)
        if last is not None:
            yield _ready(last, done, device)
        last, done = following, following_done
        state = following[0]
    if last is not None:
        yield _ready(last, done, device)


def _beside(
    side: torch.cuda.Stream | None,
    decode: Callable[[Generated, WorldState], Decoded],
    made: Generated,
    state: WorldState,
) -> tuple[Decoded, torch.cuda.Event | None]:
    """Decode on a stream, once what it reads is there; and what says that it is done.

    What it reads may be let go of before it has read it, the first state's decoder too: no stream takes such room anew
    before that.
    """
    if side is None:
        return decode(made, state), None
    current = torch.cuda.current_stream(side.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        frames, carried = decode(made, state)
        done = torch.cuda.Event()
        done.record(side)
    for tensor in (made.latents, made.end_frame, *state.decoder.values()):
        tensor.record_stream(side)
    for tensor in (frames, *carried.values()):
        if tensor is not None:
            tensor.record_stream(current)
    return (frames, carried), done


def _ready(
    taken: tuple[WorldState, StepOutput], done: torch.cuda.Event | None, device: torch.device
) -> tuple[WorldState, StepOutput]:
    if done is not None:
        torch.cuda.current_stream(device).wait_event(done)
    return taken
