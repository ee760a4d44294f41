"""Causal language models of transformers, from a local folder alone: how likely they find each token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ...schemas.contracts import AssetError
from ..torch_device import Precision, device_of, precision_on
from ..torch_images import type_of
from . import attention, batching
from .attention import HeadMask, Observer
from .packages import import_transformers
from .tokenizer import Tokenizer, tokenizer_of

if TYPE_CHECKING:
    import torch

Numbers = npt.NDArray[np.int64]
Losses = npt.NDArray[np.float32]

CONFIG_FILE: Final = "config.json"
# Architectures whose layers but attention see one token at a time, and whose logits are the last layer's
# product alone: each is compared with transformers' own forward pass in the tests. Others run padded.
PACKED: Final = frozenset(
    {"gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3", "starcoder2"}
)
# Rotary frequencies that depend on the longest sequence of a batch once it is beyond this context.
_BY_LENGTH: Final = ("dynamic", "longrope")
# Logits that are made at a time. On a CPU a megabyte's worth took half the time of eight, whose memory is
# handed out anew for each; fewer rows than 64 make a slow product.
_LOGITS: Final = {"cpu": 1 << 20}
_GPU_LOGITS: Final = 1 << 28
_LEAST_ROWS: Final = 64
_CPU_TOKENS: Final = 2048
_MOST_TOKENS: Final = 65_536
_SHARE: Final = 0.25  # of a device's free memory that the tokens of a batch may take


def load_model(
    folder: Path, *, device: str = "auto", precision: str = "auto", heads: HeadMask | None = None
) -> LanguageModel:
    """A model that is ready to work, of a folder as Hugging Face and `thresher train lm` write it.

    Nothing is downloaded, no code of the folder is run, and weights are read from safetensors alone. Raises
    AssetError where it holds no causal language model that transformers knows, where weights are missing or
    are not those of its config, or where the tokenizer has more tokens than it.
    """
    transformers = import_transformers()
    config = read_config(folder)
    place = device_of(device)
    kind = precision_on(place, precision)
    packs = is_packed(config)
    if heads is not None and not packs:
        raise AssetError(
            f"{folder}: heads of a {config.model_type} cannot be masked; those of these can: "
            f"{', '.join(sorted(PACKED))}"
        )
    asked = {"attn_implementation": attention.register()} if packs else {}
    try:
        network, found = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder),
            config=config,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=type_of(kind),
            output_loading_info=True,
            **asked,
        )
    except (OSError, ValueError, ImportError, RuntimeError, KeyError) as error:
        raise AssetError(f"{folder}: {_first_line(error)}") from error
    for fault in ("missing_keys", "mismatched_keys"):
        if found.get(fault):
            told = ", ".join(sorted(map(str, found[fault]))[:3])
            raise AssetError(f"{folder}: its weights are not those of its {CONFIG_FILE}: {fault} {told}")
    tokenizer = tokenizer_of(folder)
    model = LanguageModel(network, tokenizer, place, kind, packs, heads)
    if tokenizer.size > model.vocabulary:
        raise AssetError(
            f"{tokenizer.path}: has {tokenizer.size} tokens, and the model beside it {model.vocabulary}"
        )
    return model


def read_config(folder: Path) -> Any:
    """The config of the model in a folder. Raises AssetError where there is none that transformers knows."""
    transformers = import_transformers()
    if not (folder / CONFIG_FILE).is_file():
        raise AssetError(f"{folder}: holds no {CONFIG_FILE}; `thresher train lm` makes such a folder")
    try:
        return transformers.AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise AssetError(f"{folder}: {_first_line(error)}") from error


def context_of(config: Any) -> int:
    """Tokens that a model reads at a time; 1024 where its config says nothing."""
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 1:
            return min(value, _bound(config) or value)
    return 1024


def is_packed(config: Any) -> bool:
    """Whether the model's sequences may lie behind one another."""
    return config.model_type in PACKED


