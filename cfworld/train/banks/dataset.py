"""The datasets of a world: opened, checked against its settings, and encoded once."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cfworld.configs.schema import WorldSettings
from cfworld.data import EpisodeStore
from cfworld.errors import DatasetError
from cfworld.prompts import TextEncoder
from cfworld.tokenizer import Tokenizer
from cfworld.train.banks.encoded_texts import read_texts
from cfworld.train.banks.latent_bank import LatentBank, encode_store
from cfworld.train.banks.recorded_actions import check_bounds, fits
from cfworld.train.processes.team import ALONE, Team

__all__ = ["latent_cache", "latent_folder", "open_dataset", "open_datasets", "read_latents"]


def open_datasets(world: WorldSettings) -> tuple[EpisodeStore, EpisodeStore]:
    """Open what a world learns from and what is held out.

    Without `eval_data` episodes of `train_data` are held out: those at which `held_out` times their number comes to a
    new whole, of ten episodes the last at 0.1. So an episode stays on its side when others are added after it.

    Args:
        world: Its datasets, and what they must fit.

    Raises:
        DatasetError: If there is no such dataset, its frames or actions are not the world's, or there is only one
            episode where some are to be held out.
    """
    train = open_dataset(world, world.train_data)
    if world.eval_data == world.train_data:
        return train, train
    if world.eval_data:
        return train, open_dataset(world, world.eval_data)
    if len(train) < 2:
        raise DatasetError(
            f"{world.train_data!r} holds one episode; expected at least two, of which one is held out. Record more, or "
            "give eval_data."
        )
    marks = np.floor(np.arange(len(train) + 1) * world.held_out + 1e-9)
    held_out = marks[1:] > marks[:-1]
    held_out[-1] |= not held_out.any()
    return train.select(np.flatnonzero(~held_out)), train.select(np.flatnonzero(held_out))


def open_dataset(world: WorldSettings, data: str) -> EpisodeStore:
    """Open a dataset of a world, before anything is trained on it.

    Args:
        world: What the dataset must fit.
        data: Folder or Minari id, or lerobot:<folder>.

    Raises:
        DatasetError: If there is no such dataset, or its frames or actions are not the world's.
    """
    store = EpisodeStore.open(data, image_key=world.image_key)
    size = list((store.observation_space.shape or ())[:2])
    if size != list(world.resolution):
        raise DatasetError(
            f"The frames of {data!r} are {size[0]}x{size[1]}; expected tokenizer.resolution {list(world.resolution)}. "
            "Set it, and transformer.latent_size, to what the dataset holds, or scale the dataset: one that was made "
            "for a world keeps its resolution."
        )
    if not fits(store.action_space, world.actions, at_most=store.counts_actions):
        raise DatasetError(
            f"The actions of {data!r} are {store.action_space}, but the world's are {world.actions.settings()}; make "
            "them agree (num_actions is 0 wherever actions are not Discrete)."
        )
    return store


def read_latents(
    world: WorldSettings,
    data: str,
    store: EpisodeStore,
    tokenizer: Tokenizer,
    device: torch.device | str,
    text_encoder: TextEncoder | None = None,
    team: Team = ALONE,
) -> LatentBank:
    """Encode a dataset, or read what an earlier run encoded.

    Args:
        world: Its actions must hold those of the dataset.
        data: Folder or Minari id, as it was opened.
        store: The dataset.
        tokenizer: Encodes its frames.
        device: Where to encode.
        text_encoder: Encodes texts among the actions; None for the one that ships with cfworld.
        team: The processes that read it; one of them encodes, and the others wait.

    Raises:
        ActionError: If a text is longer than the world's texts may be.
        ConfigError: If continuous actions lie beyond the world's bounds, or texts need an encoder that is not given.
    """
    cache = latent_cache(world, data, store, tokenizer)
    with team.leader_first():
        bank = encode_store(store, tokenizer, cache, torch.device(device))
    check_bounds(world.actions, bank.actions, data)
    return replace(bank, texts=read_texts(world.actions, store.texts, text_encoder, cache.parent, team))


def latent_cache(world: WorldSettings, data: str, store: EpisodeStore, tokenizer: Tokenizer) -> Path:
    """The file that keeps a dataset's latents; another dataset or tokenizer has another name.

    The name follows from the weights that encode, from what the dataset says of itself (its metadata, and each
    episode's length, seed, policy and options), and from a digest of what it holds.
    """
    digest = hashlib.sha256()
    for tensor in tokenizer.encoding_state().values():
        digest.update(tensor.float().cpu().numpy().tobytes())
    described = {
        "path": str(store.folder.resolve()),
        "contents": store.digest(),
        "image_key": world.image_key,
        "metadata": dict(store.metadata),
        "lengths": store.lengths.tolist(),
        "seeds": store.seeds.tolist(),
        "policies": store.policies,
        "options": store.options,
    }
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    name = f"{Path(data).name}-{digest.hexdigest()[:12]}.safetensors"
    return latent_folder(world) / name


def latent_folder(world: WorldSettings) -> Path:
    """What is encoded once for all runs of a world."""
    return Path("runs") / world.name / "latents"
