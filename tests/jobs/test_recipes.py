"""The recipes as a person finds, prints and reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import thresher
import yaml
from click.testing import CliRunner, Result
from thresher.jobs import recipe_book
from thresher.jobs.cli import cli

PUBLISHED = [
    "align",
    "attention-influence",
    "betr",
    "betr-teacher",
    "c4",
    "ccnet",
    "celadon",
    "color-filter",
    "data-data-everywhere",
    "datacomp-basic",
    "datacomp-clip-score",
    "datacomp-image-based",
    "dclm-baseline",
    "dclm-fasttext",
    "dfn",
    "dinov2",
    "dsir",
    "fineweb",
    "fineweb-edu",
    "hierarchical-kmeans",
    "imagenet21k",
    "laion",
    "language-models-in-the-loop",
    "massivetext",
    "metaclip",
    "mofi",
    "perplexity-correlations",
    "perplexity-correlations-teacher",
    "preselect",
    "preselect-teacher",
    "pretrainers-guide",
    "prior",
    "q16",
    "redpajama-v2",
    "refinedweb",
    "semdedup",
    "t-mars",
    "url-classification",
    "urlbert",
    "wukong",
]
DOCS = Path(thresher.__file__).parent / "docs" / "recipes"


def command(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["recipes", *arguments], prog_name="thresher")


def test_the_list_has_every_recipe_with_its_paper() -> None:
    assert recipe_book.names() == PUBLISHED
    printed = command()
    assert printed.exit_code == 0
    for name in PUBLISHED:
        assert re.search(rf"^{name} +\S.*\n +.*arXiv:\d{{4}}\.\d{{5}}", printed.output, re.MULTILINE)
    rows = json.loads(command("--json").output)
    assert [row["name"] for row in rows] == PUBLISHED
    assert all(set(row) == {"name", "what", "paper"} for row in rows)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_printed_as_the_file_that_it_is(name: str, tmp_path: Path) -> None:
    printed = command(name)
    assert printed.exit_code == 0
    file = Path(recipe_book.__file__).with_name("recipes") / f"{name}.yaml"
    assert printed.output == file.read_text(encoding="utf-8")
    assert json.loads(command(name, "--json").output)["text"] == printed.output
    (tmp_path / "job.yaml").write_text(printed.output, encoding="utf-8")
    job = thresher.load(tmp_path / "job.yaml", check=False)
    assert job.name == name


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_a_recipe_leaves_as_a_comment_is_a_valid_step_too(name: str, tmp_path: Path) -> None:
    """With every commented step in force the job is still one that loads."""
    text = re.sub(r"^  # (- |  as:|  name:)", r"  \1", recipe_book.read(name).text, flags=re.MULTILINE)
    (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
    job = thresher.load(tmp_path / "job.yaml", check=False)
    assert len(job.steps) == len(yaml.safe_load(text)["steps"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_page_of_a_recipe_has_the_paper_and_says_where_it_departs(name: str) -> None:
    method = name.removesuffix("-teacher")
    page = (DOCS / f"{method}.md").read_text(encoding="utf-8")
    recipe = recipe_book.read(name)
    (number,) = re.findall(r"arXiv:\d{4}\.\d{5}", recipe.paper)
    assert number in page
    table = re.search(r"^\| the paper.* \| here \| what differs \|\n(\|.*\n)+", page, re.MULTILINE)
    assert table
    for step in yaml.safe_load(recipe.text)["steps"]:
        verb, value = next(iter(step.items()))
        main = next(iter(value)) if isinstance(value, dict) and verb != "language" else value
        shown = f"{verb}: {main}" if isinstance(value, str) else f"{verb}: {{"
        assert f"`{shown}" in table[0]
        assert verb == "language" or main in table[0]
    assert f"$ thresher recipes {name} > {'job' if name == method else 'teacher'}.yaml" in page
    assert f"docs/recipes/{method}.md" in recipe.text


def test_an_unknown_recipe_names_the_nearest_and_exits_with_2() -> None:
    wrong = command("finewebb")
    assert wrong.exit_code == 2
    assert 'unknown recipe "finewebb" (did you mean fineweb?)' in wrong.output
    with pytest.raises(recipe_book.UnknownRecipeError, match=r'"\.\./c4"'):
        recipe_book.read("../c4")