class LanguageModel:
    """A network, its tokenizer, and where it runs.

    Not to be shared between threads, but for the tokenizer, which one may use while another computes.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Tokenizer,
        device: torch.device,
        precision: Precision,
        packs: bool,
        heads: HeadMask | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.device, self.precision, self.packs = device, precision, packs
        self.config = network.config
        self.context = context_of(self.config)
        self.vocabulary = int(network.get_input_embeddings().weight.shape[0])
        self.network = network.eval().requires_grad_(False).to(device)
        self._heads = heads
        if heads is not None:
            check_heads(heads, self.config)

    @property
    def first_token(self) -> int | None:
        """What comes before the first token of a text: the one that marks its beginning, if there is one."""
        return _token(self.config.bos_token_id)

    @property
    def last_token(self) -> int | None:
        """What marks the end of a text."""
        return _token(self.config.eos_token_id)

    def check_window(self, window: int) -> None:
        """Raises AssetError for a window that is longer than the model allows."""
        bound = _bound(self.config)
        if bound is not None and window > bound:
            raise AssetError(f"window is {window}, and this {self.config.model_type} reads {bound} at most")
        if getattr(self.config, "max_position_embeddings", window) < window:
            raise AssetError(f"window is {window}, and this {self.config.model_type} reads {self.context}")
        near = _narrowest(self.config)
        if self.packs and near is not None and window > near:
            if self._heads is not None:
                raise AssetError(
                    f"window is {window}, and heads are masked up to {near}, which is how far they see"
                )
            self.packs = False
            self.network.set_attn_implementation("sdpa")

    def batch_tokens(self, window: int) -> int:
        """Tokens that the model is given at a time unless the job says otherwise."""
        import torch

        if self.device.type != "cuda":
            return max(window, _CPU_TOKENS)
        free, _ = torch.cuda.mem_get_info(self.device)
        width = int(getattr(self.config, "hidden_size", 1024))
        wide = int(getattr(self.config, "intermediate_size", None) or 4 * width)
        each = self.network.dtype.itemsize * (10 * width + 4 * wide)
        if not self.packs:
            each += 6 * self.vocabulary
        return int(min(max(_SHARE * free / each, window), _MOST_TOKENS))

    def batches(self, reads: Numbers, tokens: int) -> Iterator[Numbers]:
        """Which of the windows of these lengths the model is given at a time."""
        return batching.packed(reads, tokens) if self.packs else batching.padded(reads, tokens)

    def losses(self, tokens: Numbers, lengths: Numbers, scored: Numbers, targets: Numbers) -> Losses:
        """Negative log-likelihoods, in nats, of `targets`, which come behind the tokens at `scored`.

        `tokens`: those of all sequences, one behind the other, whose `lengths` do not grow.
        """
        import torch

        with torch.inference_mode():
            ids, wanted = (torch.from_numpy(numbers).to(self.device) for numbers in (tokens, targets))
            if not self.packs:
                return self._padded_losses(ids, lengths, torch.from_numpy(scored).to(self.device), wanted)
            states = self.states(ids, lengths)
            head = self.network.get_output_embeddings()
            found = torch.empty(len(scored), dtype=torch.float32, device=self.device)
            at = torch.from_numpy(scored).to(self.device)
            size = self._rows()
            for start in range(0, len(scored), size):
                part = slice(start, start + size)
                found[part] = _nll(head(states[at[part]]), wanted[part])
            return found.cpu().numpy()

    def states(self, ids: torch.Tensor, lengths: Numbers, observer: Observer | None = None) -> torch.Tensor:
        """What the last layer makes of each token, (tokens, width), of packed sequences."""
        packing = attention.packing_of(lengths, self.device, self._heads, observer)
        with attention.packed_as(packing):
            made = self.network.base_model(
                input_ids=ids[None], position_ids=packing.positions[None], use_cache=False
            )
        return made.last_hidden_state[0]  # type: ignore[no-any-return]

    def _rows(self) -> int:
        return max(_LEAST_ROWS, _LOGITS.get(self.device.type, _GPU_LOGITS) // self.vocabulary)

    def _padded_losses(
        self, ids: torch.Tensor, lengths: Numbers, scored: torch.Tensor, targets: torch.Tensor
    ) -> Losses:
        import torch

        rows, longest = len(lengths), int(lengths[0])
        inside = torch.from_numpy(np.flatnonzero(np.arange(longest) < lengths[:, None])).to(self.device)
        # To the right, where no token that counts sees it, so no mask is needed.
        filled = torch.zeros(rows * longest, dtype=ids.dtype, device=self.device)
        filled[inside] = ids
        logits = self.network(input_ids=filled.view(rows, longest), use_cache=False).logits
        at = inside[scored]
        flat, size = logits.reshape(rows * longest, -1), self._rows()
        found = [
            _nll(flat[at[start : start + size]], targets[start : start + size])
            for start in range(0, len(at), size)
        ]
        return torch.cat(found).cpu().numpy()


def check_heads(heads: HeadMask, config: Any) -> None:
    """Raises AssetError where a layer or a head does not exist in the model."""
    layers, count = int(config.num_hidden_layers), int(config.num_attention_heads)
    for layer, numbers in heads.heads.items():
        wrong = [number for number in numbers if not 0 <= number < count]
        if wrong or not 0 <= layer < layers:
            raise AssetError(
                f"there is no head {wrong[0] if wrong else numbers[0]} in layer {layer}: the model has "
                f"{layers} layers of {count} heads"
            )


def _nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.float(), targets, reduction="none")


def _token(value: Any) -> int | None:
    if isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else int(value)


def _bound(config: Any) -> int | None:
    """The longest sequence of which a score does not depend on its batch."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    if not isinstance(rope, dict) or rope.get("rope_type") not in _BY_LENGTH:
        return None
    bound = rope.get("original_max_position_embeddings") or getattr(
        config, "original_max_position_embeddings", None
    )
    return int(bound or config.max_position_embeddings)


def _narrowest(config: Any) -> int | None:
    """How far a layer sees that does not see everything before it."""
    found = getattr(config, "sliding_window", None)
    if not found or getattr(config, "use_sliding_window", True) is False:
        return None
    return int(found)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
