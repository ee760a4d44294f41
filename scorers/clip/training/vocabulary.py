"""The tokens that occur while a CLIP model is trained from scratch, and the whole vocabulary afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ..architecture import text_config

if TYPE_CHECKING:
    import torch

Tokens = npt.NDArray[np.int32]

# Of the tokenizer of CLIP, which open_clip calls simple.
WHOLE: Final = 49408
END: Final = WHOLE - 1
_EMBEDDING: Final = "token_embedding.weight"


def is_compactable(model_cfg: Mapping[str, Any]) -> bool:
    """Whether a text tower reads the tokens of CLIP's own tokenizer, and looks for their end at the largest,
    so that others can stand for them."""
    text = text_config(model_cfg)
    plain = not any(text.get(name) for name in ("hf_tokenizer_name", "hf_model_name", "embed_cls"))
    return (
        plain
        and not model_cfg.get("custom_text")
        and text.get("vocab_size", WHOLE) == WHOLE
        and text.get("pool_type", "argmax") == "argmax"
        and text.get("pad_id", 0) == 0
    )


@dataclass(frozen=True)
class CompactVocabulary:
    """Numbers for the tokens that occur, in the order of the tokenizer's; all others share one, `unknown`.

    0, which fills up captions, stays 0, and the end of a caption stays the largest, where open_clip looks for
    the caption's embedding.
    """

    kept: npt.NDArray[np.int64]  # the tokenizer's numbers of all but the end, ascending, 0 the first

    @classmethod
    def of(cls, tokens: Tokens) -> CompactVocabulary:
        """That of captions (captions, context)."""
        found = np.unique(np.append(tokens, 0)).astype(np.int64)
        return cls(found[found != END])

    @property
    def unknown(self) -> int:
        return len(self.kept)

    @property
    def size(self) -> int:
        return len(self.kept) + 2

    def compact(self, tokens: Tokens) -> Tokens:
        """Captions in these numbers."""
        numbers = np.full(WHOLE, self.unknown, np.int32)
        numbers[self.kept] = np.arange(len(self.kept))
        numbers[END] = self.unknown + 1
        return numbers[tokens]

    def configured(self, model_cfg: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of a model that reads these numbers."""
        smaller = deepcopy(dict(model_cfg))
        smaller["text_cfg"] = {**text_config(model_cfg), "vocab_size": self.size}
        return smaller

    def expanded(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of a model that reads the tokenizer's own numbers, and gives the same embeddings: a
        token that never occurred has the vector of `unknown`."""
        import torch

        whole = dict(state)
        compact = state[_EMBEDDING]
        rows = torch.full((WHOLE,), self.unknown, dtype=torch.long)
        rows[torch.from_numpy(self.kept)] = torch.arange(len(self.kept))
        rows[END] = self.unknown + 1
        whole[_EMBEDDING] = compact[rows.to(compact.device)]
        return whole
