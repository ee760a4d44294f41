"""Writes the tables of the reference pages from the models and tables that the program itself runs on.

    python docs/make_reference.py            # rewrites the pages
    python docs/make_reference.py --check    # exit status 1 where a page is stale

A page says where a table goes with `<!-- table: NAME -->` and `<!-- end of table -->`; what stands between
the two is replaced, and the prose around them stays as it is written.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from thresher.filters.rule_language import FUNCTIONS
from thresher.filters.rule_sets import RULE_SETS
from thresher.filters.signal_options import SignalOptions, choices_of
from thresher.filters.signal_spec import SignalSpec
from thresher.filters.signals import SIGNALS
from thresher.filters.text.redpajama import ELSEWHERE, REDPAJAMA_V2
from thresher.jobs import recipe_book
from thresher.schemas.job import job_schema
from thresher.schemas.quantities import Count, Fraction, Size
from thresher.schemas.records import IMAGE_TEXT
from thresher.schemas.rules import RuleSet
from thresher.schemas.step import COLUMN_VERBS, NULL_VERBS, RESERVED
from thresher.schemas.steps import STEPS
from thresher.scorers import registry

PAGES: Final = ("job-file.md", "signals.md", "recipes/README.md")
_TABLE: Final = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_SIMPLE: Final = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
}

# Where the names of what a verb takes are listed.
_LISTED: Final = {
    "filter": "The rule sets and their parameters are on [Signals and rules](signals.md#every-rule-set).",
    "edit": "The refiners and their arguments are [below](#what-edit-can-do). `max_removed` goes with each: "
    "the largest share of a record's words, as in `5%`, that may go before the record is dropped.",
    "score": "More scorers are [below](#what-score-can-do); [your own](scorer.md) are named the same way.",
}

# Where neither a signal's name nor its definition says it.
_UNITS: Final = {
    "unigram_entropy": "nats",
    "mean_line_word_count": "words",
    "url_length": "characters",
    "url_path_depth": "pieces",
    "host": "text",
    "domain": "text",
}

Schema = Mapping[str, Any]


def write_page(text: str) -> str:
    """The page with each of its tables made anew. Raises KeyError for a table that does not exist."""
    return _TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[3]}", text)


def _table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def job_tables() -> str:
    """Every key of the job file, section by section, as JSON Schema has them."""
    schema = job_schema()
    sections = [("The job", schema)]
    for key in ("input", "output", "run"):
        sections.append((f"`{key}`", schema["$defs"][key.capitalize()]))
        if key == "input":
            sections.append(("`input.limits`", schema["$defs"]["Limits"]))
    return "\n".join(_section(title, found, schema) for title, found in sections)


def step_tables() -> str:
    """Every verb with its options, and the keys that stand beside a verb."""
    schema = job_schema()
    return "\n".join([*(_verb(verb, schema) for verb in STEPS), _beside(schema)])


def _verb(verb: str, schema: Schema) -> str:
    step = schema["$defs"][STEPS[verb].__name__]
    written = step["properties"][verb]
    lines = [f"### `{verb}`", "", f"{step['description']} {written['description']}", ""]
    models = [model for model in _models(written, schema) if model.get("properties")]
    if not models:
        lines += [f"Written as: {_type(written, schema)}.", ""]
    for model in models:
        inner = {
            key: _models(value, schema)[0]
            for key, value in model["properties"].items()
            if verb in ("dedup", "score", "retrieve") and _models(value, schema)
        }
        if not inner or verb == "retrieve":
            lines.append(_keys(model, schema))
        for key, found in inner.items():
            lines += [
                f"#### `{verb}: {{{key}: …}}`",
                "",
                _prose(found["description"]),
                "",
                _keys(found, schema),
            ]
    return "\n".join([*lines, *([_LISTED[verb], ""] if verb in _LISTED else ())])


def _beside(schema: Schema) -> str:
    step = schema["$defs"]["ScoreStep"]
    beside = {**step, "properties": {key: step["properties"][key] for key in RESERVED}}
    text = (
        f"These keys may stand beside a verb: `as` for {_all(COLUMN_VERBS)}; "
        f"`on_null` for {_all(NULL_VERBS)}."
    )
    lines = ["### Beside a verb", "", text, "", _keys(beside, schema)]
    return "\n".join([*lines, "#### `resources`", "", _keys(schema["$defs"]["Resources"], schema)])


def _all(verbs: Sequence[str]) -> str:
    *most, last = (f"`{verb}`" for verb in verbs)
    return f"{', '.join(most)} and {last}"


def _section(title: str, model: Schema, schema: Schema) -> str:
    return f"### {title}\n\n{_prose(model['description'])}\n\n{_keys(model, schema)}"


def _prose(description: str) -> str:
    return " ".join(description.split())


def _keys(model: Schema, schema: Schema) -> str:
    needed = model.get("required", [])
    rows = (
        [f"`{key}`", _type(field, schema), _default(key in needed, field), _describe(field, schema)]
        for key, field in model["properties"].items()
    )
    return _table(["key", "value", "default", "what it is"], rows)


def _describe(field: Schema, schema: Schema) -> str:
    return str(field.get("description") or schema["$defs"][field["$ref"].rpartition("/")[2]]["description"])


def _default(needed: bool, field: Schema) -> str:
    value = field.get("default")
    if needed:
        return "must be given"
    if value is None or value == "" or value == [] or value == {}:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(field: Schema, schema: Schema) -> str:
    if "$ref" in field:
        model = schema["$defs"][field["$ref"].rpartition("/")[2]]
        keys = model.get("properties", {})
        return f"{{{', '.join(keys)}}}" if keys else "{NAME: {ARGUMENT: VALUE}}"
    if amount := _amount(field):
        return amount
    for kind in ("anyOf", "oneOf"):
        if kind in field:
            found = [_type(option, schema) for option in field[kind] if option.get("type") != "null"]
            return " or ".join(dict.fromkeys(found))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field["type"] == "array":
        item = field["items"]
        return "list of steps" if "oneOf" in item else f"list of {_type(item, schema)}"
    if field["type"] == "object":
        names = field.get("propertyNames", {}).get("enum")
        return f"mapping from {', '.join(names)} to text" if names else "mapping"
    return _SIMPLE[field["type"]] + _bounds(field)


def _amount(field: Schema) -> str:
    """What quantities.py reads in more than one notation."""
    from pydantic import TypeAdapter

    options = field.get("anyOf")
    for kind, told in ((Size, "size, as in `256MB`"), (Fraction, "share, as in `10%` or `0.1`")):
        if options is not None and TypeAdapter(kind).json_schema()["anyOf"] == options:
            return told
    plain = {key: value for key, value in field.items() if key in ("type", "minimum")}
    return "count, as in `5e9`" if plain == TypeAdapter(Count).json_schema() else ""


def _bounds(field: Schema) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    found = [f"{word} {field[key]}" for key, word in words.items() if key in field and field[key] < 2**62]
    return f", {' and '.join(found)}" if found else ""


def _models(field: Schema, schema: Schema) -> list[Schema]:
    options = [field, *field.get("anyOf", ())]
    names = [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]
    return [schema["$defs"][name] for name in names]


def record_table() -> str:
    """The columns of a record that rules, scorers and selections may read besides signals."""
    told = {
        "id": "the input's field `id`, or the one that `columns` names; else the WARC-Record-ID; else a hash",
        "image": "the encoded image, in image-text jobs; null until `download` has fetched it",
        "text": "the text; of an image its caption",
        "url": "its address, where the input has one",
        "source": "file and offset: a byte, a line's first byte or a row",
        "date": "as the input gives it",
        "lang": "made by `language`",
        "lang_score": "made by `language`, in [0, 1]",
        "meta": "the input's other fields, as JSON",
    }
    return _table(
        ["column", "type", "what it is"], ([f"`{f.name}`", str(f.type), told[f.name]] for f in IMAGE_TEXT)
    )


def signal_table() -> str:
    """Every signal with its unit, its definition and where it was first described."""
    rows = ([f"`{s.name}`", _unit(s), s.doc, s.source or "ours"] for s in SIGNALS.values())
    return _table(["signal", "unit", "definition", "source"], rows)


def _unit(signal: SignalSpec) -> str:
    name, doc = signal.name, signal.doc
    if name in _UNITS:
        return _UNITS[name]
    if signal.family in ("header", "bytes", "pixels", "caption"):
        return signal.unit
    if doc.startswith("Whether (1 or 0)") or name in ("line_word_counts", "line_javascript_counts"):
        return "list, a number for each line"
    if name.startswith("line_") and name.endswith("_fractions"):
        return "list, a share for each line"
    if name.startswith(("mean_", "max_")) and not name.endswith("_fraction"):
        return "characters"
    if "per word" in doc:
        return "per word"
    counted = re.fullmatch(
        r"(?:.*_)?(byte|char|word|line|paragraph|sentence|bracket)_count(?:_any_ending)?", name
    )
    if counted:
        return {"char": "character"}.get(counted[1], counted[1]) + "s"
    return "occurrences" if name.endswith("_count") else "share, 0 to 1"


def rule_tables() -> str:
    """Every rule of every rule set."""
    return "\n".join(_rule_set(rules) for rules in RULE_SETS.values())


def _rule_set(rules: RuleSet) -> str:
    rows = (
        [
            f"`{rule.reason}`",
            f"`{rule.expression}`",
            ", ".join(f"`{name}: {_plain(value)}`" for name, value in rule.parameters.items()),
            rule.source,
        ]
        for rule in rules.rules
    )
    table = _table(["reason", "a record stays where", "parameters", "source"], rows)
    return f"### `{rules.name}`\n\n{rules.source}.\n\n{table}"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def function_list() -> str:
    """The functions of the rule language with how many arguments each takes."""
    rows = (
        [f"`{name}`", f"{f.least}" if f.least == f.most else f"{f.least} to {f.most}", f.gives]
        for name, f in FUNCTIONS.items()
    )
    return _table(["function", "arguments", "gives"], rows)


def refiner_tables() -> str:
    """The refiners that come with thresher, with their arguments."""
    return _plugin_tables(registry.REFINER, ())


def scorer_tables() -> str:
    """The scorers that come with thresher, but for fasttext, which has its table among the verbs."""
    return _plugin_tables(registry.SCORER, ("fasttext",))


def _plugin_tables(kind: registry.Kind[Any], left_out: Sequence[str]) -> str:
    tables = []
    for name in kind.own:
        if name not in left_out:
            found = registry.find(kind, name)
            parameters = inspect.signature(found).parameters.values()
            rows = ([f"`{p.name}`", _argument(p)] for p in parameters)
            told = inspect.cleandoc(found.__doc__ or "")
            tables.append(f"### `{name}`\n\n{told}\n\n{_table(['argument', 'default'], rows)}")
    return "\n".join(tables)


def _argument(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "must be given"
    value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return "none" if value in (None, "", []) else f"`{_plain(value)}`"


def option_table() -> str:
    """What a job may set beside a rule set's parameters: the options of signals."""
    rows = (
        [f"`{name}`", ", ".join(f"`{one}`" for one in choices_of(name)) or _kind_of(value), _written(value)]
        for name, value in vars(SignalOptions()).items()
    )
    return _table(["option", "value", "default"], rows)


