"""The pages of the documentation: what they show happens, what they list exists, and nothing is left out."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import thresher
import yaml
from thresher.filters.rule_sets import RULE_SETS
from thresher.filters.signals import SIGNALS
from thresher.jobs.cli import cli
from thresher.schemas import decontamination, dedup, images, job, selection, step, steps, verbs
from thresher.schemas.contracts import AssetError
from thresher.scorers import kenlm_tools, registry

ROOT = Path(thresher.__file__).parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
RECIPES = sorted((DOCS / "recipes").glob("*.md"))
HOUSE_PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
SCRIPT = DOCS / "make_reference.py"


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


page = _load("documentation_page", Path(__file__).with_name("page.py"))
crawl = _load("documentation_crawl", Path(__file__).parents[1] / "recipes" / "conftest.py")


services = _load("beam_services", Path(__file__).parents[1] / "engines" / "beam_services.py")
clusters = _load("ray_head", Path(__file__).parents[1] / "jobs" / "ray_head.py")


# Pages with many runs of whole jobs.
LONG = (
    *(
        "accounts",
        "balance",
        "clip",
        "clip-heads",
        "clusters",
        "dedup",
        "filter-network",
        "retrieve",
        "scorer",
    ),
    *("encoders", "language-models", "mixtures", "plugins", "select", "semantic-dedup", "signals"),
    *("teacher-student", "weak-supervision"),
)
# Pages whose reader has PyTorch.
WITH_MODELS = ("clip", "clip-heads", "filter-network", "language-models", "encoders")
# Pages whose reader has a cluster.
ON_CLUSTERS = ("beam", "ray")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.slow) if path.stem in LONG else path
        for path in PAGES
        if path.stem not in ON_CLUSTERS
    ],
    ids=lambda path: path.stem,
)
def test_what_a_page_tells_its_reader_to_do_works_as_it_shows(path: Path, tmp_path: Path) -> None:
    if path.stem in WITH_MODELS:
        pytest.importorskip("torch")
    text = path.read_text(encoding="utf-8")
    if "run.engine=ray" in text:
        pytest.importorskip("ray", reason="needs ray[default]")
    page.follow(text, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_on_ray_works_beside_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs ray[default]")
    (tmp_path / "shared").mkdir()
    with clusters.ray_head() as head:
        monkeypatch.setenv("CLUSTER", head.dashboard)
        monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
        monkeypatch.setenv("SHARED", str(tmp_path / "shared"))
        page.follow((DOCS / "ray.md").read_text(encoding="utf-8"), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_on_beam_works_beside_a_job_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("apache_beam", reason="needs apache-beam")
    with services.beam_services(tmp_path / "services") as started:
        monkeypatch.setenv("JOBS", f"{services.LOOPBACK}:{started.job_port}")
        monkeypatch.setenv("WORKERS", f"{services.LOOPBACK}:{started.worker_port}")
        page.follow((DOCS / "beam.md").read_text(encoding="utf-8"), tmp_path)


def test_the_examples_of_clusters_are_what_ray_and_kuberay_read_and_name_one_image() -> None:
    folder = DOCS / "cluster"
    cluster = yaml.safe_load((folder / "ray-cluster.yaml").read_text(encoding="utf-8"))
    config, job = yaml.safe_load_all((folder / "rayjob.yaml").read_text(encoding="utf-8"))
    (head,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    image = cluster["docker"]["image"]
    assert head["image"] == worker["image"] == image
    assert f"--target ray -t {image} " in (folder / "Dockerfile").read_text(encoding="utf-8")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"ray=={job['spec']['rayClusterSpec']['rayVersion']}\n" in constraints
    assert f"sdk:{re.findall(r'apache.beam==(.*)', constraints)[0]} " in (folder / "Dockerfile").read_text()
    (mounted,) = head["volumeMounts"]
    assert job["spec"]["entrypoint"] == f"thresher run {mounted['mountPath']}/job.yaml"
    (volume,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    loaded = thresher.load(yaml.safe_load(config["data"]["job.yaml"]), check=False)
    assert (loaded.run.engine, loaded.run.ray.address) == ("ray", "auto")


def test_ray_takes_the_example_of_a_cluster() -> None:
    pytest.importorskip("ray", reason="needs ray[default]")
    from ray.autoscaler._private.util import prepare_config, validate_config

    example = yaml.safe_load((DOCS / "cluster" / "ray-cluster.yaml").read_text(encoding="utf-8"))
    complete = prepare_config(example)
    validate_config(complete)
    assert complete["max_workers"] == len(example["provider"]["worker_ips"])


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipes_page_works_beside_a_crawl(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "thresher train kenlm" in text:
        pytest.importorskip("sentencepiece", reason="needs the package sentencepiece")
        pytest.importorskip("kenlm", reason="needs the package kenlm")
        try:
            kenlm_tools.find()
        except AssetError as error:
            pytest.skip(str(error))
    made = crawl.pages()
    (tmp_path / "crawl").mkdir()
    (tmp_path / "crawl" / "sample.warc.gz").write_bytes(b"".join(map(crawl.as_warc, made)))
    (tmp_path / "crawl" / "sample.warc.wet.gz").write_bytes(b"".join(map(crawl.as_wet, made)))
    for name in ("good.jsonl", "wiki.jsonl"):
        texts = [" ".join(crawl.prose(seed)) for seed in range(800, 1000)]
        (tmp_path / name).write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    page.follow(text, tmp_path)


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["kept 5"], "kept 5\n", True),
        (["kept 5"], "kept 50\n", False),
        (["kept 5"], "kept 5\nmore\n", False),
        (["in …/out, … s"], "in /tmp/x/out, 2 s\n", True),
        (["in …/out"], "in /tmp/x/in\n", False),
        (["first", "…"], "first\nsecond\nthird\n", True),
        (["…", "last"], "first\nlast\n", True),
        (["…", "last"], "first\n", False),
        (["a.c"], "abc\n", False),
        ([], "anything\n", True),
        (["something"], "", False),
    ],
)
def test_an_ellipsis_stands_for_anything_and_everything_else_for_itself(
    shown: list[str], printed: str, same: bool
) -> None:
    assert page.matches(printed, shown) is same


def test_a_page_whose_command_fails_or_prints_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit status 3"):
        page.follow("```console\n$ exit 3\n```\n", tmp_path)
    page.follow("```console\n$ exit 3\n$ echo $?\n3\n```\n", tmp_path)
    with pytest.raises(AssertionError, match="the page shows"):
        page.follow("```console\n$ echo one\ntwo\n```\n", tmp_path)


def test_a_page_writes_its_files_before_the_commands_below_them_and_runs_nothing_else(tmp_path: Path) -> None:
    text = (
        '```yaml title="a/b.yaml"\nx: 1\n```\n```console\n$ cat a/b.yaml\nx: 1\n```\n'
        '```yaml title="a/b.yaml"\nx: 2\n```\n```console\n$ cat a/b.yaml\nx: 2\n```\n'
        "```sh\ntouch never\n```\n"
    )
    page.follow(text, tmp_path)
    assert not (tmp_path / "never").exists()


def test_the_tables_of_the_reference_are_those_of_the_program() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_signal_is_on_the_page_of_signals_with_its_definition() -> None:
    rows = _rows(DOCS / "signals.md")
    for name, spec in SIGNALS.items():
        _, unit, definition, source = rows[name]
        assert unit
        assert definition == spec.doc
        assert source == (spec.source or "ours")


def test_every_rule_is_on_the_page_of_signals_with_its_parameters_and_source() -> None:
    text = (DOCS / "signals.md").read_text(encoding="utf-8")
    for rules in RULE_SETS.values():
        _, heading, rest = text.partition(f"### `{rules.name}`\n")
        assert heading, rules.name
        section = rest.partition("\n### ")[0]
        for rule in rules.rules:
            rows = section.replace("\\|", "|").splitlines()
            (line,) = [line for line in rows if line.startswith(f"| `{rule.reason}` |")]
            assert rule.source in line
            for name, value in rule.parameters.items():
                assert f"`{name}: {yaml.safe_dump(value).split(chr(10))[0]}`" in line


def test_every_verb_and_option_of_a_job_is_on_its_page() -> None:
    text = (DOCS / "job-file.md").read_text(encoding="utf-8")
    assert [verb for verb in steps.STEPS if f"### `{verb}`\n" not in text] == []
    models = [job.Job, job.Input, job.Output, job.Run, verbs.Resources, dedup.Exact, dedup.MinHash]
    models += [verbs.Extract, verbs.Language, verbs.Url, verbs.FastText, verbs.SignalColumns, job.Limits]
    models += [selection.Select, selection.Bucket, selection.Mix, decontamination.Decontaminate]
    models += [dedup.Lines, dedup.Paragraphs, dedup.Perceptual, images.Download, images.Resize]
    models += [images.Frequency, images.Balance, images.Vocabulary]
    keys = {info.alias or name for model in models for name, info in model.model_fields.items()}
    rows = _rows(DOCS / "job-file.md")
    assert sorted(keys - set(rows)) == []
    assert sorted(set(step.RESERVED) - set(rows)) == []


def test_every_refiner_and_scorer_is_on_the_page_of_the_job_with_its_arguments() -> None:
    text = (DOCS / "job-file.md").read_text(encoding="utf-8")
    for kind in (registry.REFINER, registry.SCORER):
        for name in set(kind.own) - {"fasttext"}:
            _, heading, rest = text.partition(f"### `{name}`\n")
            assert heading, name
            section = rest.partition("\n### ")[0]
            arguments = inspect.signature(registry.find(kind, name)).parameters
            assert [one for one in arguments if f"| `{one}` |" not in section] == []


def test_the_readme_names_every_command_and_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in cli.commands if f"`thresher {name}" not in text] == []
    assert [path.name for path in PAGES if f"(docs/{path.name})" not in text] == []
    assert "(docs/recipes/README.md)" in text
    listed = (DOCS / "recipes" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in RECIPES if path.stem != "README" and f"({path.name})" not in listed] == []


def test_the_job_in_the_readme_is_a_valid_job(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    written = re.findall(r"^```yaml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "job.yaml").write_text(written[0], encoding="utf-8")
    loaded = thresher.load(tmp_path / "job.yaml", check=False)
    assert [one.name for one in loaded.steps][-1] == "select:quality"


@pytest.mark.parametrize("path", [*HOUSE_PAGES, *PAGES, *RECIPES], ids=lambda path: path.stem)
def test_every_link_to_a_file_leads_to_one(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (path.parent / link).exists()] == []


def _rows(path: Path) -> dict[str, list[str]]:
    """The rows of the page's tables whose first cell is code, by that code, as lists of cells."""
    rows: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[^`]+`", cells[0]):
            rows[cells[0].strip("`")] = [cell.replace("\\|", "|") for cell in cells]
    return rows
