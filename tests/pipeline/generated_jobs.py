"""Jobs: inputs, and steps that a job file may have in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from generated_inputs import BASES, FORMATS, ONE_TEXT, Source, Step, documents
from hypothesis import strategies as st
from reference import COPIES, Record
from reference_decontamination import Item

# So that every set has an item of as many words as an n-gram may have.
ALWAYS_FOUND = {"question": "one", "text": BASES[4]}


@dataclass(frozen=True)
class Job:
    """What a job reads and does, and how its stages are cut, which must make no difference."""

    sources: list[Source]
    steps: list[Step]
    older: dict[str, list[Record]]
    sets: dict[str, list[Item]]
    part: str = "64MB"
    partition_bytes: int | None = None

    @property
    def shape(self) -> dict[str, Any]:
        return {"steps": self.steps, "own": [(one.name, one.format, one.steps) for one in self.sources]}


READING = ["rule", "dedup", "select", "signals", "cap", "filter", "bucket", "score", "dedup", "rule"]
EDITING = ["lines", "edit", "decontaminate", "edit", "lines"]
OTHER = ["mix", "sample", "limit", "select"]
COLUMNS = ["word_count", "char_count", "mean_word_length", "line_count", "max_word_length", "pii_email_count"]
ON_NULL = st.sampled_from(["drop", "keep", "keep", "drop", "keep", "drop", "fail"])
CLAUSES = st.one_of(
    st.builds("word_count {} {}".format, st.sampled_from([">=", "!=", ">"]), st.integers(0, 3)),
    st.builds("char_count {} {}".format, st.sampled_from(["<", "<="]), st.integers(20, 200)),
    st.builds("mean_word_length {} {}".format, st.sampled_from(["<", ">="]), st.sampled_from([3.0, 4.5])),
    st.builds("line_count == {}".format, st.integers(1, 2)),
    st.builds("length(url) <= {}".format, st.integers(0, 30)),
    st.just("pii_email_count == 0"),
)
PII_EDITS = st.builds(
    lambda kinds, private: {"pii": {"kinds": kinds, "private_ips": private}},
    st.sampled_from([["email"], ["ip"], ["email", "ip"]]),
    st.booleans(),
)
REFINEDWEB_EDITS = st.fixed_dictionaries(
    {},
    optional={
        "max_uppercase": st.sampled_from([0.5, 1.0]),
        "min_words": st.integers(1, 3),
        "max_removed": st.sampled_from([0.05, 0.5]),
    },
).map(lambda options: {"refinedweb_lines": options})
C4_EDITS = st.fixed_dictionaries(
    {"min_words": st.integers(0, 5), "line_ending": st.sampled_from([False, False, True])},
    optional={"citations": st.booleans(), "max_removed": st.sampled_from([0.2, 0.5, 0.9])},
).map(lambda options: {"c4_lines": options})
EDITS = st.one_of(PII_EDITS, REFINEDWEB_EDITS, C4_EDITS)
SIGNAL_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "words": st.sampled_from(["whitespace", "unicode"]),
        "stop_words": st.sampled_from([["the", "page"], ["of"]]),
        "bullets": st.sampled_from(["-", "•T"]),
    },
)


def keeps(ranks: list[str]) -> st.SearchStrategy[Any]:
    best = st.sampled_from(ranks).map(lambda column: {"best": column})
    return st.one_of(st.just("first"), st.just("longest"), best)


@st.composite
def dedups(draw: st.DrawFn, ranks: list[str]) -> dict[str, Any]:
    normalize = st.sampled_from(["none", "whitespace", "lower"])
    exact = st.fixed_dictionaries({}, optional={"normalize": normalize, "keep": keeps(ranks)})
    url = st.fixed_dictionaries({"on": st.just("url")}, optional={"keep": keeps(ranks)})
    minhash = st.fixed_dictionaries(
        {
            "bands": st.integers(1, 8),
            "rows": st.integers(1, 3),
            "ngram": st.integers(1, 4),
            "hash": st.just("datasketch"),
        },
        optional={
            "unit": st.just("characters"),
            "words": st.sampled_from(["whitespace", "unicode"]),
            "lowercase": st.just(True),
            "keep": keeps(ranks),
            "verify": st.sampled_from([0.3, 0.6, 0.9]),
        },
    )
    methods = [exact.map(lambda o: {"exact": o}), url.map(lambda o: {"exact": o})]
    made = draw(st.one_of(*methods, minhash.map(lambda o: {"minhash": o})))
    if draw(st.booleans()):
        next(iter(made.values()))["cluster_memory"] = 1
    return made


def line_dedups(groups: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    options = st.fixed_dictionaries(
        {},
        optional={
            "keep": st.sampled_from(["first", "none"]),
            "within": st.sampled_from(groups),
            "min_length": st.sampled_from([0, 4, 12]),
            "min_chars": st.sampled_from([0, 20]),
        },
    )
    return st.builds(lambda unit, chosen: {unit: chosen}, st.sampled_from(["lines", "paragraphs"]), options)


@st.composite
def selections(draw: st.DrawFn, ranks: list[str], groups: list[str], cap: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"by": draw(st.sampled_from(ranks))}
    kind = "cap" if cap else draw(st.sampled_from(["top", "top", "budget", "min"]))
    if kind == "min":
        return options | {"min": draw(st.sampled_from([0.0, 0.5, 2.0, 5.5]))}
    if draw(st.sampled_from([False, False, True])):
        del options["by"]
    options |= draw(units())
    if cap or draw(st.booleans()):
        options["within"] = draw(st.sampled_from(groups))
    drawn = draw(st.sampled_from([None, "gumbel", None if cap else "replacement"]))
    if drawn is not None and "by" in options:
        options["sample"] = drawn
        if drawn == "gumbel":
            options["temperature"] = draw(st.sampled_from([1.0, 0.1, 50.0]))
        else:
            options["max_copies"] = draw(st.sampled_from([3, 1, 5]))
    few = options["unit"] == "records"
    if kind == "top":
        return options | {"top": draw(st.sampled_from([0.0, 0.29, 0.5, 0.7, 0.9, 1.0]))}
    if kind == "cap":
        return options | {"cap": draw(st.integers(1, 6 if few else 300))}
    return options | {"budget": draw(st.integers(1, 15 if few else 900))}


def units() -> st.SearchStrategy[dict[str, Any]]:
    counted = st.sampled_from(["records", "characters", "bytes", "tokens"])
    return counted.map(
        lambda unit: {"unit": unit} | ({"tokenizer": "tokenizer.json"} if unit == "tokens" else {})
    )


@st.composite
def mixes(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = draw(units())
    many = 12 if options["unit"] == "records" else 500
    amounts = draw(st.sampled_from([st.integers(1, 9), st.integers(1, many)]))
    named = draw(st.dictionaries(st.sampled_from(names), amounts, min_size=1))
    epochs = draw(st.sampled_from([1.0, 2.5, 0.5, 3.0]))
    alpha = {"alpha": draw(st.sampled_from([0.0, 0.3, 1.0])), "epochs": epochs}
    kinds: list[dict[str, Any]] = [
        {"caps": named},
        {"weights": named, "budget": many},
        {"weights": named, "epochs": epochs},
        {"weights": named, "budget": many, "epochs": epochs},
        alpha,
        alpha | {"budget": many},
        {"unimax": {"epochs": epochs}, "budget": many},
    ]
    chosen = draw(st.sampled_from(kinds))
    if not {"caps", "weights"} & set(chosen) and draw(st.booleans()):
        chosen = chosen | {"within": draw(st.sampled_from(["line_count", ["input", "line_count"]]))}
    return options | chosen


@st.composite
def decontaminations(draw: st.DrawFn, sets: dict[str, list[Item]], number: int) -> Step:
    items = [{"question": draw(ONE_TEXT), "text": draw(ONE_TEXT)} for _ in range(draw(st.integers(0, 2)))]
    name = f"quiz-{number}"
    sets[name] = [*items, ALWAYS_FOUND]
    options: dict[str, Any] = {
        "against": name,
        "query": ["question"],
        "method": draw(st.sampled_from(["ngram", "gpt3"])),
        "ngram": draw(st.integers(2, 6)),
        "action": draw(st.sampled_from(["drop", "report", "remove"])),
    }
    optional = {
        "max_records": st.sampled_from([0, 3]),
        "min_matches": st.integers(1, 3),
        "min_share": st.sampled_from([0.1, 0.5]),
        "query_ngrams": st.booleans(),
        "words": st.sampled_from(["unicode", "whitespace"]),
    }
    options |= draw(st.fixed_dictionaries({}, optional=optional))
    if options["action"] == "remove":
        options |= {"window": draw(st.integers(0, 9)), "min_piece": draw(st.integers(0, 9))}
        options |= {"max_pieces": draw(st.integers(1, 3))}
    step: Step = {"decontaminate": options}
    return step | ({"as": name.replace("-", "_")} if options["action"] == "report" else {})


def copies_column(step: str) -> str:
    return f"{COPIES}{step}".replace("-", "_")


class Line:
    """The steps that some records pass one after the other, and what they may read."""

    def __init__(self, prefix: str, inputs: list[str], job: Job) -> None:
        self.prefix, self.inputs, self.job = prefix, inputs, job
        self.ranks, self.groups = list(COLUMNS), ["line_count", "url", "input"]
        self.unpublished = [*COLUMNS, "stop_word_count", "bullet_line_fraction", "byte_count"]

    def steps(self, draw: st.DrawFn, count: int) -> list[Step]:
        """Steps of any kind, or in turn such as read the text and such as change it."""
        turns = draw(st.sampled_from([[[*READING, *EDITING, *OTHER]], [READING, EDITING]]))
        made = []
        for number in range(count):
            verb, name = draw(st.sampled_from(turns[number % len(turns)])), f"{self.prefix}{number}"
            made.append({"name": name, **self._drawn(draw, verb, name)})
        return made

    def _drawn(self, draw: st.DrawFn, verb: str, name: str) -> Step:
        if verb == "filter":
            words = st.fixed_dictionaries(
                {"min_words": st.integers(0, 4), "min_stop_words": st.integers(0, 1)}
            )
            return {"filter": {"gopher_quality": draw(words) | draw(SIGNAL_OPTIONS)}}
        if verb == "rule":
            clauses = draw(st.lists(CLAUSES, min_size=1, max_size=2))
            if len(self.ranks) > len(COLUMNS) and draw(st.booleans()):
                clauses.append(f"{self.ranks[-1]} {draw(st.sampled_from(['<', '>=']))} 0.8")
            return {"rule": draw(st.sampled_from([" and ", " or "])).join(clauses), "on_null": draw(ON_NULL)}
        if verb == "sample":
            return {"sample": draw(st.sampled_from([0.5, 0.8, 0.9]))}
        if verb == "limit":
            return {"limit": draw(st.integers(5, 30))}
        if verb == "edit":
            return {"edit": draw(EDITS)}
        if verb == "signals" and self.unpublished:
            return self._signals(draw)
        if verb == "dedup":
            return self._dedup(draw, name)
        if verb == "lines":
            return {"dedup": draw(line_dedups(self.groups))}
        if verb in ("select", "cap"):
            options = draw(selections(self.ranks, self.groups, verb == "cap"))
            counted = {"as": copies_column(name)} if options.get("sample") == "replacement" else {}
            return {"select": options, "on_null": draw(ON_NULL), **counted}
        if verb == "mix":
            options = draw(mixes(self.inputs))
            counted = options.get("unimax", options).get("epochs", 1) > 1
            return {"mix": options} | ({"as": copies_column(name)} if counted else {})
        if verb == "bucket":
            return self._bucket(draw, name)
        if verb == "decontaminate":
            return draw(decontaminations(self.job.sets, len(self.job.sets)))
        if len(self.ranks) == len(COLUMNS):
            column = f"variety_{self.prefix}".strip("-")
            self.ranks += [column, column]
            return {"score": {"marks:Variety": {}}, "as": column, "on_null": draw(ON_NULL)}
        return {"rule": f"{self.ranks[-1]} > 0.6", "on_null": draw(ON_NULL)}

    def _signals(self, draw: st.DrawFn) -> Step:
        names = draw(st.lists(st.sampled_from(self.unpublished), min_size=1, max_size=3, unique=True))
        self.unpublished = [name for name in self.unpublished if name not in names]
        options = draw(SIGNAL_OPTIONS)
        return {"signals": {"names": names} | ({"options": options} if options else {})}

    def _dedup(self, draw: st.DrawFn, name: str) -> Step:
        made: dict[str, Any] = draw(dedups(self.ranks))
        ((method, options),) = made.items()
        best = isinstance(options.get("keep"), dict) and options["keep"]["best"] not in COLUMNS
        if "verify" not in options and not best and draw(st.sampled_from([False, False, True])):
            self.job.older[name] = draw(documents(draw(st.integers(1, 12))))
            options["against"] = name
        return {"dedup": {method: options}}

    def _bucket(self, draw: st.DrawFn, name: str) -> Step:
        options: dict[str, Any] = {
            "by": draw(st.sampled_from(self.ranks)),
            "cuts": draw(st.sampled_from([[0.3, 0.6], [0.0, 0.5], [0.25, 1.0]])),
            "names": ["low", "middle", "high"],
        }
        if draw(st.booleans()):
            options["within"] = draw(st.sampled_from(self.groups))
        if draw(st.booleans()):
            options["keep"] = ["low", "high"]
        column = f"range_{name}".replace("-", "_")
        self.groups.append(column)
        return {"bucket": options, "as": column, "on_null": draw(ON_NULL)}


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """One to three inputs, at times with steps of their own, and common steps."""
    names = ["crawl", "wiki", "books"][: draw(st.sampled_from([1, 2, 1, 3]))]
    job = Job([], [], {}, {})
    has_own = draw(st.sampled_from([False, True, False]))
    for name in names:
        # Left to itself, hypothesis would nearly always draw a small one.
        size = draw(st.sampled_from([15, 30, 45, 2, 30, 0]))
        found = draw(documents(-(-size // len(names))))
        line = Line(f"{name}-", names, job)
        count = draw(st.integers(0, 2)) if has_own else 0
        steps = line.steps(draw, count)
        places = draw(st.lists(st.integers(0, len(found)), max_size=3).map(sorted))
        # Without a document, a folder of texts would have no file.
        format = draw(FORMATS) if found else "jsonl"
        job.sources.append(Source(name, format, found, places, steps))
    common = Line("step-", names, job)
    steps_before = [step for source in job.sources for step in source.steps]
    published = {name for step in steps_before for name in step.get("signals", {}).get("names", ())}
    common.unpublished = [name for name in common.unpublished if name not in published]
    job.steps.extend(common.steps(draw, draw(st.sampled_from([5, 3, 4, 6, 2, 1]))))
    part = draw(st.sampled_from(["64MB", "1KB", "400B"]))
    return Job(job.sources, job.steps, job.older, job.sets, part, draw(st.sampled_from([None, 500])))
