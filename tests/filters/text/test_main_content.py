from __future__ import annotations

import time

import pytest
from thresher.filters.text.main_content import Doubt, main_content

SENTENCES = " ".join(f"This is sentence number {number} of the article." for number in range(30))
PARAGRAPHS = f"<h1>Heading</h1><p>{SENTENCES}</p><p>And more: {SENTENCES}</p>"
KEPT = f"Heading\n{SENTENCES}\nAnd more: {SENTENCES}"
LITTLE = f"<article><p>{SENTENCES[:300]}</p><p>x</p></article>"
LINKS = "".join(f'<li><a href="/{number}">Another story {number}</a></li>' for number in range(8))


def text_of(body: str) -> str:
    """The text of a page about which there is no doubt."""
    text, doubt = main_content(body.encode())
    assert doubt == 0
    return text


@pytest.mark.parametrize(
    "container",
    [
        "<article>{}</article>",
        '<div class="entry-content">{}</div>',
        '<div itemprop="articleBody">{}</div>',
        '<section role="article">{}</section>',
        '<div id="content">{}</div>',
        "<main>{}</main>",
    ],
)
def test_the_text_of_the_most_telling_container_is_kept(container: str) -> None:
    around = f"<div><p>{SENTENCES[:300]} elsewhere</p></div>"
    assert text_of(around + container.format(PARAGRAPHS) + around) == KEPT


@pytest.mark.parametrize(
    "block",
    [
        f"<nav><ul>{LINKS}</ul></nav>",
        f"<aside><p>{SENTENCES}</p></aside>",
        f"<footer><p>{SENTENCES}</p></footer>",
        f'<div class="related-posts"><p>{SENTENCES[:200]}</p></div>',
        f'<div class="comments"><p>{SENTENCES}</p></div>',
        f'<p style="display:none">{SENTENCES[:200]}</p>',
        f"<ul>{LINKS}</ul>",
        "<form><label>E-mail</label><input></form>",
        '<p><a href="/">Read on</a></p>',
        '<figure><img src="x"><figcaption>A caption.</figcaption></figure>',
        "<button>Subscribe</button>",
        "<h2>What nobody wrote about</h2>",
    ],
)
def test_boilerplate_within_the_container_is_dropped(block: str) -> None:
    assert text_of(f"<article>{PARAGRAPHS}{block}</article>") == KEPT


def test_names_that_would_take_all_the_text_are_not_believed() -> None:
    assert text_of(f'<article><div class="widget">{PARAGRAPHS}</div></article>') == KEPT


def test_links_in_prose_stay() -> None:
    assert text_of(
        f'<article>{PARAGRAPHS}<p>See <a href="/">there</a> for all that was said.</p></article>'
    ) == (KEPT + "\nSee there for all that was said.")


def test_a_form_that_holds_most_of_the_page_is_its_content() -> None:
    assert text_of(f"<form><article>{PARAGRAPHS}</article></form>") == KEPT


def test_lists_tables_and_code_are_written_line_by_line() -> None:
    more = "<ul><li>first</li><li>second <b>point</b></li></ul>"
    more += "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>"
    more += "<pre>if x:\n    y &lt; 1 &amp;&amp; z</pre>"
    assert text_of(f"<article>{PARAGRAPHS}{more}</article>").removeprefix(KEPT + "\n") == (
        "- first\n- second point\na\tb\nc\nif x:\n    y < 1 && z"
    )


def test_inline_elements_neither_join_nor_part_words() -> None:
    first = "<p>Hyper<b>link</b>ed <i>one</i> <span>two</span>&nbsp;three<br>four</p>"
    assert text_of(f"<article>{first}{PARAGRAPHS}</article>") == "Hyperlinked one two three\nfour\n" + KEPT


def test_a_page_without_paragraphs_has_the_text_of_its_blocks() -> None:
    halves = SENTENCES[:700], SENTENCES[700:]
    assert text_of(f"<article><div>{halves[0]}</div><div>{halves[1]}</div></article>") == "\n".join(
        half.strip() for half in halves
    )


@pytest.mark.parametrize(
    ("page", "doubt"),
    [
        ("", Doubt.SHORT),
        ("<article><h1>Heading</h1><p>Short.</p></article>", Doubt.SHORT),
        (f"{LITTLE}<div><p>{SENTENCES}</p></div>" + f"<div><p>{SENTENCES}</p></div>" * 2, Doubt.RIVAL),
        (LITTLE + f"<div>{SENTENCES}</div>" * 3, Doubt.SMALL_SHARE),
        (f"<p>{SENTENCES}</p><p>More.</p>" + f"<div>{SENTENCES}</div>" * 3, Doubt.UNFRAMED),
        (f"<article><table><tr><td>{SENTENCES}</td></tr></table><table><tr><td>x</td></tr></table></article>"
         f"<div><p>{SENTENCES}</p></div>", Doubt.TABLES),
    ],
)  # fmt: skip
def test_there_is_doubt_where_another_algorithm_may_find_more(page: str, doubt: Doubt) -> None:
    assert main_content(page.encode())[1] & doubt


@pytest.mark.parametrize(
    "part",
    [
        "<div>a<a href=x>b</a></div>",
        "<p>x<br>",
        "<div><p>x</p>",
        "<ul><li><a>x</a>",
        "<article><main>",
        "<table><tr><td>x",
        '<div class="entry-content">',
    ],
)
def test_time_grows_with_the_size_alone(part: str) -> None:
    html = (part * (140_000 // part.count("<"))).encode()
    start = time.process_time()
    main_content(html)
    assert time.process_time() - start < 4
