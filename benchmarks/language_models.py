"""Speed of scoring with a causal language model, beside a plain loop and the model's bare forward pass.

    python benchmarks/language_models.py --corpus DIR [--model FOLDER] [--precision fp32] [--device auto]

DIR holds docs.parquet with a column `text`. Two shapes of records are scored: documents, of which the model
reads one window, and their lines. All three see the same tokens. The loop gives the model one record at a
time with its labels, as transformers' own examples do. The bare forward pass gets rows of exactly one window,
cut into tokens beforehand, and makes logits; the best of a few batch sizes counts. On a CPU the figures are
of CPU seconds on one thread, so that other work on the machine does not count; on a GPU of wall time.
Without a model one of random weights is made, as the time does not depend on them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from figures import Figure, add_option, save, table
from thresher.scorers.assets import LocalAssets
from thresher.scorers.lm.model import LanguageModel, load_model
from thresher.scorers.lm.packages import import_transformers
from thresher.scorers.lm.scoring import CausalLMScorer
from thresher.scorers.lm.training_tokenizer import train_tokenizer

from jobs import documents

PIECE = 256  # records that a job hands over at a time
FORWARD_ROWS = (1, 4, 16, 64)


def made(folder: Path, texts: Sequence[str], sizes: argparse.Namespace) -> Path:
    """A model of random weights with a tokenizer of these texts."""
    transformers = import_transformers()
    import torch

    folder.mkdir()
    train_tokenizer(texts, folder / "tokenizer.json", sizes.vocabulary)
    config = transformers.LlamaConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.width,
        intermediate_size=4 * sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=max(1, sizes.width // 64),
        max_position_embeddings=sizes.window,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


class Race:
    """The three ways to score the same records, and the seconds that each of them takes."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.place = {"precision": options.precision, "device": options.device}
        self.window = options.window
        self.scorer = CausalLMScorer(
            folder.name, window=options.window, max_tokens=options.window - 1, **self.place
        )
        self.scorer.open(LocalAssets([folder.parent]))
        self.model: LanguageModel = load_model(folder, **self.place)
        self.model.network.set_attn_implementation("sdpa")
        self.clock = time.process_time if self.model.device.type == "cpu" else time.perf_counter

    def ours(self, texts: Sequence[str]) -> list[float]:
        """The scorer, with the next records cut into tokens in another thread, as a job does."""
        pieces = [
            pa.record_batch({"text": texts[start : start + PIECE]}) for start in range(0, len(texts), PIECE)
        ]
        found: list[float] = []
        with ThreadPoolExecutor(1) as ahead:
            coming = [ahead.submit(self.scorer.prepare, piece) for piece in pieces]
            for prepared in coming:
                found += self.scorer.score(prepared.result())["nll"].to_pylist()
        return found

    def loop(self, texts: Sequence[str]) -> list[float]:
        """One record at a time."""
        import torch

        found = []
        with torch.inference_mode():
            for text in texts:
                (ids,) = self.model.tokenizer.encode([text], self.window - 1)
                given = torch.tensor([[self.model.first_token, *ids]], device=self.model.device)
                found.append(float(self.model.network(input_ids=given, labels=given, use_cache=False).loss))
        return found

    def forward(self, tokens: int, rows: int) -> None:
        """So many tokens in rows of one window; the last batch is as full as they allow."""
        import torch

        left = max(1, round(tokens / self.window))
        ids = torch.randint(0, self.model.vocabulary, (rows, self.window), device=self.model.device)
        with torch.inference_mode():
            while left > 0:
                self.model.network(input_ids=ids[: min(rows, left)], use_cache=False)
                left -= rows
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds, and what it found."""
        started = self.clock()
        found = work()
        return self.clock() - started, found

    def run(self, name: str, texts: list[str], runs: int) -> list[Figure]:
        """Prints what was measured, and returns the ratios."""
        lengths = [1 + len(ids) for ids in self.model.tokenizer.encode(texts, self.window - 1)]
        total = sum(lengths)
        rows = min(FORWARD_ROWS, key=lambda rows: self.timed(lambda: self.forward(8192, rows))[0])
        seconds: dict[str, list[float]] = {"ours": [], "loop": [], "forward": []}
        for _ in range(runs):
            spent, found = self.timed(lambda: self.ours(texts))
            seconds["ours"].append(spent)
            spent, wanted = self.timed(lambda: self.loop(texts))
            seconds["loop"].append(spent)
            seconds["forward"].append(self.timed(lambda: self.forward(total, rows))[0])
        # Of the middle of the records: in bf16 those of a few tokens differ by more.
        distance = float(np.median(np.abs(np.array(found) - np.array(wanted))))
        assert distance < 0.02, f"ours and the loop differ by {distance}"
        # A text that fills the window keeps a CPU as busy by itself as with others.
        target = None if name == "documents" and self.model.device.type == "cpu" else 3
        ours, loop, forward = (statistics.median(seconds[way]) for way in ("ours", "loop", "forward"))
        print(
            f"{name}: {len(texts):,} records of {np.median(lengths):.0f} tokens (median), {total:,} in all; "
            f"tokens/s ours {total / ours:,.0f}, loop {total / loop:,.0f}, forward {total / forward:,.0f} "
            f"in batches of {rows}"
        )
        return [
            Figure(f"causal LM, {name}: ours / loop of batch 1", loop / ours, "x", target),
            Figure(f"causal LM, {name}: ours / bare forward pass", forward / ours, "x", 0.85),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a folder; one of random weights if left out")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--precision", default="fp32", help="of all three")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    add_option(parser)
    options = parser.parse_args()
    import torch

    texts = [
        text for text in documents(options.corpus, options.documents, ["text"])["text"].to_pylist() if text
    ]
    lines = [line for text in texts for line in text.split("\n") if line.strip()][: options.lines]
    with tempfile.TemporaryDirectory() as name:
        race = Race(options.model or made(Path(name) / "model", texts, options), options)
        if race.model.device.type == "cpu":
            torch.set_num_threads(1)
        print(f"{race.model.precision} on {race.model.device}")
        race.ours(texts[:20])
        figures = race.run("documents", texts, options.runs) + race.run("lines", lines, options.runs)
    print(table(figures))
    save(figures, options.figures)


if __name__ == "__main__":
    main()
