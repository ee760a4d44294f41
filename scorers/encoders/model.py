"""An encoder of text that is loaded and ready to work."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ...filters.embeddings.matrix import Matrix
from ...schemas.contracts import AssetError, Assets
from ..lm.packages import import_transformers
from ..torch_device import Precision, device_of, precision_on
from ..torch_images import type_of
from .heads import OWN_HEAD, Doubles, Heads, Kind, Question, read_heads
from .reading import MAX_TOKENS, Pooling, Reading, read_reading
from .tokenizing import TextTokenizer

if TYPE_CHECKING:
    import torch

Tokens = npt.NDArray[np.int32]

BATCH_TOKENS: Final = 16_384  # that the model is given at a time: 32 texts of 512
_WITH_HEAD: Final = "ForSequenceClassification"
_TOLD: Final = 3
# Their first positions are the padding's and one before it.
_OFFSET_POSITIONS: Final = frozenset(
    {"roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text"}
)


@dataclass(frozen=True)
class Encoded:
    """Vectors of texts, by how they were pooled, and what the model's own head says of them."""

    pooled: Mapping[Pooling, Matrix]
    own: Doubles | None


class Encoder:
    """A network of transformers', its tokenizer, and the heads that belong to it.

    `own` is the question of a head that is part of the network; `heads` are those of heads.json.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: TextTokenizer,
        reading: Reading,
        heads: Heads | None,
        own: Question | None,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self.tokenizer, self.reading, self.heads = tokenizer, reading, heads
        self.device, self.precision = device, precision
        self._own = own
        self.network = network.to(device, type_of(precision)).eval().requires_grad_(False)
        self.base = network if own is None else network.base_model
        self.padding = int(getattr(network.config, "pad_token_id", None) or 0)
        self.dimensions = int(network.config.hidden_size)

    def tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text; one of padding where there are none."""
        rows = self.tokenizer(texts).to_numpy(zero_copy_only=False)
        return [np.asarray([self.padding] if row is None else row, np.int32) for row in rows]

    @property
    def questions(self) -> dict[str, Question]:
        """What each head answers, by name."""
        if self._own is not None:
            return {OWN_HEAD: self._own}
        heads = {} if self.heads is None else self.heads.heads
        return {name: Question(head.kind, head.labels) for name, head in heads.items()}

    def encode(
        self,
        tokens: Sequence[Tokens],
        poolings: Collection[Pooling],
        with_own: bool = False,
        budget: int = BATCH_TOKENS,
    ) -> Encoded:
        """The vectors of texts in each of `poolings`, float32, and with `with_own` what the model's own head
        says: a regression's value or the probabilities of the classes.

        Texts of like length go together, as many as make `budget` tokens with their padding.
        """
        import torch

        pooled = {pooling: np.empty((len(tokens), self.dimensions), np.float32) for pooling in poolings}
        logits: list[tuple[npt.NDArray[np.int64], Matrix]] = []
        with torch.inference_mode():
            for rows in bucketed([len(row) for row in tokens], budget):
                ids, mask = padded([tokens[row] for row in rows], self.padding, self.device)
                hidden, said = self._forward(ids, mask, with_own)
                for pooling, matrix in pooled.items():
                    matrix[rows] = pool(hidden, mask, pooling).cpu().numpy()
                if said is not None:
                    logits.append((rows, said.float().cpu().numpy()))
        for matrix in pooled.values():
            _check_finite(matrix)
        return Encoded(pooled, self._answers(logits, len(tokens)) if with_own else None)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, with_own: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not with_own:
            return self.base(input_ids=ids, attention_mask=mask)[0], None
        kept: list[torch.Tensor] = []
        hook = self.base.register_forward_hook(lambda module, given, found: kept.append(found[0]))
        try:
            found = self.network(input_ids=ids, attention_mask=mask)
        finally:
            hook.remove()
        return kept[0], found.logits

    def _answers(self, found: list[tuple[npt.NDArray[np.int64], Matrix]], rows: int) -> Doubles:
        from ...filters.embeddings.products import softmax

        assert self._own is not None
        values = np.empty((rows, max(1, len(self._own.classes))), np.float64)
        for numbers, logits in found:
            values[numbers] = logits
        _check_finite(values)
        if self._own.kind == "regression" or not rows:
            return values
        return softmax(values) if self._own.kind == "classification" else 1 / (1 + np.exp(-values))


