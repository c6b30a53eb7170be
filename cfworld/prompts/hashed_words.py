"""An encoder of texts that needs no weights: every word becomes a sum of random vectors of its letters."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from cfworld.errors import ConfigError

__all__ = ["HashedWords"]

_WORD = re.compile(r"[\w']+")
_LENGTHS = (3, 4)


class HashedWords:
    """Texts to one vector per word, offline and the same everywhere.

    A word's vector is the sum of the vectors of its n-grams (the word itself, and every three and four letters of it
    with its ends marked) over the root of their number; an n-gram's vector is +1 and -1, drawn by a hash of its
    letters. So a word always has the same vector, on every machine and in every process; words of one stem lie close
    together ("turn", "turning") and others nearly at right angles; any word of any language has one. What the words
    mean, the world learns: its text prompts project the vectors, and tell places of words apart.

    Why this one: a pretrained encoder is a download, many times larger than a small world; a learned table of words is
    closed; letters or bytes alone would have to be put together to words, and nothing between the prompt and the
    cross-attention does so. Sentences whose meaning is not the sum of their words want an encoder that reads them
    whole: give one to `PromptEncoder.use_encoder`.

    Args:
        tokens: P, words with a token of their own. Further words share the last token.
        width: E, components of a token.
    """

    def __init__(self, tokens: int = 16, width: int = 64) -> None:
        if tokens < 1 or width < 1:
            raise ConfigError(f"HashedWords got tokens={tokens}, width={width}; expected at least 1 of each")
        self.tokens, self.width = tokens, width

    def __call__(self, texts: Sequence[str]) -> Float32[np.ndarray, "n P E"]:
        """Encode texts; case and punctuation do not matter.

        Args:
            texts: n texts.

        Returns:
            Tokens, float32 of unit variance; zero where a text has no more words.
        """
        encoded = np.zeros((len(texts), self.tokens, self.width), np.float32)
        for row, text in enumerate(texts):
            words = [self._vector(word) for word in _words(text)]
            last = words[self.tokens - 1 :]
            if last:
                words[self.tokens - 1 :] = [np.sum(last, axis=0) / len(last) ** 0.5]
            if words:
                encoded[row, : len(words)] = words
        return encoded

    def _vector(self, word: str) -> np.ndarray:
        grams = _grams(word)
        return np.sum([self._signs(gram) for gram in grams], axis=0, dtype=np.float32) / len(grams) ** 0.5

    def _signs(self, gram: str) -> np.ndarray:
        digest = hashlib.shake_128(gram.encode()).digest(-(-self.width // 8))
        bits = np.unpackbits(np.frombuffer(digest, np.uint8), count=self.width)
        return bits.astype(np.float32) * 2 - 1


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def _grams(word: str) -> list[str]:
    marked = f"<{word}>"
    parts = [marked[i : i + n] for n in _LENGTHS for i in range(len(marked) - n + 1)]
    return sorted({marked, *parts})
