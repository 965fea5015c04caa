"""The page of ``glc report`` in headless Chromium: what a visitor does, and what is then on the screen."""

import base64
import io as streams
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from glc_toolkit.evaluation import report as r

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium-driver)"),
]


@pytest.fixture(scope="module")
def page(photo, tiny_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    photo.crop((80, 20, 400, 260)).save(folder / "lake.png")
    photo.crop((0, 200, 70, 250)).save(folder / "<img src=x onerror=document.title='hit'>.png")
    curve = {"name": "<b>a curve</b>", "results": {"bpp": [0.1, 0.2], "psnr-rgb": [20.0, 25.0]}}
    (folder / "curve.json").write_text(json.dumps(curve))
    pictures = sorted(folder.glob("*.png"), reverse=True)
    list(
        r.report(pictures, folder / "r.html", str(tiny_folder), (0, 2), ["psnr"], [folder / "curve.json"], "glc report")
    )
    return (folder / "r.html").as_uri()


@pytest.fixture(scope="module")
def chromium():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    """The page as first seen, on a wide screen in light colours."""
    look(chromium, page)
    yield chromium
    assert chromium.get_log("browser") == []  # no error of the script, nothing refused by the content policy


def look(browser, page, width=1100, height=900, scheme="light", mobile=False):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": mobile})
    browser.get(page)
    browser.execute_async_script(
        "const done = arguments[0]; Promise.all([...document.images].map((i) => i.decode())).then(() => done())"
    )


def find(browser, selector):
    return browser.find_element("css selector", selector)


def screen(browser, selector) -> np.ndarray:
    """What is painted of an element, (h, w, 3)."""
    png = base64.b64decode(find(browser, selector).screenshot_as_base64)
    return np.asarray(Image.open(streams.BytesIO(png)).convert("RGB")).astype(float)


def difference(now: np.ndarray, before: np.ndarray) -> float:
    """Mean absolute one, of what both show: an element may lie a fraction of a pixel lower than before."""
    h, w = min(now.shape[0], before.shape[0]), min(now.shape[1], before.shape[1])
    return np.abs(now[:h, :w] - before[:h, :w]).mean()


def split(browser) -> float:
    return float(find(browser, "#divider").get_attribute("aria-valuenow"))


def scale(browser) -> float:
    return float(find(browser, "#factor").text.rstrip("×"))


def actions(browser):
    from selenium.webdriver import ActionChains

    return ActionChains(browser, duration=20)


def test_the_divider_shows_more_of_one_and_less_of_the_other(browser):
    from selenium.webdriver.common.keys import Keys

    divider, stage = find(browser, "#divider"), find(browser, "#stage")
    width = stage.size["width"]
    before = screen(browser, "#stage")
    actions(browser).drag_and_drop_by_offset(divider, int(0.3 * width), 0).perform()
    assert split(browser) == pytest.approx(80, abs=1)
    after = screen(browser, "#stage")
    strips = [slice(int(a * width), int(b * width)) for a, b in ((0.05, 0.4), (0.6, 0.72), (0.88, 0.97))]
    changed = [np.abs(after[60:, s] - before[60:, s]).mean() for s in strips]
    assert changed[0] < 0.5 and changed[2] < 0.5 and changed[1] > 1

    divider.send_keys(Keys.HOME)
    reconstruction = screen(browser, "#stage")
    divider.send_keys(Keys.END)
    original = screen(browser, "#stage")
    assert split(browser) == 100 and np.abs(reconstruction - original).mean() > 5
    divider.send_keys(Keys.ARROW_LEFT, Keys.PAGE_DOWN)
    assert split(browser) == 89
    actions(browser).move_to_element_with_offset(stage, -int(0.25 * width), 80).click().perform()
    assert split(browser) == pytest.approx(25, abs=1)


def test_all_pictures_zoom_and_move_in_step(browser):
    from selenium.webdriver.common.keys import Keys

    def boxes():
        """Place of each picture in its view, as shares of the view."""
        return np.array(
            browser.execute_script(
                """return [...document.querySelectorAll(".layer img")].map((image) => {
                const a = image.getBoundingClientRect(), b = image.closest(".view").getBoundingClientRect();
                return [(a.left - b.left) / b.width, (a.top - b.top) / b.height, a.width / b.width]; })"""
            )
        )

    assert np.allclose(boxes(), [0, 0, 1], atol=0.01) and len(boxes()) == 8
    find(browser, "#larger").click()
    find(browser, "#larger").click()
    assert scale(browser) == 2.25 and np.allclose(boxes(), [-0.625, -0.625, 2.25], atol=0.01)
    pane = find(browser, ".panes figure:nth-child(2) .view")
    actions(browser).drag_and_drop_by_offset(pane, pane.size["width"] // 4, 0).perform()
    assert np.allclose(boxes(), [-0.375, -0.625, 2.25], atol=0.02)
    find(browser, "#stage").send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert np.allclose(boxes(), [-0.475, -0.725, 2.25], atol=0.02)
    find(browser, "#stage").send_keys("0")
    assert scale(browser) == 1 and np.allclose(boxes(), [0, 0, 1], atol=0.01)
    actions(browser).double_click(pane).perform()
    assert scale(browser) == 2


def test_the_map_lies_over_the_reconstruction_alone(browser):
    find(browser, "#divider").send_keys("\ue011")  # Home
    before, original = screen(browser, "#stage"), screen(browser, ".panes figure:nth-child(1) .view")
    find(browser, "#bits").click()
    assert difference(screen(browser, "#stage"), before) > 20
    assert difference(screen(browser, ".panes figure:nth-child(1) .view"), original) < 5
    # Near the middle of 320 x 240 pixels, where two positions of the tiny model's latent meet: on the right one
    browser.execute_script("stage.scrollIntoView({ block: 'center' })")  # the middle is that of what can be seen
    actions(browser).move_to_element_with_offset(find(browser, "#stage"), 6, 0).perform()
    bits = browser.execute_script(
        "const p = pictures[0]; return itemOf('GLC').bits[Math.floor(120 / p.position)][Math.floor(160 / p.position)]"
    )
    assert f"{bits:.1f} bits" in find(browser, "#here").text
    assert "bytes; the file has" in find(browser, "#sum").text


def test_sizes_codecs_and_pictures_are_chosen(browser):
    browser.find_elements("css selector", "#points input")[1].send_keys(" ")
    assert find(browser, "#right-tag").text == "GLC q2"
    find(browser, "#right option[value=JPEG]").click()
    assert find(browser, "#right-tag").text.startswith("JPEG quality")
    assert find(browser, "#over + .tag").text == "original"
    names = [e.text for e in browser.find_elements("css selector", "figcaption strong")]
    assert [name.split()[0] for name in names] == ["original", "GLC", "JPEG", "WebP", "AVIF", "quarter"]
    find(browser, "#pictures label:nth-child(2)").click()
    assert "onerror" in find(browser, "#stage img").get_attribute("alt")
    assert "70 × 50" in find(browser, ".panes").text and browser.title != "hit"


def test_charts_tell_the_point_under_the_mouse_or_the_arrow_keys(browser):
    from selenium.webdriver.common.keys import Keys

    chart = find(browser, ".chart svg")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    mark = browser.find_elements("css selector", ".chart path[transform]")[0]
    actions(browser).move_to_element(mark).perform()
    first = browser.execute_script("return [mean[0].bpp, mean[0].psnr]")
    assert find(browser, ".tip").text == f"GLC, q0\n{first[0]:.4f} bpp · {first[1]:.2f}"
    chart.send_keys(Keys.ESCAPE)
    assert find(browser, ".tip").text == ""
    seen = set()
    for _ in range(12):
        chart.send_keys(Keys.ARROW_RIGHT)
        seen.add(find(browser, ".tip").text.partition("\n")[0])
    assert "<b>a curve</b>" in seen and "GLC, q2" in seen


def touch(browser, kind, *points):
    at = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})


