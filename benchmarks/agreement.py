"""Do thresher's rule sets decide as datatrove's filters do? Both read the same real documents.

    python benchmarks/agreement.py --corpus DIR --peer-python PATH [--documents 300]

DIR holds docs.parquet with a column `text`. For each rule set, and for both kinds of words, this prints how
many documents both keep, both drop, or only one drops, and the reasons of those that only one drops: once
with datatrove's filters given the words of str.split, so that only the rules differ, and once as they are.
Where datatrove's constants differ from a paper's, ours are set to datatrove's here.

What remains differs by definition:
- words: datatrove's come from spaCy's English rules, where punctuation marks are words; ours are those that
  white space separates, or Unicode words. This moves every ratio per word, the share of alphabetic words
  most of all, and the places of n-grams;
- n-grams: ours are shares of the characters in words, each counted once, and a top n-gram has to occur
  twice. datatrove's are shares of the whole text with its white space, so smaller for duplicate n-grams,
  which it counts without spaces and no further than n words after a hit; its top n-gram counts spaces and
  overlaps;
- C4: ours counts sentences by punctuation and looks for "lorem ipsum" and brackets on the whole page;
  datatrove takes spaCy's sentences, and looks only at lines that it has not dropped by then;
- lines: ours leave blank lines out and know \\r; datatrove's Gopher rules split where any Unicode line
  separator is, or where newlines are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from figures import Figure, add_option, save
from thresher.filters.expressions import evaluate_rules, parse
from thresher.filters.rule_sets import RULE_SETS
from thresher.filters.signals import compute_signals
from thresher.filters.text.words import WORD_KINDS, WordKind

# What datatrove's defaults, and benchmarks/peers/datatrove_filters.py, set apart from the papers.
PARAMETERS: dict[str, dict[str, Any]] = {
    "c4": {"line_ending": False, "min_sentences": 5},
    "fineweb": {"max_duplicate_line_chars": 0.01},
}
MODES = {"spaced": "whitespace", "verdicts": "spaCy's"}
OPTIONS: dict[str, Any] = {"bullets": "•-", "c4_min_line_words": 3}


def documents(corpus: Path, count: int) -> list[str]:
    """`count` texts of the corpus, evenly spread."""
    column = pq.read_table(corpus / "docs.parquet", columns=["text"])["text"]
    step = max(len(column) / count, 1.0)
    return [column[int(i * step)].as_py() or "" for i in range(min(count, len(column)))]


def theirs(texts: list[str], python: str, mode: str) -> list[dict[str, str | None]]:
    """For each document the reason of each of datatrove's filters; `mode` is one of the peer script's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        script = Path(__file__).parent / "peers" / "datatrove_filters.py"
        command = [python, str(script), mode, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def ours(texts: list[str], name: str, words: WordKind) -> list[str | None]:
    """For each document the reason of one rule set."""
    parameters = {**RULE_SETS[name].parameters, **PARAMETERS.get(name, {})}
    rules = [(rule.reason, parse(rule.expression, parameters)) for rule in RULE_SETS[name].rules]
    columns = sorted(set().union(*(expression.columns for _, expression in rules)))
    signals = compute_signals(pa.array(texts, pa.string()), columns, words, **OPTIONS)
    reasons: list[str | None] = evaluate_rules(rules, signals, "drop")[0].to_pylist()
    return reasons


def show(name: str, words: str, mine: list[str | None], peer: list[str | None]) -> float:
    """One line of counts, and the commonest reasons of one-sided drops. Returns the share that agrees."""
    pairs = list(zip(mine, peer, strict=True))
    kept = sum(a is None and b is None for a, b in pairs)
    dropped = sum(a is not None and b is not None for a, b in pairs)
    only_mine = Counter(a for a, b in pairs if a is not None and b is None)
    only_peer = Counter(b for a, b in pairs if a is None and b is not None)
    print(
        f"{name:18} {words:11} agree {(kept + dropped) / len(pairs):6.1%}  both keep {kept:5}  "
        f"both drop {dropped:5}  only ours {only_mine.total():4}  only datatrove {only_peer.total():4}"
    )
    for side, reasons in (("only ours", only_mine), ("only datatrove", only_peer)):
        if reasons:
            print(f"    {side}: " + ", ".join(f"{reason} {n}" for reason, n in reasons.most_common(5)))
    return (kept + dropped) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--peer-python", required=True, help="a Python that has datatrove")
    parser.add_argument("--documents", type=int, default=300)
    add_option(parser)
    options = parser.parse_args()
    texts = documents(options.corpus, options.documents)
    found = []
    for mode, words in MODES.items():
        peer = theirs(texts, options.peer_python, mode)
        print(f"datatrove with {words} words")
        for name in RULE_SETS:
            for kind in WORD_KINDS:
                share = show(name, kind, ours(texts, name, kind), [verdicts[name] for verdicts in peer])
                if (mode, kind) == ("spaced", "whitespace"):
                    found.append(Figure(f"agreement with datatrove, same words: {name}", share, "share"))
    save(found, options.figures)


if __name__ == "__main__":
    main()
