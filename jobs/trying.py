"""One step on one text: what it computes, what it decides and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..pipeline.accounts import Accounts
from ..pipeline.operator import Output
from ..pipeline.stage import StreamRef
from .checking import check_outline
from .outline import Outline
from .problems import JobFileError, Problem
from .validation import validate_step
from .yaml_source import read_yaml

if TYPE_CHECKING:
    import pyarrow as pa

    from ..schemas.job import Modality
    from ..schemas.step import Step

_CORPUS: Final = {
    "dedup": "a duplicate is one only beside other records; run the job with --limit to see what it finds",
    "select": "a selection ranks a whole corpus; run the job with --limit to see what it keeps",
    "sample": "a sample draws records by their id, not by their text",
    "limit": "a limit counts records, whatever their text",
    "bucket": "percentiles are those of a whole corpus; run the job with --limit to see them",
    "decontaminate": "it needs an index of the evaluation sets; run the job with --limit to see it",
    "mix": "a mix weighs inputs against each other, whatever their text",
    "frequency": "it counts over a whole corpus; run the job with --limit to see it",
    "balance": "it counts over a whole corpus; run the job with --limit to see it",
    "vocabulary": "it counts over a whole corpus; run the job with --limit to see it",
    "cluster": "clusters are those of a whole corpus; run the job with --limit to see them",
    "hierarchical_sample": "it draws from a whole corpus; run the job with --limit to see it",
    "retrieve": "it ranks a whole corpus; run the job with --limit to see it",
    "download": "it fetches from the web; run the job with --limit to see what it finds",
}


class _Ledger(Output):
    """Remembers the ledger row of the only record, if there is one."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.rows_in = 0
        self.row: dict[str, Any] | None = None

    def emit(self, stream: str, batch: pa.RecordBatch) -> None:
        if stream == "ledger" and len(batch):
            (self.row,) = batch.to_pylist()

    def new_file(self, name: str) -> Path:
        raise NotImplementedError(f"an operator that is tried writes no file: {name}")

    def attach(self, stream: str, file: StreamRef) -> None:
        raise NotImplementedError(f"an operator that is tried adds no stream: {stream}")


class NeedsCorpusError(Exception):
    """The step decides about many records at once; the message says what to do instead of trying it."""


class Record(NamedTuple):
    """The only record: its text, page or caption, its address, its image."""

    payload: bytes
    url: str | None = None
    image: bytes | None = None

    @property
    def text(self) -> str:
        return self.payload.decode("utf-8", "replace")

    @property
    def columns(self) -> dict[str, pa.Array]:
        """What a step may read of it before any other step."""
        import pyarrow as pa

        words = {"id": "try", "text": self.text, "url": self.url, "source": "try", "date": None, "meta": None}
        columns = {name: pa.array([value], pa.string()) for name, value in words.items()}
        if self.image is not None:
            columns["image"] = pa.array([self.image], pa.binary())
        return columns


def try_step(
    text: str,
    payload: bytes,
    *,
    allow_code: bool = False,
    url: str | None = None,
    image: bytes | None = None,
) -> dict[str, Any]:
    """What the step `text` (YAML, as in a job) makes of one record whose text, page or address is `payload`.

    With an `image`, the payload is its caption.

    The answer has `step`, `verdict` (kept, dropped, error, or computed where the step only adds columns),
    `reason`, `value`, `columns`, and for rules `rules`: reason, expression, whether it holds, what decided.
    Raises JobFileError where the step is wrong, NeedsCorpusError where one record is not enough.
    """
    step = _step(text, allow_code, "text" if image is None else "image-text")
    if step.kind in _CORPUS:
        raise NeedsCorpusError(f"{step.kind} cannot be tried on one record: {_CORPUS[step.kind]}")
    answer: dict[str, Any] = {
        "step": step.name,
        "verdict": "kept",
        "reason": None,
        "value": None,
        "columns": {},
    }
    tried = {"extract": _extract, "language": _language, "url": _url, "score": _score}
    tried |= dict.fromkeys(("edit", "signals", "resize"), _operator)
    return {**answer, **tried.get(step.kind, _rules)(step, Record(payload, url, image), allow_code)}