def test_fingers_on_a_phone(browser, page):
    look(browser, page, 390, 844, mobile=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
    browser.execute_script("stage.scrollIntoView({block: 'center'})")
    left, top, width, height = browser.execute_script(
        "const b = stage.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    )

    def at(x, y):
        return left + x * width, top + y * height

    touch(browser, "touchStart", at(0.5, 0.5))
    touch(browser, "touchMove", at(0.35, 0.5))
    touch(browser, "touchMove", at(0.2, 0.5))
    touch(browser, "touchEnd")
    assert split(browser) == pytest.approx(20, abs=1)
    touch(browser, "touchStart", at(0.6, 0.5), at(0.8, 0.5))
    touch(browser, "touchMove", at(0.5, 0.5), at(0.9, 0.5))
    touch(browser, "touchEnd")
    assert scale(browser) == pytest.approx(2, rel=0.05)


def test_light_and_dark_paint_the_page_so_and_text_is_readable(browser, page):
    from selenium.webdriver.common.by import By

    for scheme, paper in (("light", (240, 256)), ("dark", (0, 40))):
        look(browser, page, scheme=scheme)
        header = screen(browser, "header")
        assert paper[0] <= np.median(header) < paper[1]
        assert np.ptp(header) > 180  # ink against paper
    assert all(image.get_attribute("alt") for image in browser.find_elements(By.CSS_SELECTOR, ".view img"))


def test_nothing_is_fetched(chromium, page):
    chromium.get_log("performance")
    look(chromium, page)
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert page in asked and all(url.startswith(("data:", page)) for url in asked)
