"""Wan's encoder of texts: transformers' UMT5 with its tokenizer."""

import html
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cfworld.errors import CheckpointError, MissingDependencyError
from cfworld.files import write_aside

__all__ = ["UMT5", "TransformersParts", "UMT5Texts", "transformers_parts"]

UMT5 = "umt5"
"""Name of the encoder in a world's configuration."""
_KEY = "text:"
"""Stands before a text in the name of its features in a file."""


class UMT5Texts:
    """From texts to their tokens' features. The model is read when the first text comes.

    A text is encoded by itself, so that its tokens do not depend on what is encoded beside it; beyond its end they are
    zero.

    Args:
        load: Gives the encoder and its tokenizer, `UMT5EncoderModel` and what `AutoTokenizer` finds.
        num_tokens: Tokens P of a text, its end mark among them; a longer text is cut.
        name: Differs between encoders of other weights; empty where nobody knows.
    """

    def __init__(self, load: Callable[[], tuple[Any, Any]], num_tokens: int = 512, name: str = "") -> None:
        self.num_tokens, self.name = num_tokens, name
        self._load = load
        self._loaded: tuple[Any, Any] | None = None
        self._kept: Mapping[str, Path] = {}

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        num_tokens: int = 512,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "UMT5Texts":
        """Of a folder as transformers writes it.

        Args:
            folder: It holds the encoder with its tokenizer, or both in `text_encoder` and `tokenizer`: a pipeline.
            num_tokens: Tokens of a text.
            device: Where it computes.
            dtype: What its weights are kept and multiplied in.

        Raises:
            CheckpointError: If there is no such folder, or it is that of another model.
        """
        folder = Path(folder)
        model, tokenizer = folder, folder
        if (folder / "text_encoder").is_dir():
            model, tokenizer = folder / "text_encoder", folder / "tokenizer"
        if not (model / "config.json").is_file():
            raise CheckpointError(f"{model} holds no config.json; expected a UMT5 encoder as transformers writes it.")
        if (found := _model_type(model / "config.json")) != UMT5:
            raise CheckpointError(
                f"the config.json in {model} is that of {found}; expected model_type umt5, as transformers writes it."
            )

        def load() -> tuple[Any, Any]:
            parts = transformers_parts()
            try:
                encoder = parts.model.from_pretrained(model, dtype=dtype).to(device)
                return encoder, parts.tokenizer.from_pretrained(tokenizer)
            except Exception as error:  # transformers, safetensors and tokenizers each raise their own kinds
                raise CheckpointError(f"{folder} holds no UMT5 encoder with its tokenizer: {error}") from error

        return cls(load, num_tokens)

    @property
    def model(self) -> Any:
        """The encoder."""
        return self.load()[0]

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.load()[1]

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        """Features [n, P, E] of n texts, float32 on the CPU, zero beyond each text's end."""
        with torch.inference_mode(False):
            features = [self._kept_features(text) if text in self._kept else self._features(text) for text in texts]
        tokens = torch.zeros(len(texts), self.num_tokens, features[0].shape[-1])
        for row, feature in enumerate(features):
            tokens[row, : len(feature)] = feature
        return tokens

    @torch.no_grad()
    def write(self, texts: Iterable[str], file: Path) -> None:
        """Encode texts, and keep their features in a file for `remember`."""
        with write_aside(file) as aside:
            save_file({_KEY + text: self._features(text).contiguous() for text in dict.fromkeys(texts)}, aside)

    def remember(self, file: Path) -> None:
        """Take the features of the texts that a file holds from there: the model is not needed for them."""
        with safe_open(file, framework="pt") as kept:
            self._kept = {**self._kept, **{name.removeprefix(_KEY): file for name in kept.keys()}}  # noqa: SIM118

    def _kept_features(self, text: str) -> Tensor:
        with safe_open(self._kept[text], framework="pt") as kept:
            return kept.get_tensor(_KEY + text)

    def load(self) -> tuple[Any, Any]:
        """Read encoder and tokenizer, if nobody has yet.

        Raises:
            CheckpointError: If one of them cannot be read.
        """
        if self._loaded is None:
            model, tokenizer = self._load()
            self._loaded = model.eval().requires_grad_(False), tokenizer
        return self._loaded

    def _features(self, text: str) -> Tensor:
        model, tokenizer = self.load()
        ids = tokenizer([_plain(text)], max_length=self.num_tokens, truncation=True, return_tensors="pt").input_ids
        return model(ids.to(model.device)).last_hidden_state[0].float().cpu()


def _model_type(config: Path) -> str:
    """Which model a config.json is of."""
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        return str(settings.get("model_type") or settings.get("_class_name") or "no model")
    except (OSError, ValueError, AttributeError):
        return "nothing that can be read"


def _plain(text: str) -> str:
    """A text without HTML's names of characters and with one space between words, as Wan was trained on."""
    return " ".join(html.unescape(html.unescape(text)).split())


class TransformersParts(NamedTuple):
    """What is taken from transformers: the classes of the encoder, of its configuration, and of its tokenizer."""

    model: Any
    config: Any
    tokenizer: Any


def transformers_parts() -> TransformersParts:
    """Import them.

    Raises:
        MissingDependencyError: If transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
        from transformers.models.umt5.configuration_umt5 import UMT5Config
        from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel
    except ImportError as error:
        raise MissingDependencyError.with_hint("Wan's encoder of texts", "transformers", "wan") from error
    return TransformersParts(UMT5EncoderModel, UMT5Config, AutoTokenizer)
