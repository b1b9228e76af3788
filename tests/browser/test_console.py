#!/usr/bin/env python3
"""The console in a real browser: test_console.py ADDRESS [FOLDER FOR SCREENSHOTS]

The address is the whole one that the server prints, with its key.

Takes the address from TWOTOWER_ADDRESS too, and the browser from CHROMIUM and CHROMEDRIVER, as scripts/chromium prints them.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from webdriver import Browser  # noqa: E402

IDS = "return [...document.querySelectorAll('#recommendations > .card')].map(card => card.dataset.video)"
LIKES = "return [...document.querySelectorAll('#likes > li')].map(item => item.dataset.video)"
IDLE = "return document.querySelector('#recommendations .card') && !document.querySelector('[aria-disabled]')"
FOCUS = "const it = document.activeElement; return [it.dataset.kind, it.closest('.card')?.dataset.video]"
AT_REST = "return !document.getAnimations().length"
TAB, SPACE, ENTER = "\ue004", " ", "\ue007"


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def settled(browser, likes):
    browser.wait(f"{likes} likes shown", "return document.querySelector('#like-count').textContent === arguments[0]", str(likes))
    browser.wait("buttons free again", IDLE)


def start_as_new_user(browser, opening, address):
    browser.open(opening)
    check(browser.url() == address + "/", "the key does not stay in the address")
    check("act as any user" in browser.script("return document.querySelector('.warning').textContent"), "the warning is shown")
    browser.click("a.primary")
    browser.wait("recommendations", IDLE)
    check("#" in browser.url() and not browser.url().endswith("#new"), "the new user's id stands in the address")
    check("most liked videos" in browser.script("return document.querySelector('#explanation').textContent"), "a stranger is told why")


def likes_by_mouse(browser):
    first = browser.script(IDS)
    check(len(first) == 12, f"12 recommendations, not {len(first)}")
    liked = []
    for count in range(1, 4):
        liked.append(browser.script(IDS)[0])
        browser.click("#recommendations > .card button[data-kind=like]")
        settled(browser, count)
        now = browser.script(IDS)
        check(not set(liked) & set(now), "a liked video is not shown again")
        check(set(browser.script(LIKES)) == set(liked), "the likes are listed")
        status = browser.script("return document.querySelector('#status').textContent")
        check(status.startswith("Liked “") and "are new" in status, f"the status says what happened: {status}")
    check(set(now) != set(first) - set(liked), "the list has changed")
    check("two-tower model version" in browser.script("return document.querySelector('#explanation').textContent"), "the model answers now")
    return liked


def likes_by_keyboard(browser, liked):
    browser.script("document.activeElement.blur(); document.querySelector('#content').focus()")
    for _ in range(20):
        browser.press(TAB)
        kind, card = browser.script(FOCUS)
        if kind == "like":
            break
    check(kind == "like", "Tab reaches a Like button")
    outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle")
    check(outline != "none", "the focus is visible")
    browser.press(ENTER)
    settled(browser, len(liked) + 1)
    liked.append(card)
    kind, near = browser.script(FOCUS)
    check(kind == "like" and near not in liked, "the focus stays among the Like buttons")

    browser.press(TAB)
    kind, skipped = browser.script(FOCUS)
    check(kind == "skip", "Skip is next")
    browser.press(SPACE)
    browser.wait("the skipped card to go", f"{IDS.replace('return', 'return !')}.includes(arguments[0])", skipped)
    browser.wait("buttons free again", IDLE)
    check(browser.script(FOCUS)[0] == "skip", "the focus stays among the Skip buttons")


def hides_and_shows_again(browser):
    browser.wait("cards at rest", AT_REST)
    hidden = browser.script(IDS)[0]
    browser.click("#recommendations > .card button[data-kind=hide]")
    browser.wait("the hidden card to go", f"{IDS.replace('return', 'return !')}.includes(arguments[0])", hidden)
    browser.wait("buttons free again", IDLE)
    browser.click("#undo")
    browser.wait("the card to come back", f"{IDS}.includes(arguments[0])", hidden)
    browser.wait("buttons free again", IDLE)
    check(browser.script("return document.querySelector('#undo').hidden"), "there is nothing to undo any more")


def survives_a_reload(browser, liked):
    browser.open(browser.url())
    browser.script("location.reload()")
    browser.wait("recommendations", IDLE)
    settled(browser, len(liked))
    check(not set(liked) & set(browser.script(IDS)), "liked videos stay away after a reload")


def fits(browser, what):
    wide = browser.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check(wide <= 0, f"{what}: {wide} px too wide")


def take_pictures(browser, address, try_out, folder):
    users = browser.script("return [...document.querySelectorAll('h3')].length")
    check(users > 0, "cards have headings")
    looks = [("desktop-light", 1280, 800, "light"), ("desktop-dark", 1280, 800, "dark"), ("phone", 360, 740, "light")]
    for name, width, height, scheme in looks:
        browser.size(width, height)
        browser.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
        for page, url in [("start", address + "/"), ("try", try_out), ("model", address + "/model")]:
            browser.open("about:blank")
            browser.open(url)
            if page == "try":
                browser.wait("recommendations", IDLE)
            fits(browser, f"{page} at {name}")
            browser.screenshot(os.path.join(folder, f"{page}-{name}.png"))


def main():
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ["TWOTOWER_ADDRESS"]
    opening, address = address, address.split("/?")[0]
    folder = sys.argv[2] if len(sys.argv) > 2 else "target/screenshots"
    with Browser(os.environ["CHROMIUM"], os.environ["CHROMEDRIVER"]) as browser:
        browser.size(1280, 800)
        try:
            start_as_new_user(browser, opening, address)
            liked = likes_by_mouse(browser)
            browser.wait("cards at rest", AT_REST)
            browser.screenshot(os.path.join(folder, "try-after-likes.png"))
            likes_by_keyboard(browser, liked)
            hides_and_shows_again(browser)
            survives_a_reload(browser, liked)
            take_pictures(browser, address, browser.url(), folder)
        except Exception:
            browser.screenshot(os.path.join(folder, "failure.png"))
            print("\n".join(entry["message"] for entry in browser.log()), file=sys.stderr)
            raise
        complaints = [entry["message"] for entry in browser.log() if entry["level"] in ("SEVERE", "WARNING")]
        check(not complaints, "the browser's console is empty, not: " + "\n".join(complaints))
    print("the console works in a browser")


if __name__ == "__main__":
    main()