def _step(text: str, allow_code: bool, modality: Modality) -> Step:
    document = read_yaml(text)
    label = "step"
    if isinstance(document.value, list) and len(document.value) == 1:
        document.value = document.value[0]
    if document.problems:
        raise JobFileError(document.problems, label)
    step, problems = validate_step(document.value)
    if step is None:
        raise JobFileError(problems, label)
    missing = "unknown column"
    found = check_outline(Outline(steps=[step], modality=modality), allow_code)
    # One step stands alone: the columns of others are not there, and it has no page to extract from.
    wrong = [problem for problem in found if step.kind == "rule" or not problem.message.startswith(missing)]
    wrong = [Problem(problem.path[2:], problem.message, problem.suggestion) for problem in wrong]
    if wrong:
        raise JobFileError(wrong, label)
    return step


def _extract(step: Step, record: Record, allow_code: bool) -> dict[str, Any]:
    import pyarrow as pa

    from ..filters.text.extraction import extract

    found = extract(
        pa.array([record.payload], pa.binary()),
        pa.array([None], pa.string()),
        pa.array([record.url], pa.string()),
        step.options.with_,
    ).to_pylist()[0]
    error = found.pop("error")
    verdict = "computed" if error is None else "dropped" if error == "empty_extraction" else "error"
    return {"verdict": verdict, "reason": error, "columns": found}


def _language(step: Step, record: Record, allow_code: bool) -> dict[str, Any]:
    import pyarrow as pa

    from ..filters.text.language import LanguageIdentifier

    options = step.options
    arguments: dict[str, Any] = {"model": options.model} if options.model else {}
    if options.max_chars is not None:
        arguments["max_chars"] = options.max_chars
    identifier = LanguageIdentifier(**arguments)
    identifier.open()
    language, score = (column[0].as_py() for column in identifier.identify(pa.array([record.text])))
    columns = {"lang": language, "lang_score": score}
    value = f"{language} {score:.6g}" if score is not None else "null"
    if language not in options.keep:
        return {"verdict": "dropped", "reason": "other_language", "value": value, "columns": columns}
    if score is None or score < options.min_score:
        return {"verdict": "dropped", "reason": "low_score", "value": value, "columns": columns}
    return {"columns": columns}


def _url(step: Step, record: Record, allow_code: bool) -> dict[str, Any]:
    import pyarrow as pa

    from ..filters.text.url import UrlFilter

    address = record.url or record.text.strip()
    checker = UrlFilter(**step.options.model_dump(exclude_none=True))
    reason, value = (column[0].as_py() for column in checker.check(pa.array([address], pa.string())))
    verdict = "kept" if reason is None else "dropped"
    return {"verdict": verdict, "reason": reason, "value": value, "columns": {"url": address}}


def _rules(step: Step, record: Record, allow_code: bool) -> dict[str, Any]:
    """A rule set or one rule: every signal it reads, and for each rule whether it holds."""
    from ..filters.expressions import evaluate_rules, parse
    from ..filters.rule_sets import RULE_SETS, split_arguments

    options = step.options
    signal_options: dict[str, Any] = {}
    if step.kind == "filter":
        rule_set = RULE_SETS[options.rule_set]
        parameters, signal_options = split_arguments(rule_set, options.arguments)
        rules = [(rule.reason, rule.expression) for rule in rule_set.rules]
    else:
        parameters, rules = {}, [(step.name.removeprefix("rule:"), options)]
    parsed = [(reason, parse(expression, parameters)) for reason, expression in rules]
    names = sorted({column for _, expression in parsed for column in expression.columns})
    columns = _columns(names, record, signal_options)
    reasons, values = evaluate_rules(parsed, columns, "drop" if step.on_null == "fail" else step.on_null)
    held = []
    for (reason, expression), (_, written) in zip(parsed, rules, strict=True):
        holds, deciding = expression.evaluate(columns)[0].as_py(), expression.deciding(columns)[0].as_py()
        held.append({"reason": reason, "expression": written, "holds": holds, "value": deciding})
    reason = reasons[0].as_py()
    return {
        "verdict": "kept" if reason is None else "dropped",
        "reason": reason,
        "value": values[0].as_py(),
        "columns": {name: column[0].as_py() for name, column in columns.items()},
        "parameters": parameters,
        "rules": held,
    }


