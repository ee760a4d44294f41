"""datatrove's Gopher, C4 and FineWeb filters over documents in JSON Lines; run by datatrove's own Python.

    python datatrove_filters.py time DOCUMENTS       prints {"cpu_s": ..., "kept": ...}
    python datatrove_filters.py verdicts DOCUMENTS   prints for each document {filter: reason or null}
    python datatrove_filters.py spaced DOCUMENTS     the same, with str.split in the place of spaCy's words

`time` runs the filters as a pipeline: a document that one drops does not reach the next. The clock covers the
filters alone, without reading and writing.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)


def build() -> dict[str, Any]:
    """The filters in FineWeb's order, with the line rule of C4 that FineWeb leaves out left out."""
    return {
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
    }


def split_at_spaces() -> None:
    """Gives the filters the words of str.split, so that what differs is the rules alone."""
    for module in (gopher_repetition_filter, gopher_quality_filter, fineweb_quality_filter):
        module.split_into_words = lambda text, language: text.split()


def verdict(chosen: Any, document: Document) -> str | None:
    """The reason for which a filter drops a document, or None."""
    try:
        result = chosen.filter(document)
    except Exception as error:  # some filters divide by the number of words
        return f"error: {type(error).__name__}"
    if isinstance(result, tuple):
        return None if result[0] else str(result[1])
    return None if result else "dropped"


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    mode, path = sys.argv[1:]
    texts = [json.loads(line)["text"] for line in Path(path).read_text(encoding="utf-8").splitlines()]
    filters = build()
    if mode == "spaced":
        split_at_spaces()
    for chosen in filters.values():  # the tokenizer is loaded on first use
        verdict(chosen, Document(text="A first sentence. And a second one.", id="warm"))
    if mode != "time":
        for text in texts:
            found = {name: verdict(chosen, Document(text=text, id="")) for name, chosen in filters.items()}
            print(json.dumps(found))
        return
    before = cpu_seconds()
    kept = 0
    for text in texts:
        document = Document(text=text, id="")
        kept += all(verdict(chosen, document) is None for chosen in filters.values())
    print(json.dumps({"cpu_s": cpu_seconds() - before, "kept": kept}))


if __name__ == "__main__":
    main()
