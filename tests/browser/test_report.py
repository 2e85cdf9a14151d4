"""The report as a reader meets it: opened from the disk, offline, on a phone and on a desktop."""

from __future__ import annotations

from typing import Any

from browser.conftest import Browser

QUESTIONS = ("know", "act", "repair")
FIGURES = ("separability", "projections", "positions", "refusal_by_tier", "decomposition", "gate_f1", "selectivity")
VISIBLE = """
const box = arguments[0].getBoundingClientRect(), natural = arguments[0].naturalWidth || 0;
return {width: box.width, height: box.height, left: box.left, right: box.right, natural};
"""


def models(browser: Browser) -> list[str]:
    """The run's models, read from a table that the report holds."""
    return list(dict.fromkeys(row["model"] for row in browser.table("refusal.csv")))


def measure(browser: Browser, selector: str) -> dict[str, float]:
    element = browser.wait(lambda: browser.js("return document.querySelector(arguments[0])", selector))
    browser.wait(lambda: browser.js("const e = arguments[0]; return e.tagName !== 'IMG' || e.complete", element))
    found: dict[str, float] = browser.js(VISIBLE, element)
    return found


def show(browser: Browser, path: str) -> None:
    """Follow the first page's link to a result."""
    browser.open()
    link = browser.js('return document.querySelector(`.polygate-contents a[data-path="${arguments[0]}"]`)', path)
    assert link is not None, f"the first page has no link to {path}"
    browser.js("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()


def test_it_opens_offline_without_errors_and_asks_for_nothing(browser: Browser) -> None:
    browser.requests()
    browser.open()
    asked = {url for url in browser.requests() if not url.startswith(("file:", "data:", "blob:"))}
    assert asked == set()
    assert browser.errors() == []


def test_the_first_page_answers_every_question_for_every_model(browser: Browser) -> None:
    browser.open()
    for question in QUESTIONS:
        answers: list[list[str]] = browser.js(
            "return [...document.querySelectorAll(`[data-question=${arguments[0]}] .polygate-answer`)]"
            ".map(e => [e.dataset.model, e.checkVisibility() ? e.innerText : ''])",
            question,
        )
        assert [model for model, _ in answers] == models(browser)
        for model, text in answers:
            words = text.removeprefix(model).strip()
            assert len(words) > 40, text
            assert any(character.isdigit() for character in words), text


def test_the_first_page_shows_a_figure(browser: Browser) -> None:
    browser.open()
    size = measure(browser, ".polygate-figure img")
    assert size["natural"] > 0
    assert size["width"] > 300
    assert size["height"] > 150


def test_nothing_on_the_first_page_is_wider_than_the_screen(browser: Browser) -> None:
    browser.open()
    too_wide: list[Any] = browser.js(
        "const edge = document.documentElement.clientWidth + 1, wide = [];"
        "for (const e of document.querySelectorAll('.polygate-opening, .polygate-opening *')) {"
        "  const box = e.getBoundingClientRect();"
        "  if (box.width && (box.right > edge || box.left < -1)) wide.push([e.tagName, e.className, box.right]);"
        "} return wide;"
    )
    assert too_wide == []
    overflow = browser.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    pane = browser.js(
        "const p = document.querySelector('.polygate-opening').closest('.overflow-auto');"
        "return p.scrollWidth - p.clientWidth"
    )
    assert pane <= 0


def test_every_figure_is_reached_from_the_first_page_and_fits_the_screen(browser: Browser) -> None:
    browser.open()
    images = [path for path, result in browser.results().items() if result["mime"].startswith("image/")]
    assert {path.rpartition("/")[2].removesuffix(".svg") for path in images} >= set(FIGURES)
    for path in images:
        show(browser, path)
        browser.wait(lambda: browser.js("return document.querySelector('.p-3 > img') !== null"))
        size = measure(browser, ".p-3 > img")
        screen = browser.js("return document.documentElement.clientWidth")
        assert size["natural"] > 0, path
        assert size["width"] > 300, path
        assert size["height"] > 150, path
        assert size["left"] >= -1, path
        assert size["right"] <= screen + 1, path
        caption: str = browser.js("return document.querySelector('nav .prose').innerText")
        assert len(caption) > 100, path
    assert browser.errors() == []


def test_every_figure_is_reached_through_the_menu_too(browser: Browser) -> None:
    browser.open()
    categories: dict[str, dict[str, list[str]]] = browser.js("return categories")
    listed = {path for subcategories in categories.values() for paths in subcategories.values() for path in paths}
    assert listed == set(browser.results())
    for category in categories:
        browser.open()
        entry = browser.js(
            "return [...document.querySelectorAll('nav a')].find(a => a.innerText.trim() === arguments[0])", category
        )
        assert entry is not None, f"the menu lacks {category}"
        browser.js("arguments[0].scrollIntoView({block: 'center'})", entry)
        entry.click()
        browser.wait(lambda: browser.js("return document.querySelectorAll('nav tbody tr').length > 0"))


def test_sampled_prompts_can_be_searched_and_show_unsteered_beside_routed(browser: Browser) -> None:
    browser.open()
    (path,) = [path for path in browser.results() if path.endswith("samples.html")]
    show(browser, path)
    frame = browser.wait(lambda: browser.js("return document.querySelector('iframe')"))
    driver = browser.driver
    driver.switch_to.frame(frame)
    try:
        browser.wait(lambda: browser.js("return document.querySelectorAll('article').length > 0"))
        total = count(browser)
        assert browser.js("return document.querySelectorAll('article:first-of-type .outcome').length") == 2
        choices: list[str] = browser.js(
            "return [...document.querySelector('select[name=language]').options].map(o => o.value).filter(Boolean)"
        )
        assert len(choices) > 1
        choose(browser, "language", choices[0])
        assert 0 < count(browser) < total
        shown: list[str] = browser.js(
            "return [...document.querySelectorAll('.facts')].map(f => f.children[1].innerText)"
        )
        assert set(shown) == {choices[0]}
        choose(browser, "search", "no prompt holds these words")
        assert count(browser) == 0
        assert browser.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    finally:
        driver.switch_to.default_content()


def count(browser: Browser) -> int:
    """Rows that the filters leave."""
    return int(browser.js("return document.getElementById('count').innerText").split()[0])


def choose(browser: Browser, name: str, value: str) -> None:
    browser.js(
        "const e = document.querySelector(`[name=${arguments[0]}]`); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def test_measured_stands_beside_published(browser: Browser) -> None:
    browser.open()
    (path,) = [path for path in browser.results() if path.endswith("paper_vs_measured.html")]
    show(browser, path)
    frame = browser.wait(lambda: browser.js("return document.querySelector('iframe')"))
    browser.driver.switch_to.frame(frame)
    try:
        assert browser.wait(lambda: browser.js("return document.querySelectorAll('tbody tr td').length > 100"))
        assert browser.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    finally:
        browser.driver.switch_to.default_content()