def _columns(names: list[str], record: Record, options: Mapping[str, Any]) -> Mapping[str, pa.Array]:
    """The columns of a record that has passed no other step."""
    import pyarrow as pa

    from ..filters.signals import SIGNALS, compute_signals

    known = record.columns
    found = compute_signals(known, [name for name in names if name in SIGNALS], **options)
    nothing = pa.nulls(1, pa.string())
    return {name: found[name] if name in found else known.get(name, nothing) for name in names}


def _score(step: Step, record: Record, allow_code: bool) -> dict[str, Any]:
    import pyarrow as pa

    from ..scorers import registry
    from ..scorers.assets import LocalAssets

    options = step.options
    scorer = registry.build(
        registry.SCORER, options.scorer, options.arguments, directory=Path(), allow_code=allow_code
    )
    scorer.open(LocalAssets([Path()]))
    columns = record.columns
    missing = [name for name in scorer.inputs if name not in columns]
    if missing:
        raise NeedsCorpusError(f"{step.name} reads {', '.join(missing)}, which a lone text does not have")
    batch = pa.RecordBatch.from_pydict({name: columns[name] for name in scorer.inputs})
    scores = {name: column[0].as_py() for name, column in scorer.score(scorer.prepare(batch)).items()}
    if step.as_ and len(scores) == 1:
        scores = {step.as_: next(iter(scores.values()))}
    return {"verdict": "computed", "columns": scores}


def _operator(step: Step, record: Record, allow_code: bool) -> dict[str, Any]:
    """What the operator of a job makes of the record."""
    import pyarrow as pa

    from ..filters.signals import SIGNALS, compute_signals
    from ..pipeline.compilation import compile_step
    from ..pipeline.compiled import MapStep
    from ..pipeline.operator import build
    from ..schemas.job import Job

    job = Job.model_validate({"name": "try", "input": "try", "output": {"path": "try"}})
    compiled = compile_step(step, 0, job, allow_code)
    assert isinstance(compiled, MapStep)
    columns = {**record.columns, "position": pa.array([0], pa.uint64())}
    signals = [name for name in compiled.reads if name.partition("@")[0] in SIGNALS]
    missing = sorted(compiled.reads - columns.keys() - set(signals))
    if missing:
        raise NeedsCorpusError(f"{step.name} reads {', '.join(missing)}, which a lone text does not have")
    columns |= compute_signals(columns, signals)
    out = _Ledger()
    left = build(compiled.operator).apply(pa.RecordBatch.from_pydict(columns), out)
    if out.row is not None:
        return {key: out.row[key] for key in ("verdict", "reason", "value")}
    made = {name: left.column(name)[0].as_py() for name in compiled.adds if name != "image"}
    return {"verdict": "computed", "columns": made}


def told(answer: Mapping[str, Any]) -> str:
    """The answer as lines of text."""
    head = f"{answer['step']}: {answer['verdict']}"
    if answer["reason"] is not None:
        head += f", {answer['reason']}" + (f" ({answer['value']})" if answer["value"] is not None else "")
    lines = [head]
    for rule in answer.get("rules", []):
        mark = {True: "holds", False: "FAILS", None: "null "}[rule["holds"]]
        lines.append(f"  {mark}  {rule['reason']}: {rule['expression']}")
    if answer.get("parameters"):
        lines += ["", *(f"  {name} = {_shown(value)}" for name, value in answer["parameters"].items())]
    if answer["columns"]:
        lines += ["", *(f"  {name} = {_shown(value)}" for name, value in answer["columns"].items())]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        return "\n" + "\n".join(f"    {line}" for line in value.splitlines())
    return json.dumps(value, ensure_ascii=False, default=str)
