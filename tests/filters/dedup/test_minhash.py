"""MinHash against datasketch, against brute-force Jaccard, and on the texts that other tools get wrong."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import random
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from datasketch.lsh import _optimal_param
from hypothesis import given, settings
from hypothesis import strategies as st
from thresher.filters.dedup.minhash import VERSION, MinHashScheme, band_keys, shingle_hashes, signatures
from thresher.filters.dedup.permutations import optimal_bands, permutations
from thresher.filters.text.words import WORDS_VERSION, split_words

SCHEME = MinHashScheme(bands=14, rows=8)
EXACT = MinHashScheme(bands=6, rows=4, ngram=3, words="whitespace", hash="datasketch")

texts = st.lists(st.none() | st.text(st.sampled_from("ab é中\n.\U0001f600"), max_size=60), max_size=8)


def shingles(units: list[str], ngram: int, joint: str) -> list[bytes]:
    if not units:
        return []
    return [joint.join(units[i : i + ngram]).encode() for i in range(max(1, len(units) - ngram + 1))]


def datasketch_signature(elements: list[bytes], scheme: MinHashScheme) -> np.ndarray:
    sketch = MinHash(scheme.bands * scheme.rows, scheme.seed)
    sketch.update_batch(elements)
    return sketch.hashvalues


def sentences(count: int, words: int, seed: int = 0) -> list[list[str]]:
    generator = random.Random(seed)
    return [[f"w{generator.randrange(3000)}" for _ in range(words)] for _ in range(count)]


def edited(words: list[str], edits: int, seed: int) -> list[str]:
    generator, copy = random.Random(seed), list(words)
    for at in generator.sample(range(len(copy)), edits):
        copy[at] = f"edit{generator.randrange(10**6)}"
    return copy


def candidate_pairs(keys: pa.FixedSizeListArray) -> set[tuple[int, int]]:
    meeting = defaultdict(list)
    for document, values in enumerate(keys.to_pylist()):
        for value in values or ():
            meeting[value].append(document)
    return {pair for documents in meeting.values() for pair in combinations(documents, 2)}


@given(texts)
def test_signatures_of_words_equal_those_of_datasketch(documents: list[str | None]) -> None:
    made = signatures(pa.array(documents, pa.string()), EXACT)
    for row, text in zip(made, documents, strict=True):
        expected = datasketch_signature(shingles((text or "").split(), 3, " "), EXACT)
        assert (row == expected).all()


@given(texts)
def test_signatures_of_characters_equal_those_of_datasketch(documents: list[str | None]) -> None:
    scheme = dataclasses.replace(EXACT, unit="characters", ngram=4)
    made = signatures(pa.array(documents, pa.string()), scheme)
    for row, text in zip(made, documents, strict=True):
        characters = list(text) if text and text.strip() else []
        assert (row == datasketch_signature(shingles(characters, 4, ""), scheme)).all()


@given(texts, st.integers(1, 6), st.integers(0, 5))
def test_signatures_with_our_hash_are_those_of_datasketch_given_that_hash(
    documents: list[str | None], ngram: int, seed: int
) -> None:
    scheme = MinHashScheme(bands=5, rows=3, ngram=ngram, seed=seed)
    array = pa.array(documents, pa.string())
    first, hashes = shingle_hashes(array, scheme)
    for document, row in enumerate(signatures(array, scheme)):
        sketch = MinHash(15, seed, hashfunc=int)
        sketch.update_batch(hashes[first[document] : first[document + 1]])
        assert (row == sketch.hashvalues).all()


@given(texts, st.integers(1, 6))
def test_our_hash_of_a_shingle_is_the_folded_polynomial_of_its_words(
    documents: list[str | None], ngram: int
) -> None:
    array = pa.array(documents, pa.string())
    words = split_words(array, "unicode")
    first, hashes = shingle_hashes(array, MinHashScheme(bands=1, rows=1, ngram=ngram))
    for document in range(len(documents)):
        units = words.hash[words.first[document] : words.first[document + 1]].tolist()
        expected = []
        for start in range(max(1, len(units) - ngram + 1) if units else 0):
            total = 0
            for unit in units[start : start + ngram]:
                total = (total * 0x9E3779B97F4A7C15 + unit) % 2**64
            expected.append(((total ^ total >> 32) * 0xD6E8FEB86659FD93 % 2**64) >> 32)
        assert hashes[first[document] : first[document + 1]].tolist() == expected


def test_a_signature_of_a_text_of_many_blocks_equals_that_of_datasketch() -> None:
    words = sentences(1, 5000)[0]
    scheme = dataclasses.replace(EXACT, bands=14, rows=8, ngram=5)
    made = signatures(pa.array([" ".join(words)]), scheme)
    assert (made[0] == datasketch_signature(shingles(words, 5, " "), scheme)).all()


def test_permutations_are_those_of_datasketch() -> None:
    for seed in (0, 1, 7, 2**32 - 1):
        ours = np.array(permutations(112, seed))
        assert (ours == MinHash(112, seed).permutations).all()


@pytest.mark.parametrize("num_perm", [2, 16, 64, 112, 128])
def test_bands_and_rows_for_a_threshold_are_those_of_datasketch(num_perm: int) -> None:
    for threshold in np.linspace(0, 1, 21).tolist():
        assert optimal_bands(threshold, num_perm) == _optimal_param(threshold, num_perm, 0.5, 0.5)
    scheme = MinHashScheme.for_threshold(0.5, num_perm, ngram=2, seed=3)
    assert (scheme.bands, scheme.rows) == optimal_bands(0.5, num_perm)
    assert (scheme.ngram, scheme.seed) == (2, 3)


@pytest.mark.parametrize("hash", ["datasketch", "thresher"])
def test_candidate_pairs_are_those_of_datasketch_lsh(hash: str) -> None:
    originals = sentences(120, 150)
    copies = [edited(words, 1 + i % 16, seed=i) for i, words in enumerate(originals)]
    documents = [" ".join(words) for words in originals + copies]
    scheme = dataclasses.replace(SCHEME, words="whitespace", hash=hash)
    array = pa.array(documents)
    first, hashes = shingle_hashes(array, scheme)

    index, expected = MinHashLSH(num_perm=112, params=(14, 8)), set()
    for document, text in enumerate(documents):
        if hash == "datasketch":
            sketch = MinHash(112, 1)
            sketch.update_batch(shingles(text.split(), 5, " "))
        else:
            sketch = MinHash(112, 1, hashfunc=int)
            sketch.update_batch(hashes[first[document] : first[document + 1]])
        expected |= {(other, document) for other in index.query(sketch)}
        index.insert(document, sketch)

    found = candidate_pairs(band_keys(array, scheme))
    assert found == expected
    assert 30 < len(found) < 110  # some copies are too far from their originals: the test has both sides


def test_pairs_meet_as_often_as_their_true_jaccard_similarity_promises() -> None:
    expected, variance, met, similarities = 0.0, 0.0, 0, []
    for i, words in enumerate(sentences(400, 100, seed=5)):
        copy = edited(words, 1 + i % 8, seed=i)
        a, b = (set(shingles(document, 5, " ")) for document in (words, copy))
        similarity = len(a & b) / len(a | b)
        similarities.append(similarity)
        chance = 1 - (1 - similarity**8) ** 14
        expected, variance = expected + chance, variance + chance * (1 - chance)
        met += len(candidate_pairs(band_keys(pa.array([" ".join(words), " ".join(copy)]), SCHEME)))
    assert min(similarities) < 0.6 < 0.9 < max(similarities)
    assert abs(met - expected) < 4 * variance**0.5


def test_unrelated_documents_do_not_meet() -> None:
    documents = pa.array([" ".join(words) for words in sentences(500, 80)])
    assert not candidate_pairs(band_keys(documents, SCHEME))


def test_documents_shorter_than_a_shingle_meet_only_when_they_are_equal() -> None:
    documents = pa.array(
        ["hello world", "hello  world", "hello there", "hello", "world hello", "hello world"]
    )
    assert candidate_pairs(band_keys(documents, SCHEME)) == {(0, 1), (0, 5), (1, 5)}


def test_chinese_documents_are_compared_by_their_characters() -> None:
    original = (
        "我们今天下午在图书馆里面读了一本关于中国古代历史和文化的书，书里面有很多美丽的图画和有趣的故事。"
    )
    copy = original.replace("。", "！")
    other = "他们昨天晚上去电影院看了一部新的科幻电影，电影结束以后大家一起去吃了火锅，回家已经很晚了。"
    keys = band_keys(pa.array([original, copy, other, "你好", "你好", "再见"]), SCHEME)
    assert candidate_pairs(keys) == {(0, 1), (3, 4)}


def test_documents_without_a_word_are_duplicates_of_nothing() -> None:
    documents = ["", None, " \n\t", "?! ... --", "\x00\x00", "\u200b"]
    assert band_keys(pa.array(documents), SCHEME).null_count == len(documents)
    characters = dataclasses.replace(SCHEME, unit="characters")
    assert band_keys(pa.array(documents[:3]), characters).null_count == 3
    assert band_keys(pa.array(["?!", "?!"]), characters).null_count == 0
    assert (signatures(pa.array(documents), SCHEME) == 0xFFFFFFFF).all()


def test_lower_case_makes_documents_meet_only_where_the_scheme_says_so() -> None:
    documents = pa.array(["Ein Übung Macht den Meister", "ein übung macht DEN meister"])
    assert not candidate_pairs(band_keys(documents, SCHEME))
    assert candidate_pairs(band_keys(documents, dataclasses.replace(SCHEME, lowercase=True))) == {(0, 1)}


@given(texts, st.data())
@settings(max_examples=40)
def test_keys_depend_neither_on_type_nor_on_offset_nor_on_neighbours(
    documents: list[str | None], data: st.DataObject
) -> None:
    unit = data.draw(st.sampled_from(["words", "characters"]))
    scheme = MinHashScheme(bands=3, rows=2, ngram=2, unit=unit, lowercase=data.draw(st.booleans()))
    whole = band_keys(pa.array(documents, pa.string()), scheme).to_pylist()
    start = data.draw(st.integers(0, len(documents)))
    for kind in (pa.string(), pa.large_string()):
        sliced = pa.array(["before", *documents, "after"], kind).slice(1 + start, len(documents) - start)
        assert band_keys(sliced, scheme).to_pylist() == whole[start:]


def test_pieces_in_which_a_large_batch_is_worked_on_do_not_show() -> None:
    documents = [" ".join(words) for words in sentences(40, 8000)]  # 1.9 MB
    whole = band_keys(pa.array(documents), SCHEME).to_pylist()
    assert whole == [band_keys(pa.array([text]), SCHEME)[0].as_py() for text in documents]
    assert signatures(pa.array(documents), SCHEME).shape == (40, 112)


def test_words_that_have_been_split_already_give_the_same_keys() -> None:
    documents = pa.array(["some words and some more words", None, "", "x"])
    words = split_words(documents, "unicode")
    assert band_keys(documents, SCHEME, words) == band_keys(documents, SCHEME)
    assert (signatures(documents, SCHEME, words) == signatures(documents, SCHEME)).all()
    with pytest.raises(ValueError, match="words given to MinHash"):
        band_keys(documents, dataclasses.replace(SCHEME, lowercase=True), words)


def test_a_null_that_covers_bytes_has_no_key() -> None:
    covered = pa.Array.from_buffers(
        pa.string(), 2, [pa.py_buffer(b"\x02"), *pa.array(["hidden words", "seen words"]).buffers()[1:]]
    )
    assert covered.to_pylist() == [None, "seen words"]
    for unit in ("words", "characters"):
        assert band_keys(covered, dataclasses.replace(SCHEME, unit=unit)).is_valid().to_pylist() == [
            False,
            True,
        ]


def test_no_text_and_null_text_have_a_defined_result() -> None:
    empty = band_keys(pa.array([], pa.string()), SCHEME)
    assert (len(empty), empty.type) == (0, pa.list_(pa.uint64(), 14))
    assert band_keys(pa.nulls(3), SCHEME).to_pylist() == [None] * 3
    assert signatures(pa.array([], pa.string()), SCHEME).shape == (0, 112)
    with pytest.raises(TypeError):
        band_keys(pa.array([1, 2]), SCHEME)


def test_keys_are_spread_evenly_and_bands_never_meet() -> None:
    documents = pa.array([" ".join(words) for words in sentences(2000, 12)])
    keys = band_keys(documents, MinHashScheme(bands=14, rows=1)).flatten().to_numpy()
    one_band = [set(keys[band::14].tolist()) for band in range(14)]
    assert sum(map(len, one_band)) == len(set().union(*one_band))
    values = np.unique(keys)
    for shift in (58, 0):  # the bits by which an exchange partitions, and the lowest
        counts = np.bincount((values >> np.uint64(shift)).astype(np.int64) & 63, minlength=64)
        excess = ((counts - len(values) / 64) ** 2 / (len(values) / 64)).sum()
        assert excess < 63 + 5 * (2 * 63) ** 0.5  # chi-squared with 63 degrees of freedom


def test_every_field_of_a_scheme_enters_its_digest() -> None:
    others: dict[str, object] = {
        "bands": 8, "rows": 14, "ngram": 4, "unit": "characters", "words": "whitespace", "hash": "datasketch",
        "lowercase": True, "seed": 2,
    }  # fmt: skip
    assert set(others) == {field.name for field in dataclasses.fields(MinHashScheme)}
    changed = {dataclasses.replace(SCHEME, **{name: value}).digest for name, value in others.items()}
    assert len(changed | {SCHEME.digest}) == len(others) + 1
    assert MinHashScheme(14, 8).digest == SCHEME.digest


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bands", 0), ("rows", 0), ("ngram", 0), ("seed", -1), ("seed", 2**32), ("unit", "lines"),
        ("hash", "md5"), ("words", "spacy"),
    ],
)  # fmt: skip
def test_a_scheme_that_makes_no_sense_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        dataclasses.replace(SCHEME, **{field: value})


@pytest.mark.parametrize(
    ("unit", "digest"), [("words", "b0aad7aed6e9caa9"), ("characters", "866235b653477af1")]
)
def test_keys_change_only_together_with_a_version(unit: str, digest: str) -> None:
    # Where this fails because keys are meant to change, minhash.VERSION (or words.WORDS_VERSION) goes up too.
    alphabet = " ".join("abcdefghijklmnopqrstuvwxyz")
    documents = ["The quick brown fox jumps over the lazy dog.", "你好，世界", None, "", "short", alphabet]
    keys = band_keys(pa.array(documents), dataclasses.replace(SCHEME, unit=unit)).flatten().to_numpy()
    assert (VERSION, WORDS_VERSION) == (1, 1)
    assert hashlib.sha256(keys.astype("<u8").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("threshold", "num_perm"), [(-0.1, 112), (1.1, 112), (0.5, 1)])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: float, num_perm: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        MinHashScheme.for_threshold(threshold, num_perm)


def test_signatures_of_real_documents_equal_those_of_datasketch(shared_data: Path) -> None:
    source = sorted((shared_data / "text").glob("*.jsonl.gz"))[0]
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line)["text"] for _, line in zip(range(30), lines, strict=False)]
    scheme = dataclasses.replace(SCHEME, words="whitespace", hash="datasketch")
    for row, text in zip(signatures(pa.array(documents), scheme), documents, strict=True):
        assert (row == datasketch_signature(shingles(text.split(), 5, " "), scheme)).all()
