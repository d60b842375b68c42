"""The page, in a real browser: what people see, and that nothing is asked of anybody else."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gsop.keys import make_key
from tests.stores import publish_tiny
from tests.support import ROOT, TINY, Server, eventually

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
]

EXAMPLE = ROOT / "examples" / "digits" / "7.png"
WITHOUT_ROOT = ["--no-sandbox"] if os.geteuid() == 0 else []

EVIL = "evil.test"
"""A name that resolves to loopback, as a hostile name server would have it."""

ARGUMENTS = [*WITHOUT_ROOT, f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"]

expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, one with position gates."""
    root = tmp_path_factory.mktemp("page")
    publish_tiny(root)
    publish_tiny(root, version="2", seed=4, config=replace(TINY, attention="position"))
    return root


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Server]:
    with Server(store, models="tiny/1,tiny/2") as server:
        yield server.wait_ready()


class Visitor:
    """A page that fails its test by any error in the console or question to another host."""

    def __init__(self, browser: Browser, url: str, **options: object) -> None:
        self.context = browser.new_context(**options)  # type: ignore[arg-type]  # playwright's own
        self.page: Page = self.context.new_page()
        self.refused = 0
        self.faults: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self._on_request(request.url, url))
        self.page.goto(url + "/")

    def _on_console(self, message: object) -> None:
        kind, text = getattr(message, "type", ""), getattr(message, "text", "")
        if "Failed to load resource" in text:  # an answer that is an error: the page tells it
            self.refused += 1
        elif kind in ("error", "warning"):
            self.faults.append(text)

    def _on_request(self, asked: str, url: str) -> None:
        if not asked.startswith((url + "/", "blob:", "data:")):
            self.faults.append(f"asked {asked}")


@pytest.fixture
def visitor(browser: Browser, server: Server) -> Iterator[Visitor]:
    visitor = Visitor(browser, server.url)
    yield visitor
    visitor.context.close()
    assert not visitor.faults
    assert not visitor.refused


def answered(page: Page) -> None:
    expect(page.locator("#answer progress").first).to_be_visible()
    expect(page.locator("#gates canvas").first).to_be_visible()


