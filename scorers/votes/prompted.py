"""Votes of a language model that is asked about each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.contracts import AssetError, Assets, Scorer
from ..lm.batching import Numbers, spans
from ..lm.model import LanguageModel, load_model
from ..torch_device import PRECISIONS, threads
from .labels import checked_classes
from .templates import Prompt, read_prompts

Floats = npt.NDArray[np.float64]

# What says nothing about any class: Smith et al. 2022, after Zhao et al. 2021.
NULL_INPUTS: Final = ("N/A", "", "[MASK]", "NULL", "<|endoftext|>")
MAX_CHARACTERS: Final = 2000  # of a column's text in a prompt; our choice
TOLERANCE: Final = 1e-3  # of a probability in fp32
HALF_TOLERANCE: Final = 0.1


class PromptedScorer(Scorer):
    """Votes of a causal language model that answers questions about a record (Language Models in the Loop:
    Smith et al. 2022, arXiv:2205.02318).

    `model`: a folder as `causal_lm` takes it. `classes` names what there is to vote for. Each of `prompts`
    has a `name`, a `template`, a text in which `[text]`, or another column in brackets, stands for what the
    record has there, and `answers`, each with the class that it votes for, or `abstain`. The model is not
    asked to write: the answer is the one that it finds likeliest behind the template and `before`, a space.

    `calibrate` divides the probability of each answer by what it is for `null_inputs`, texts that say
    nothing, which takes away the model's liking for a word (contextual calibration: Zhao et al. 2021,
    arXiv:2102.09690). Where no answer reaches `min_probability`, the prompt abstains. Of a column
    `max_characters` are written into a template, and fewer where the model could not read the question to
    its end.

    Returns a column for each prompt by its name: int8, the number of the class, or null where it abstains or
    a column of the template is null. With `probabilities`, also `NAME_probability`: float32, that of the
    first answer among all of the prompt's. Where two answers are nearly as likely, another batch or machine
    can turn a vote. `precision`, `batch_tokens`, `device` and `threads` are those of `causal_lm`.
    """

    version: ClassVar[int] = 1
    obtain = "fetch the folder of a causal language model; `thresher train lm` makes a small one"

    def __init__(
        self,
        model: str,
        classes: Sequence[str],
        prompts: Sequence[Mapping[str, Any]],
        calibrate: bool = True,
        null_inputs: Sequence[str] = NULL_INPUTS,
        min_probability: float = 0.0,
        before: str = " ",
        probabilities: bool = False,
        max_characters: int = MAX_CHARACTERS,
        batch_tokens: int | None = None,
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        self._prompts = read_prompts(prompts, checked_classes(classes))
        if calibrate and not null_inputs:
            raise ValueError("null_inputs is empty; write some texts that say nothing, or calibrate: false")
        if not 0 <= min_probability <= 1:
            raise ValueError(f"min_probability is {min_probability}; it is between 0 and 1")
        for name, value in (("max_characters", max_characters), ("batch_tokens", batch_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is at least 1")
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision is {precision!r}; write auto, {', '.join(PRECISIONS)}")
        self.inputs = tuple(sorted({column for prompt in self._prompts for column in prompt.columns}))
        self.assets = (model,)
        self.tolerance = TOLERANCE if precision == "fp32" else HALF_TOLERANCE
        self._null_inputs = tuple(null_inputs) if calibrate else ()
        self._least, self._before, self._probabilities = min_probability, before, probabilities
        self._max_characters, self._batch_tokens, self._threads = max_characters, batch_tokens, threads
        self._device, self._precision = device, precision
        self._model: LanguageModel | None = None
        self._answers: list[_Answers] = []
        self._null: list[Floats] = []  # of each prompt, the probability of each answer to nothing

    @property
    def outputs(self) -> dict[str, pa.DataType]:
        """A vote for each prompt, and a probability where it is asked for."""
        found: dict[str, pa.DataType] = {}
        for prompt in self._prompts:
            found[prompt.name] = pa.int8()
            if self._probabilities:
                found[f"{prompt.name}_probability"] = pa.float32()
        return found

    def open(self, assets: Assets) -> None:
        """Loads the model, and asks it about nothing."""
        self._model = load_model(
            assets.locate(self.assets[0]), device=self._device, precision=self._precision
        )
        self._answers = [self._tokens_of(prompt) for prompt in self._prompts]
        self._null = []
        for prompt, answers in zip(self._prompts, self._answers, strict=True):
            if len(self._encoded([prompt.written(dict.fromkeys(prompt.columns, ""))])[0]) > self._room:
                raise AssetError(
                    f"{self.assets[0]}: prompt {prompt.name} is longer than the model can read, which is "
                    f"{self._model.context} tokens"
                )
            if not self._null_inputs:
                self._null.append(np.ones(len(prompt.answers)))
                continue
            nothing = self._asked(prompt, [[one] * len(prompt.columns) for one in self._null_inputs])
            with threads(self._threads):
                logs = self._log_likelihoods([one for one in nothing if one is not None], answers)
            # The mean of probabilities that need not add up to one, as in the authors' code.
            mean = np.exp(logs - logs.max()).mean(axis=0)
            self._null.append(mean / mean.sum())

    def prepare(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Writes the prompts and cuts them into tokens."""
        columns = {name: batch.column(name).to_pylist() for name in self.inputs}
        made = {}
        for prompt in self._prompts:
            rows = zip(*(columns[name] for name in prompt.columns), strict=True)
            made[prompt.name] = pa.array(self._asked(prompt, list(rows)), pa.list_(pa.int32()))
        return pa.RecordBatch.from_pydict(made)

    def score(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Asks the model."""
        found: dict[str, pa.Array] = {}
        for prompt, answers, null in zip(self._prompts, self._answers, self._null, strict=True):
            column = batch.column(prompt.name)
            rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            with threads(self._threads):
                logs = self._log_likelihoods(column.drop_null().to_pylist(), answers)
            shares = np.exp(logs - logs.max(axis=1, keepdims=True)) / null
            shares /= shares.sum(axis=1, keepdims=True)
            votes = np.full(len(batch), -1, np.int8)
            best = shares.argmax(axis=1)
            labels = np.array([-1 if label is None else label for label in prompt.labels], np.int8)
            votes[rows] = np.where(shares.max(axis=1, initial=0) >= self._least, labels[best], -1)
            found[prompt.name] = pa.array(votes, mask=votes < 0)
            if self._probabilities:
                first = np.full(len(batch), np.nan, np.float32)
                first[rows] = shares[:, 0]
                found[f"{prompt.name}_probability"] = pa.array(first, from_pandas=True)
        return found

    def _asked(self, prompt: Prompt, rows: Sequence[Sequence[Any]]) -> list[list[int] | None]:
        """The tokens of the question about each row; None where a value is null, or there is no token."""
        asked = [row for row in rows if all(value is not None for value in row)]
        encoded = iter(self._encoded([self._written(prompt, row, self._max_characters) for row in asked]))
        return [
            None if any(value is None for value in row) else self._fitted(prompt, row, next(encoded)) or None
            for row in rows
        ]

    def _written(self, prompt: Prompt, row: Sequence[Any], most: int) -> str:
        shown = [str(value)[:most] for value in row]
        return prompt.written(dict(zip(prompt.columns, shown, strict=True)))

    def _fitted(self, prompt: Prompt, row: Sequence[Any], tokens: list[int]) -> list[int]:
        """The question with as much of the record as the model can read before the end of it."""
        most = min(self._max_characters, max(len(str(value)) for value in row))
        while len(tokens) > self._room and most > 0:
            most = min(most - 1, most * self._room // len(tokens))
            (tokens,) = self._encoded([self._written(prompt, row, most)])
        return tokens

    @property
    def _room(self) -> int:
        """Tokens of a question at most."""
        assert self._model is not None, "open comes before prepare"
        return self._model.context - max(answers.longest for answers in self._answers)

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        assert self._model is not None, "open comes before prepare"
        start = [] if self._model.first_token is None else [self._model.first_token]
        return [start + tokens for tokens in self._model.tokenizer.encode(texts)]

    def _tokens_of(self, prompt: Prompt) -> _Answers:
        assert self._model is not None
        written = [f"{self._before}{answer}" for answer in prompt.answers]
        tokens = self._model.tokenizer.encode(written)
        empty = [answer for answer, found in zip(prompt.answers, tokens, strict=True) if not found]
        if empty:
            raise AssetError(f"{self.assets[0]}: its tokenizer makes no token of {empty[0]!r}")
        return _Answers(tokens)

    def _log_likelihoods(self, questions: Sequence[Sequence[int]], answers: _Answers) -> Floats:
        """Of each question the log-likelihood of each answer."""
        assert self._model is not None, "open comes before score"
        model, beginnings = self._model, answers.beginnings
        found = np.zeros((len(questions), answers.count))
        # A question is read once for all answers that begin alike, which single tokens do.
        sequences = [[*question, *begun] for question in questions for begun in beginnings]
        reads = np.array([len(sequence) for sequence in sequences], np.int64)
        longest = int(reads.max(initial=1))
        for part in model.batches(reads, self._batch_tokens or model.batch_tokens(longest)):
            row, kind = part // len(beginnings), part % len(beginnings)
            ends = np.cumsum(reads[part]) - 1
            begun = np.array([len(beginning) for beginning in beginnings], np.int64)[kind]
            at, counts = answers.foretold(kind)
            scored = np.repeat(ends - begun, counts) + answers.places[at]
            tokens = np.concatenate([np.asarray(sequences[number], np.int64) for number in part.tolist()])
            losses = model.losses(tokens, reads[part], scored, answers.targets[at])
            np.add.at(found, (np.repeat(row, counts), answers.owners[at]), -losses.astype(np.float64))
        return found


class _Answers:
    """The tokens of a prompt's answers, by how they begin: all but the last token of each."""

    def __init__(self, tokens: Sequence[Sequence[int]]) -> None:
        self.count = len(tokens)
        self.longest = max(map(len, tokens))
        self.beginnings = sorted({tuple(one[:-1]) for one in tokens})
        owners: list[int] = []
        places: list[int] = []
        targets: list[int] = []
        self._first, self._counts = [], []
        for beginning in self.beginnings:
            self._first.append(len(owners))
            for owner, one in enumerate(tokens):
                if tuple(one[:-1]) == beginning:
                    owners += [owner] * len(one)
                    places += range(len(one))
                    targets += one
            self._counts.append(len(owners) - self._first[-1])
        self.owners: Numbers = np.array(owners, np.int64)
        self.places: Numbers = np.array(places, np.int64)  # within the answer
        self.targets: Numbers = np.array(targets, np.int64)

    def foretold(self, kind: Numbers) -> tuple[Numbers, Numbers]:
        """Which of the answers' tokens count in sequences that begin so, and how many in each."""
        first, counts = np.array(self._first, np.int64)[kind], np.array(self._counts, np.int64)[kind]
        return spans(first, counts), counts