def _kind_of(value: Any) -> str:
    if isinstance(value, tuple):
        return "list of words, or `by_language`"
    return "text" if isinstance(value, str) else "number" if isinstance(value, float) else "whole number"


def _written(value: Any) -> str:
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def redpajama_table() -> str:
    """The signals of RedPajama-V2, which of ours they are, and where one differs."""
    rows = [
        *([f"`{name}`", f"`{one.column}`", one.difference] for name, one in REDPAJAMA_V2.items()),
        *([f"`{name}`", "", f"not in the set: {how}"] for name, how in ELSEWHERE.items()),
    ]
    return _table(["RedPajama-V2", "signal here", "what differs"], iter(rows))


def recipe_table() -> str:
    """Every recipe with its paper."""
    rows = (
        [f"[{r['name']}]({r['name'].removesuffix('-teacher')}.md)", r["what"], r["paper"]]
        for r in recipe_book.listed()
    )
    return _table(["recipe", "what it makes", "paper"], rows)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "job": job_tables,
    "steps": step_tables,
    "record": record_table,
    "signals": signal_table,
    "rules": rule_tables,
    "functions": function_list,
    "refiners": refiner_tables,
    "scorers": scorer_tables,
    "options": option_table,
    "redpajama": redpajama_table,
    "recipes": recipe_table,
}


def main(arguments: Sequence[str]) -> int:
    """Rewrites the pages, or says which are stale."""
    stale = []
    for name in PAGES:
        page = Path(__file__).parent / name
        text = page.read_text(encoding="utf-8")
        made = write_page(text)
        if made != text:
            stale.append(name)
            if "--check" not in arguments:
                page.write_text(made, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"stale: {', '.join(stale)}; run python docs/make_reference.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