def load_encoder(
    model: str,
    assets: Assets,
    *,
    pooling: Pooling | None = None,
    normalise: bool | None = None,
    max_tokens: int | None = None,
    prefix: str | None = None,
    prompt: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    headless: bool = False,
) -> Encoder:
    """The encoder of a folder: config.json, model.safetensors and tokenizer.json as transformers writes them.

    What is not None goes before what the folder says (reading.py); `headless` leaves out its heads. Nothing
    is downloaded, unpickled, or run from the folder. Raises AssetError.
    """
    transformers = import_transformers()
    folder = assets.locate(model)
    if not (folder / "config.json").is_file():
        raise AssetError(f"{folder}: is no folder of an encoder; there is no config.json")
    reading = read_reading(folder, prompt)
    given: dict[str, Any] = {
        "pooling": pooling,
        "normalise": normalise,
        "max_tokens": max_tokens,
        "prefix": prefix,
    }
    reading = replace(reading, **{name: value for name, value in given.items() if value is not None})
    config = _called(folder, transformers.AutoConfig.from_pretrained)
    positions = _positions(config)
    if max_tokens is not None and positions is not None and max_tokens > positions:
        raise AssetError(f"{folder}: the model reads {positions} tokens, and max_tokens is {max_tokens}")
    longest = min(reading.max_tokens or MAX_TOKENS, positions or 2**31)
    tokenizer = TextTokenizer(folder, longest, reading.prefix, reading.lower)
    heads = None if headless else read_heads(folder)
    own = _own_question(config) if heads is None and not headless else None
    made = transformers.AutoModel if own is None else transformers.AutoModelForSequenceClassification
    network, info = _called(
        folder, made.from_pretrained, use_safetensors=True, output_loading_info=True, config=config
    )
    missing = sorted(info["missing_keys"])
    # The pooler stands above the tokens' vectors; only a head of the model's own reads it.
    if own is None and missing and all(name.startswith("pooler.") for name in missing):
        network.pooler, missing = None, []
    if missing or info["mismatched_keys"]:
        told = ", ".join([*missing, *(str(key[0]) for key in info["mismatched_keys"])][:_TOLD])
        hint = "; a head that transformers does not know is described by a heads.json" if own else ""
        raise AssetError(f"{folder}: its weights lack {told} of the architecture {config.model_type}{hint}")
    dimensions = int(config.hidden_size)
    for name, head in ({} if heads is None else heads.heads).items():
        if head.dimensions != dimensions:
            raise AssetError(
                f"{folder}: head {name} reads {head.dimensions} numbers, the encoder makes {dimensions}"
            )
    place = device_of(device)
    return Encoder(network, tokenizer, reading, heads, own, place, precision_on(place, precision))


def bucketed(lengths: Sequence[int] | npt.NDArray[np.int64], budget: int) -> Iterator[npt.NDArray[np.int64]]:
    """Numbers of rows of like length, as many as make `budget` tokens when all are as long as the longest."""
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or (stop + 1 - start) * lengths[order[stop]] > budget:
            yield order[start:stop]
            start = stop


def padded(rows: Sequence[Tokens], padding: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of several texts, one in a row, and where they are."""
    import torch

    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max())[None, :] < lengths[:, None]
    ids = np.full(mask.shape, padding, np.int64)
    ids[mask] = np.concatenate(rows)
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask.astype(np.int64)).to(device)


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector for each text, float32, of those of its tokens."""
    import torch

    if pooling == "cls":
        return hidden[:, 0].float()
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1].float()
    share = mask.unsqueeze(-1).float()
    return (hidden.float() * share).sum(dim=1) / share.sum(dim=1)


def _called(folder: Path, load: Any, **settings: Any) -> Any:
    try:
        return load(str(folder), local_files_only=True, trust_remote_code=False, **settings)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        told = str(error).strip().partition("\n")[0]
        raise AssetError(f"{folder}: transformers cannot load it ({type(error).__name__}: {told})") from error


def _own_question(config: Any) -> Question | None:
    names = config.architectures or [""]
    if not names[0].endswith(_WITH_HEAD):
        return None
    if config.num_labels == 1:
        return Question("regression")
    kind: Kind = "multilabel" if config.problem_type == "multi_label_classification" else "classification"
    return Question(kind, tuple(str(config.id2label[number]) for number in range(config.num_labels)))


def _positions(config: Any) -> int | None:
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most <= 0:
        return None
    if config.model_type in _OFFSET_POSITIONS:
        return most - int(config.pad_token_id or 0) - 1
    return most


def _check_finite(matrix: npt.NDArray[Any]) -> None:
    if not np.isfinite(matrix).all():
        raise ValueError("the model gives numbers that are not finite; write precision: fp32")
