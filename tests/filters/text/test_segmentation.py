"""Segmented words against the libraries themselves, and a definition of runs by regular expression."""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from thresher.filters.dedup.minhash import MinHashScheme, band_keys
from thresher.filters.kernels import cache_directory
from thresher.filters.text import segmentation
from thresher.filters.text.words import split_words
from thresher.schemas.contracts import AssetError

jieba = pytest.importorskip("jieba")
fugashi = pytest.importorskip("fugashi")
unidic_lite = pytest.importorskip("unidic_lite")
os.environ.setdefault("PYTHAINLP_READ_ONLY", "1")  # else importing it makes a folder in the home
newmm = pytest.importorskip("pythainlp.tokenize.newmm")

CHINESE = "我来到北京清华大学学习自然语言处理，他来到了网易杭研大厦。"
JAPANESE = "東京都に住んでいる学生は、毎日大学でデータ分析を勉強。"
THAI = "ประเทศไทยเป็นประเทศที่ตั้งอยู่ในภูมิภาคเอเชียตะวันออกเฉียงใต้"

HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FD5)
MIXED = st.text(
    st.one_of(
        HAN,
        st.sampled_from(
            "的了是在我们学生のはをでデータサーーกขคนทีเ่ำๆລາວမြန်ខ្មែ 々〆a1é_. ，。\n\u0301\U00020000"
        ),
        st.characters(exclude_categories=["Cs", "Cn"]),  # regex knows a newer Unicode than this Python may
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def jieba_words() -> jieba.Tokenizer:
    tokenizer = jieba.Tokenizer()  # filled by hand, for initialize() leaves a file in the temporary folder
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


def segmented(texts: list[str]) -> list[list[str]]:
    words = split_words(pa.array(texts, pa.string()), "segmented")
    found = [bytes(words.data[a:b]).decode() for a, b in zip(words.start, words.stop, strict=True)]
    return [found[a:b] for a, b in zip(words.first[:-1], words.first[1:], strict=True)]


@functools.cache
def mecab() -> fugashi.Tagger:
    return fugashi.Tagger(f'-d "{unidic_lite.DICDIR}"')


# The blocks of characters.py, by script; only letters of them count.
HIRAGANA_AND_HAN = (
    r"\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U0001b000-\U0001b0ff\U00020000-\U0003ffff"
)
OTHER_KANA = r"\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001afff\U0001b100-\U0001b16f"
KANA = rf"[\u3041-\u309f\U0001b000-\U0001b0ff{OTHER_KANA}]"
THAI_BLOCK = r"\u0e00-\u0e7f"
OTHERS = r"\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
EAST = rf"(?=\p{{L}})[{HIRAGANA_AND_HAN}{OTHER_KANA}]"
UNSPACED = rf"(?=\p{{L}})[{HIRAGANA_AND_HAN}{THAI_BLOCK}{OTHERS}]"
RUNS = "|".join(
    rf"(?:{letter}\p{{M}}*)+" for letter in (EAST, rf"(?=\p{{L}})[{THAI_BLOCK}]", rf"(?=\p{{L}})[{OTHERS}]")
)


def definition(text: str, tokenizer: jieba.Tokenizer) -> list[str]:
    east = regex.findall(EAST, text)
    japanese = 10 * sum(regex.match(KANA, letter) is not None for letter in east) >= len(east)
    cuts = set()
    for run in regex.finditer(RUNS, text):
        if not regex.search(UNSPACED, run[0]):
            continue
        if regex.match(EAST, run[0]):
            parts = [str(w.surface) for w in mecab()(run[0])] if japanese else tokenizer.lcut(run[0])
        elif regex.match(rf"[{THAI_BLOCK}]", run[0]):
            parts = newmm.segment(run[0], safe_mode=True)
        else:
            parts = regex.findall(rf"{UNSPACED}\p{{M}}*", run[0])
        at = run.start()
        cuts.add(at)
        for part in parts:
            at += len(part)
            cuts.add(at)
        assert at == run.end()
    words: list[str] = []
    in_word = False
    for at, character in enumerate(text):
        if not regex.match(r"[\p{L}\p{M}\p{N}_]", character):
            in_word = False
        elif in_word and (at not in cuts or regex.match(r"\p{M}", character)):
            words[-1] += character
        else:
            words.append(character)
            in_word = True
    return words


def test_known_texts_are_divided_as_their_readers_would() -> None:
    texts = [CHINESE, JAPANESE, THAI, "Python3好用", "Webサイト構築", "ปี 2560 ๒๕๖๐", "plain don't", "", "我"]
    assert [" ".join(words) for words in segmented(texts)] == [
        "我 来到 北京 清华大学 学习 自然语言 处理 他 来到 了 网易 杭研 大厦",
        "東京 都 に 住ん で いる 学生 は 毎日 大学 で データ 分析 を 勉強",
        "ประเทศ ไทย เป็น ประเทศ ที่ ตั้งอยู่ ใน ภูมิภาค เอเชียตะวันออกเฉียงใต้",
        "Python3 好用",
        "Web サイト 構築",
        "ปี 2560 ๒๕๖๐",
        "plain don t",
        "",
        "我",
    ]


def test_running_chinese_is_divided_as_jieba_divides_it(jieba_words: jieba.Tokenizer) -> None:
    known = [word for word, n in jieba_words.FREQ.items() if n and re.fullmatch("[\u4e00-\u9fd5]+", word)]
    weights = [*itertools.accumulate(jieba_words.FREQ[word] for word in known)]
    draw = random.Random(7)
    common = ["".join(draw.choices(known, cum_weights=weights, k=draw.randint(1, 30))) for _ in range(2_000)]
    rare = ["".join(word[0] for word in draw.choices(known, k=draw.randint(1, 20))) for _ in range(2_000)]
    texts = common + rare
    assert segmented(texts) == [jieba_words.lcut(text) for text in texts]


@settings(max_examples=200)
@given(st.text(HAN, min_size=1, max_size=30))
@example("\u9fd5\u4e00")
def test_any_han_characters_are_divided_as_jieba_divides_them(
    jieba_words: jieba.Tokenizer, text: str
) -> None:
    assert segmented([text]) == [jieba_words.lcut(text)]


@settings(max_examples=300)
@given(st.lists(MIXED, max_size=4))
@example(["カタカナ一", "a国é", "国1カ", "กา国", "ກາกา", "的" * 9 + "の", "的" * 10 + "の", "国\u0301家"])
def test_a_run_is_divided_where_its_library_divides_it_and_nowhere_else(
    jieba_words: jieba.Tokenizer, texts: list[str]
) -> None:
    assert segmented(texts) == [definition(text, jieba_words) for text in texts]


@given(st.lists(st.text(st.characters(max_codepoint=0xDFF), max_size=30), max_size=4))
@example(["Grüße an alle, don't", "привет мир", "שלום עולם", "नमस्ते दुनिया", "한국어 문장 カタカナ"])
def test_text_without_such_scripts_has_the_words_of_kind_unicode(texts: list[str]) -> None:
    array = pa.array(texts, pa.string())
    plain, cut = split_words(array, "unicode"), split_words(array, "segmented")
    for name in ("first", "start", "stop", "hash"):
        assert getattr(plain, name).tolist() == getattr(cut, name).tolist()


def test_a_chinese_text_that_quotes_a_kana_is_still_chinese(jieba_words: jieba.Tokenizer) -> None:
    quoting = CHINESE + "の"
    assert segmented([quoting]) == [
        [*jieba_words.lcut(CHINESE[:17]), *jieba_words.lcut(CHINESE[18:-1]), "の"]
    ]


def test_slices_and_nulls_keep_their_cuts() -> None:
    array = pa.array([CHINESE, None, JAPANESE, "plain", THAI], pa.large_string())
    whole = split_words(array, "segmented")
    part = split_words(array.slice(1, 3), "segmented")
    assert part.hash.tolist() == whole.hash[whole.first[1] : whole.first[4]].tolist()
    assert (part.first + whole.first[1]).tolist() == whole.first[1:5].tolist()


def test_a_run_of_a_hundred_thousand_letters_is_divided_in_seconds() -> None:
    for text in ("ก" * 100_000, THAI * 1_600, "の" * 100_000, "東京" * 50_000, "中" * 100_000):
        begun = time.perf_counter()
        words = segmented([text])[0]
        assert "".join(words) == text
        assert max(map(len, words)) <= segmentation.MAX_RUN
        assert time.perf_counter() - begun < 60


def test_bytes_that_are_not_utf8_have_a_defined_result() -> None:
    raw = "国家".encode()[:4] + b"\xff" + "日本の".encode() + b"\xf0\x84\xb8\x80" + "ไทย".encode()[:-1]
    array = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, len(raw)], pa.int32()).buffers()[1], pa.py_buffer(raw)]
    )
    words = split_words(array, "segmented")
    assert all(0 <= a < b <= len(raw) for a, b in zip(words.start, words.stop, strict=True))
    assert raw[words.start[0] : words.stop[0]].startswith("国".encode())


