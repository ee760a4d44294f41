"""Questions put to a language model: how a record is written into one, and what its answers stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .functions import ABSTAINS
from .labels import checked_names

_COLUMN: Final = re.compile(r"\[([a-z][a-z0-9_]*)\]")
_KEYS: Final = frozenset({"name", "template", "answers"})


@dataclass(frozen=True)
class Prompt:
    """A question: a template in which `[text]` stands for a column, and answers with the class of each."""

    name: str
    template: str
    answers: tuple[str, ...]
    labels: tuple[int | None, ...]  # the number of each answer's class; None abstains

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template names."""
        return tuple(dict.fromkeys(_COLUMN.findall(self.template)))

    def written(self, values: Mapping[str, str]) -> str:
        """The question with these values in the places of the columns."""
        return _COLUMN.sub(lambda place: values[place[1]], self.template)


def read_prompts(prompts: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> tuple[Prompt, ...]:
    """The prompts of a job. Raises ValueError for what can be none."""
    checked_names([str(one.get("name", "")) for one in prompts], "prompts", 1)
    return tuple(_read(one, classes) for one in prompts)


def _read(prompt: Mapping[str, Any], classes: Sequence[str]) -> Prompt:
    name = str(prompt["name"])
    for key in sorted(set(prompt) ^ _KEYS):
        told = "is not known" if key in prompt else "is missing"
        raise ValueError(f"prompt {name}: {key} {told}; it has {', '.join(sorted(_KEYS))}")
    answers: Mapping[Any, Any] = prompt["answers"]
    if len(answers) < 2:
        raise ValueError(f"prompt {name}: there is nothing to choose from; write two answers or more")
    for answer, label in answers.items():
        if not isinstance(answer, str) or not answer.strip():
            raise ValueError(f'prompt {name}: answer {answer!r} is no text; write it in quotes, as "Yes"')
        if label not in (*classes, ABSTAINS):
            raise ValueError(f"prompt {name}: {label!r} is none of {', '.join((*classes, ABSTAINS))}")
    labels = tuple(None if label == ABSTAINS else classes.index(label) for label in answers.values())
    made = Prompt(name, str(prompt["template"]), tuple(answers), labels)
    if not made.columns:
        raise ValueError(f"prompt {name}: the template names no column; write [text] where the text belongs")
    if all(label is None for label in labels):
        raise ValueError(f"prompt {name}: all answers abstain")
    return made
