"""The texts of a dataset, encoded once: a large encoder is asked by one process, and by the first run alone."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file

from cfworld.files import write_aside
from cfworld.prompts import ActionConfig, TextEncoder
from cfworld.prompts.umt5 import UMT5Texts
from cfworld.train.banks.recorded_actions import TextTable, text_table
from cfworld.train.processes.team import ALONE, Team

__all__ = ["keep_features", "read_texts"]


def keep_features(encoder: UMT5Texts, texts: Iterable[str], folder: Path, team: Team = ALONE) -> None:
    """Encode texts once, for this run and later ones: from then on the encoder takes their features from a file.

    Args:
        encoder: Which encoder, by its name.
        texts: The texts.
        folder: Gets `features-<digest>.safetensors`; the digest is that of the texts and the encoder's name.
        team: The processes that train; one of them encodes, and the others wait.
    """
    wanted = sorted({*texts, ""})  # a prompt that is dropped is the empty one
    digest = hashlib.sha256(json.dumps([encoder.name, wanted]).encode()).hexdigest()[:12]
    file = folder / f"features-{digest}.safetensors"
    with team.leader_first():
        if not file.is_file():
            encoder.write(wanted, file)
    encoder.remember(file)


def read_texts(
    actions: ActionConfig, texts: Sequence[str], encoder: TextEncoder | None, folder: Path, team: Team = ALONE
) -> TextTable | None:
    """Encode the texts of a dataset, or read what an earlier run encoded with an encoder of that name.

    What ships with cfworld is quick, and not worth a file.

    Args:
        actions: The world's, which name their encoders.
        texts: The dataset's, in the order of their numbers.
        encoder: Encodes them; None for the one that ships with cfworld, or where a run has encoded them before.
        folder: Gets `texts-<digest>.safetensors`; the digest is that of the texts and of what the world says of them.
        team: The processes that read them; one of them encodes, and the others wait.
    """
    described = json.dumps([actions.settings(), list(texts)], sort_keys=True, default=str)
    cache = folder / f"texts-{hashlib.sha256(described.encode()).hexdigest()[:12]}.safetensors"
    with team.leader_first():
        if cache.is_file():
            return TextTable(tables={int(place): table for place, table in load_file(cache).items()})
        table = text_table(actions, texts, encoder)
        if table is not None and encoder is not None:
            with write_aside(cache) as aside:
                save_file({str(place): tokens.contiguous() for place, tokens in table.tables.items()}, aside)
        return table
