"""A model of the tokens that occur, and the same model of all tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from thresher.scorers.clip.training.start import SMALL_MODEL
from thresher.scorers.clip.training.vocabulary import CompactVocabulary, is_compactable

BEGIN, END = 49406, 49407


def test_what_occurs_keeps_its_order_and_the_rest_is_one() -> None:
    learned = np.array([[BEGIN, 500, 9, END, 0], [BEGIN, 9, 9, END, 0]], np.int32)
    vocabulary = CompactVocabulary.of(learned)
    assert vocabulary.size == 6
    assert vocabulary.compact(learned).tolist() == [[3, 2, 1, 5, 0], [3, 1, 1, 5, 0]]
    unseen = np.array([[BEGIN, 777, 500, END, 0]], np.int32)
    assert vocabulary.compact(unseen).tolist() == [[3, vocabulary.unknown, 2, 5, 0]]


def test_the_model_of_all_tokens_gives_the_embeddings_of_the_compact_one(open_clip: Any) -> None:
    torch = pytest.importorskip("torch")
    from thresher.scorers.clip.architecture import built

    tokenizer = open_clip.SimpleTokenizer(context_length=32)
    vocabulary = CompactVocabulary.of(tokenizer(["a red house by the lake", "two cats"]).numpy())
    torch.manual_seed(0)
    compact = built(vocabulary.configured(SMALL_MODEL)).eval()
    whole = built(SMALL_MODEL).eval()
    whole.load_state_dict(vocabulary.expanded(compact.state_dict()))
    tokens = tokenizer(["a red cat", "zebras by the lake", "", "house " * 50])
    with torch.no_grad():
        theirs = whole.encode_text(tokens)
        ours = compact.encode_text(torch.from_numpy(vocabulary.compact(tokens.numpy())).long())
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("changed", "can_be"),
    [
        ({}, True),
        ({"vocab_size": 32000}, False),
        ({"hf_tokenizer_name": "of-someone"}, False),
        ({"pool_type": "last"}, False),
    ],
)
def test_only_what_reads_the_tokens_of_clip_is_made_compact(changed: dict[str, Any], can_be: bool) -> None:
    text = {**SMALL_MODEL["text_cfg"], **changed}
    assert is_compactable({**SMALL_MODEL, "text_cfg": text}) is can_be
    assert not is_compactable({**SMALL_MODEL, "custom_text": True})