def test_an_example_is_answered_with_its_gates(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#examples button >> nth=3")
    answered(page)
    expect(page.locator("#answer")).to_contain_text("tiny/1 (stable)")
    expect(page.locator("#input")).to_be_visible()
    size = page.eval_on_selector("#input", "image => [image.naturalWidth, image.naturalHeight]")
    assert size == [32, 32]
    page.hover(".gate canvas >> nth=0")
    expect(page.locator("#pointed")).to_contain_text("layer1")
    expect(page.locator("#newest tbody tr").first).to_be_visible()


def test_a_file_is_chosen_dropped_and_pasted(visitor: Visitor) -> None:
    page = visitor.page
    page.set_input_files("#file", EXAMPLE)
    answered(page)
    give = """([event, bytes]) => {
        const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(bytes)], "a.png", {type: "image/png"}));
        const more = event === "paste" ? {clipboardData: held} : {dataTransfer: held};
        const target = event === "paste" ? document : document.getElementById("drop");
        const given = event === "paste"
            ? new ClipboardEvent("paste", {bubbles: true, ...more})
            : new DragEvent("drop", {bubbles: true, cancelable: true, ...more});
        target.dispatchEvent(given);
    }"""
    for event in ("drop", "paste"):
        with page.expect_response("**/predict?*") as asked:
            page.evaluate(give, [event, list(EXAMPLE.read_bytes())])
        assert asked.value.status == 200


def test_a_photograph_is_told_beside_what_is_usual(visitor: Visitor) -> None:
    page = visitor.page
    for number in range(3):
        page.set_input_files("#camera", EXAMPLE)
        expect(page.locator("#newest tbody tr")).not_to_have_count(number)
    answered(page)
    page.hover(".gate canvas >> nth=0")
    expect(page.locator("#pointed")).to_contain_text(re.compile(r"predictions [\d.]+ ± [\d.]+"))


def test_an_answer_is_told_beside_the_reference(browser: Browser, digits_server: Server) -> None:
    visitor = Visitor(browser, digits_server.url)
    page = visitor.page
    page.set_input_files("#file", EXAMPLE)
    answered(page)
    expect(page.locator("#answer")).to_contain_text("Familiarity")
    expect(page.locator(".gate >> nth=0")).to_contain_text("beyond 3 of the reference")
    page.hover(".gate canvas >> nth=0")
    expect(page.locator("#pointed")).to_contain_text(re.compile(r"z of the reference .[\d.]+"))
    expect(page.locator("#live th", has_text="drift")).to_be_visible()
    assert not visitor.faults
    visitor.context.close()


def test_a_map_of_positions_lies_over_the_image(visitor: Visitor) -> None:
    page = visitor.page
    page.select_option("#version", "tiny/2")
    page.set_input_files("#file", EXAMPLE)
    answered(page)
    colours = """canvas => {
        const {width, height} = canvas;
        const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
        return new Set(Array.from({length: data.length / 4}, (_, i) => data[4 * i])).size;
    }"""
    maps = page.locator("#gates .gate canvas >> nth=-1")
    # A last map of 8 × 8 places alone has 64 colours at most.
    assert maps.evaluate("canvas => canvas.width / 8") == 8
    assert maps.evaluate(colours) > 64


def test_the_service_now_and_the_colours_of_the_page(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#examples button >> nth=3")
    answered(page)
    for text in ("slots", "batch", "engine 0", "decode", "inference", "tiny/1", "stable 100 %"):
        expect(page.locator("#live")).to_contain_text(text)
    page.click("#theme")
    before = page.get_attribute("html", "data-theme")
    page.click("#theme")
    assert {before, page.get_attribute("html", "data-theme")} == {"dark", "light"}


def test_an_answer_is_taken_apart(visitor: Visitor) -> None:
    page = visitor.page
    expect(page.locator("#inspect")).to_be_disabled()
    page.set_input_files("#file", EXAMPLE)
    answered(page)
    page.click("#inspect")
    rows = page.locator("#inspection table >> nth=0").locator("tbody tr")
    expect(rows).to_have_count(1 + 3 * 5, timeout=60_000)  # four stages and all of them
    expect(page.locator("#inspection")).to_contain_text("layer4.1.channel: the channels that")
    page.set_input_files("#file", EXAMPLE)
    answered(page)
    expect(page.locator("#inspection table")).to_have_count(0)


def test_it_is_walked_by_keyboard(visitor: Visitor) -> None:
    page = visitor.page
    page.focus("#examples button >> nth=0")
    page.keyboard.press("Enter")
    answered(page)
    page.focus(".gate canvas >> nth=0")
    expect(page.locator("#pointed")).to_contain_text("channel 0")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#pointed")).to_contain_text("channel 1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") in ("CANVAS", "SUMMARY")


def test_versions_and_images_are_laid_side_by_side(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#examples button >> nth=0")
    answered(page)
    assert page.locator(".gate >> nth=0").locator("canvas").count() == 1
    page.select_option("#beside", "tiny/1")
    expect(page.locator(".gate >> nth=0 >> canvas")).to_have_count(3)
    page.select_option("#beside", "")
    page.click("#keep")
    page.click("#examples button >> nth=1")
    expect(page.locator(".gate >> nth=0 >> canvas")).to_have_count(3)
    expect(page.locator("#answer")).to_contain_text("the kept one")
    page.click("#keep")
    page.click("#examples button >> nth=2")
    expect(page.locator("#answer")).not_to_contain_text("the kept one")
    expect(page.locator(".gate >> nth=0 >> canvas")).to_have_count(1)
    page.select_option("#version", "tiny/2")
    expect(page.locator("#answer")).to_contain_text("tiny/2 (requested)")
    expect(page.locator("#gates")).to_contain_text("positions")


def test_the_newest_are_looked_at_again(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#examples button >> nth=2")
    answered(page)
    expect(page.locator("#newest button").first).to_be_visible()
    page.click("#newest button >> nth=0")
    expect(page.locator("#input")).to_be_hidden()
    answered(page)


def test_what_is_no_image_is_told_in_the_services_words(browser: Browser, server: Server) -> None:
    visitor = Visitor(browser, server.url)
    visitor.page.set_input_files(
        "#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image at all"}
    )
    expect(visitor.page.locator("#trouble")).to_contain_text("image")
    visitor.page.click("#examples button >> nth=0")
    answered(visitor.page)
    expect(visitor.page.locator("#trouble")).to_be_hidden()
    assert not visitor.faults
    visitor.context.close()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_no_serious_barrier(browser: Browser, server: Server, path: str) -> None:
    for scheme in ("light", "dark"):
        visitor = Visitor(browser, server.url, color_scheme=scheme)
        page = visitor.page
        if path == "/":
            page.click("#examples button >> nth=3")
            answered(page)
            page.click(".gate details >> nth=0")
            found = Axe().run(page)
            serious = [v for v in found.response["violations"] if v["impact"] != "minor"]
            assert not serious, found.generate_report()
        else:
            page.goto(server.url + path)
            expect(page.locator("#calls")).to_contain_text("/predict")
        assert not visitor.faults
        visitor.context.close()


def test_on_a_telephone_nothing_sticks_out(browser: Browser, server: Server) -> None:
    visitor = Visitor(browser, server.url, viewport={"width": 360, "height": 700}, has_touch=True)
    visitor.page.click("#examples button >> nth=3")
    answered(visitor.page)
    width = visitor.page.evaluate("document.documentElement.scrollWidth")
    assert width <= 360
    visitor.context.close()


def test_with_keys_it_asks_for_one_and_forgets_it(browser: Browser, store: Path) -> None:
    key, entry = make_key("page", ["predict", "attention"])
    with Server(store, models="tiny/1", api_keys=str(entry)) as server:
        visitor = Visitor(browser, server.wait_ready().url)
        page = visitor.page
        expect(page.locator("#key-form")).to_be_visible()
        page.fill("#key", "wrong-key")
        page.click("#key-form button")
        expect(page.locator("#trouble")).to_contain_text("not known")
        page.fill("#key", key)
        page.click("#key-form button")
        expect(page.locator("#key-form")).to_be_hidden()
        expect(page.locator("#trouble")).to_be_hidden()
        page.click("#examples button >> nth=3")
        answered(page)
        expect(page.locator("#live")).to_contain_text("scope admin")
        kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
        assert key not in kept
        page.reload()
        expect(page.locator("#key-form")).to_be_visible()
        assert not visitor.faults
        visitor.context.close()


def test_it_outlives_an_engine_and_the_service(browser: Browser, store: Path) -> None:
    with Server(store, models="tiny/1") as server:
        visitor = Visitor(browser, server.wait_ready().url)
        page, url = visitor.page, server.url
        expect(page.locator("#live")).to_contain_text("ready")
        os.kill(server.engine(), signal.SIGKILL)
        page.click("#examples button >> nth=3")
        answered(page)  # by its successor
        expect(page.locator("#live")).to_contain_text("started again 1 ×")
        port = int(url.rsplit(":", 1)[1])
    expect(page.locator("#live")).to_contain_text("cannot be reached")
    with Server(store, "--port", str(port), models="tiny/1") as server:
        server.wait_ready()
        expect(page.locator("#live")).to_contain_text("ready")
        page.click("#examples button >> nth=3")
        answered(page)
        assert not visitor.faults
        visitor.context.close()


def test_overload_is_told_with_when_to_come_again(browser: Browser, server: Server) -> None:
    visitor = Visitor(browser, server.url)
    refusal = '{"title": "Overloaded", "status": 429, "detail": "all slots are taken"}'
    visitor.page.route(
        "**/predict*",
        lambda route: route.fulfill(
            status=429,
            body=refusal,
            headers={"Content-Type": "application/problem+json", "Retry-After": "1"},
        ),
    )
    visitor.page.click("#examples button >> nth=3")
    expect(visitor.page.locator("#trouble")).to_have_text("all slots are taken. Try again in 1 s.")
    visitor.context.close()


def test_pages_forbid_what_is_not_theirs(server: Server) -> None:
    for path in ("/", "/docs", "/web/page.js"):
        answer = server.http.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        again = server.http.get(path, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert server.http.get("/web/../settings.py").status_code == 404
    assert server.http.get("/web/nothing.js").status_code == 404


def test_many_who_look_get_one_text(server: Server) -> None:
    texts = {server.http.get("/status").content for _ in range(20)}
    assert len(texts) < 20
    told = server.http.get("/status").json()
    assert told["slots"]["used"] <= told["slots"]["total"]
    eventually(lambda: server.http.get("/status").json()["time"] > told["time"])


def test_no_page_gets_in_by_another_name_or_from_another_origin(
    browser: Browser, server: Server
) -> None:
    context = browser.new_context()
    page, other = context.new_page(), server.url.replace("127.0.0.1", EVIL)
    answer = page.goto(other + "/")
    assert answer is not None
    assert answer.status == 421
    expect(page.locator("body")).to_contain_text("GSOP_ALLOWED_HOSTS")
    # A page of its own, which sends what needs no leave: a form.
    form = f"<form method=post enctype=text/plain action={server.url}/predict><input name=a></form>"
    page.route(f"http://{EVIL}/", lambda route: route.fulfill(body=form, content_type="text/html"))
    page.goto(f"http://{EVIL}/")
    with page.expect_response(server.url + "/predict") as asked:
        page.evaluate("document.forms[0].submit()")
    assert asked.value.request.headers["origin"] == f"http://{EVIL}"
    assert asked.value.status == 403
    context.close()