def test_without_a_library_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = segmentation.find_spec
    monkeypatch.setattr(segmentation, "find_spec", lambda name: None if name == "jieba" else installed(name))
    with pytest.raises(AssetError, match=r"needs jieba; run `pip install 'thresher\[languages\]'`"):
        split_words(pa.array(["no such script here"]), "segmented")
    assert split_words(pa.array(["我"]), "unicode").first.tolist() == [0, 1]


def test_the_version_names_every_library() -> None:
    described = segmentation.segmentation_version()
    assert all(f"{name}=" in described for name in ("jieba", "fugashi", "unidic-lite", "pythainlp"))


@pytest.mark.slow
def test_segmenting_leaves_no_file_and_no_message_behind(tmp_path: Path) -> None:
    program = (
        "import pyarrow as pa\n"
        "from thresher.filters.text.words import split_words\n"
        f"print(len(split_words(pa.array([{CHINESE!r}, {JAPANESE!r}, {THAI!r}]), 'segmented').hash))\n"
    )
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHAINLP")}
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONIOENCODING": "utf-8"}
    environment["THRESHER_CACHE"] = str(cache_directory().parent)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("37\n", "")
    assert [*home.iterdir(), *temporary.iterdir()] == []


def test_short_chinese_texts_do_not_collapse_into_one() -> None:
    texts = ["今天天气很好", "我爱北京", "你好", "谢谢大家", "学习", "今天天气很好"]
    array = pa.array(texts)
    scheme = MinHashScheme(bands=14, rows=8)
    for words in (split_words(array, "segmented"), split_words(array, "unicode")):
        keys = [tuple(keys) for keys in band_keys(array, scheme, words).to_pylist()]
        assert keys[0] == keys[5]
        assert len({key for row in keys[:5] for key in row}) == 5 * 14
