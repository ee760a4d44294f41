"""Which attention heads of a language model retrieve: they look at what is to be copied."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from ...schemas.contracts import AssetError
from ..assets import checksum
from ..torch_device import threads
from .attention import Observer
from .heads import write_heads
from .model import LanguageModel, load_model
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

Measure = Literal["attention", "copy"]
Scores = npt.NDArray[np.float64]

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_COMMON: Final = """
apple arrow autumn basket bridge butter candle castle cloud copper cotton desert dinner
engine evening feather field finger forest garden glass harbour honey island journey kitchen
ladder lemon letter market meadow mirror morning mountain needle ocean orange paper pepper
pillow pocket rabbit river rocket saddle salt school shadow silver sister stone summer
table teacher thunder tiger valley village water window winter yellow
"""
_WORDS: Final = tuple(_COMMON.split())


@dataclass(frozen=True)
class Task:
    """A prompt with its answer, and where the answer's tokens stand in the prompt."""

    tokens: npt.NDArray[np.int64]
    answer: int  # the first token of the answer, which is the end of the prompt
    source: npt.NDArray[np.int64]  # where each token of the answer is to be copied from


@dataclass(frozen=True)
class RetrievalHeadFinder:
    """Finds the heads that retrieve, as AttentionInfluence does before it masks them (Hua et al. 2025,
    arXiv:2505.07293): on made-up tasks, in which a JSON object of random keys and texts comes first, then
    `shots` of its keys with their texts, and then one more key, whose text the model is to give.

    Of the paper are 800 tasks, three shots, keys of 32 characters, at most 4096 tokens, and the share of 5 %.
    That a text has `words` common words, and how the prompt is worded, is ours. A head's score is a mean over
    the tokens of all answers, each foretold after the true ones: with `measure` attention, the weight that it
    gives to the token to copy, of which we are not sure that it is the paper's; with copy, how often it gives
    that one the most (Wu et al. 2024, arXiv:2404.15574). `share`: of all heads, those that retrieve the most.

    Raises ValueError for parameters out of range.
    """

    tasks: int = 800
    shots: int = 3
    key_length: int = 32
    words: int = 8
    max_tokens: int = 4096
    share: float = 0.05
    measure: Measure = "attention"
    precision: str = "auto"
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("tasks", "key_length", "words", "max_tokens", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        if self.shots < 0:
            raise ValueError(f"shots is {self.shots}; it is 0 or more")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it is above 0 and at most 1")
        if self.measure not in get_args(Measure):
            raise ValueError(f"measure is {self.measure!r}; write {' or '.join(get_args(Measure))}")

    def find(
        self,
        folder: Path,
        out: Path,
        seed: int,
        report: Callable[[int, int], None] = lambda done, tasks: None,
    ) -> tuple[list[tuple[int, int]], Scores]:
        """Writes the heads of the model in `folder` to the file `out`; returns them, best first, and the
        score of every head, (layers, heads). `report` hears how many tasks are done, of how many.

        Raises AssetError where there is no such model, where its attention cannot be watched, or where a task
        has no room in its context.
        """
        model = load_model(folder, device=self.device, precision=self.precision)
        if not model.packs:
            raise AssetError(f"{folder}: heads of a {model.config.model_type} cannot be watched")
        limit = min(self.max_tokens, model.context)
        model.check_window(limit)
        if not model.packs:
            raise AssetError(f"{folder}: its heads do not see {limit} tokens; ask for fewer max_tokens")
        with threads(self.threads):
            scores = self._scores(model, limit, seed, report)
        heads = top_heads(scores, self.share)
        told = {
            "model": checksum(folder),
            **{name: value for name, value in asdict(self).items() if name not in ("device", "threads")},
            "precision": model.precision,
            "max_tokens": limit,
            "seed": seed,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        write_heads(out, heads, scores.tolist(), told)
        return heads, scores

    def _scores(
        self, model: LanguageModel, limit: int, seed: int, report: Callable[[int, int], None]
    ) -> Scores:
        import torch

        shape = int(model.config.num_hidden_layers), int(model.config.num_attention_heads)
        totals, answers = np.zeros(shape), 0
        for number in range(self.tasks):
            task = self.task(model.tokenizer, model.first_token, limit, random.Random(f"{seed}/{number}"))
            ids = torch.from_numpy(task.tokens).to(model.device)
            with torch.inference_mode():
                model.states(ids, np.array([len(ids)]), watched(task, self.measure, totals))
            answers += len(task.source)
            report(number + 1, self.tasks)
        return totals / answers

    def task(self, tokenizer: Tokenizer, first: int | None, limit: int, draw: random.Random) -> Task:
        """One task of at most `limit` tokens, with as many keys as have room.

        Raises AssetError where there is no room for one key more than shots.
        """
        opening, key_end, text_end, closing, ask, tell, next_one = tokenizer.encode(
            ['{"', '": "', '", "', '"}\n', "Key: ", "\nText: ", "\n"]
        )
        start = [] if first is None else [first]
        pairs: list[tuple[list[int], list[int]]] = []
        size = len(start) + len(opening) + len(closing)
        while len(pairs) < limit:
            key = "".join(draw.choices(_LETTERS, k=self.key_length))
            text = " ".join(draw.choices(_WORDS, k=self.words))
            pair = tuple(tokenizer.encode([key, text]))
            more = len(pair[0]) + len(key_end) + len(pair[1]) + len(text_end)
            asked = 0
            if len(pairs) <= self.shots:
                asked = len(ask) + len(pair[0]) + len(tell) + len(pair[1]) + len(next_one)
            if size + more + asked > limit:
                break
            size += more + asked
            pairs.append((pair[0], pair[1]))
        if len(pairs) <= self.shots:
            raise AssetError(
                f"a task with {self.shots} shots and keys of {self.key_length} characters has no room in "
                f"{limit} tokens; ask for shorter keys, fewer words or fewer shots, or take a model with a "
                "longer context"
            )
        # Those that are asked for lie anywhere in the object.
        order = draw.sample(range(len(pairs)), len(pairs))
        tokens, places = [*start, *opening], [0] * len(pairs)
        for place, number in enumerate(order):
            name, value = pairs[number]
            tokens += [*name, *key_end]
            places[number] = len(tokens)
            tokens += [*value, *(text_end if place + 1 < len(order) else closing)]
        for name, value in pairs[: self.shots]:
            tokens += [*ask, *name, *tell, *value, *next_one]
        name, answer = pairs[self.shots]
        tokens += [*ask, *name, *tell]
        source = places[self.shots] + np.arange(len(answer))
        return Task(np.array([*tokens, *answer], np.int64), len(tokens), source)


def top_heads(scores: Scores, share: float) -> list[tuple[int, int]]:
    """The share of the heads, one at least, whose scores are the highest; of equal ones the first."""
    count = max(1, round(share * scores.size))
    order = np.argsort(-scores.reshape(-1), kind="stable")[:count]
    return [(int(number) // scores.shape[1], int(number) % scores.shape[1]) for number in order]


def watched(task: Task, measure: Measure, totals: Scores) -> Observer:
    """Adds what each head does at the tokens of the task's answer to `totals`, (layers, heads)."""
    import torch

    # A token is foretold where the one before it is read.
    rows = torch.from_numpy(task.answer - 1 + np.arange(len(task.source)))
    source = torch.from_numpy(task.source)

    def observe(layer: int, query: torch.Tensor, key: torch.Tensor, scale: float) -> None:
        at, there = rows.to(query.device), source.to(query.device)
        products = (query[:, at] @ key.transpose(1, 2)).float() * scale
        ahead = torch.arange(key.shape[1], device=key.device) > at[:, None]
        weights = products.masked_fill(ahead, float("-inf")).softmax(dim=-1)
        if measure == "copy":
            found = (weights.argmax(dim=-1) == there).double()
        else:
            found = weights[:, torch.arange(len(there), device=key.device), there].double()
        totals[layer] += found.sum(dim=-1).cpu().numpy()

    return observe
