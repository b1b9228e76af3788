#!/usr/bin/env python3
"""The example app in a real browser: test_example.py ADDRESS TOKEN OTHER_TOKEN [FOLDER FOR SCREENSHOTS]

ADDRESS is that of `twotower serve`, which must answer pages of any origin; the tokens are those of two users who have done nothing yet. Takes the
browser from CHROMIUM and CHROMEDRIVER, as scripts/chromium prints them.

The page is tried as one of `twotower serve`, and as one of a Supabase project, for which a stand-in in this file signs users in and passes the rest
on. It shows which addresses and headers the page uses there; it does not show that a project takes them.
"""

import http.server
import json
import os
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
from functools import partial

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from webdriver import Browser  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "clients/example")
KEY = "sb_publishable_of-a-test"
# A name of this machine that the page must not take for it.
HOST = "app.example"
EMAIL, PASSWORD = "viewer@example.org", "a test's password"
IDS = "return [...document.querySelectorAll('#videos > li')].map(item => item.dataset.video)"
STATUS = "return document.querySelector('#status').textContent"
PROBLEM = "return document.querySelector('#problem').textContent"
EXPLANATION = "return document.querySelector('#explanation').textContent"
FOCUS = "const it = document.activeElement; return [it.id, it.dataset.kind ?? '', it.closest('#videos > li')?.dataset.video ?? '']"
TAB, ENTER = "\ue004", "\ue007"


def check(holds, what):
    if not holds:
        raise AssertionError(what)


class Project(http.server.SimpleHTTPRequestHandler):
    """The page, and a stand-in for a project's gateway with Auth and PostgREST behind it."""

    def __init__(self, *arguments, serve, token, seen, **more):
        self.serve, self.token, self.seen = serve, token, seen
        super().__init__(*arguments, directory=PAGE, **more)

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def cut_off(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"user_id":')

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urllib.parse.urlsplit(self.path)
        if path.path.startswith("/cut-off/"):
            return self.cut_off()
        self.seen.append(path.path)
        if self.headers["apikey"] != KEY:
            return self.answer(401, {"message": "Invalid API key"})
        if path.path == "/auth/v1/token":
            check(path.query == "grant_type=password", path.query)
            if body != {"email": EMAIL, "password": PASSWORD}:
                return self.answer(400, {"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials"})
            return self.answer(200, {"access_token": self.token, "token_type": "bearer", "expires_in": 3600})
        if self.headers["Authorization"] != f"Bearer {self.token}":
            return self.answer(401, {"message": "JWT expired"})
        if path.path == "/rest/v1/rpc/like_video":
            check(body["liked"] is True and set(body) == {"video_id", "liked"}, body)
            return self.react("like", body["video_id"], 200, True)
        if path.path == "/rest/v1/skips":
            check(set(body) == {"user_id", "video_id"}, body)
            return self.react("skip", body["video_id"], 201, None)
        check(path.path == "/functions/v1/two_tower_recommendations", path.path)
        return self.answer(*self.forward(path.path, body))

    def react(self, kind, video, status, answer):
        event = {"event_id": str(uuid.uuid4()), "kind": kind, "video_id": video}
        done, said = self.forward("/functions/v1/events", {"events": [event]})
        check(done == 200, said)
        self.answer(status, answer)

    def forward(self, path, body):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(self.serve + path, json.dumps(body).encode(), headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


def settled(browser, status):
    browser.wait(f"the status to begin with “{status}”", f"{STATUS}.startsWith(arguments[0]) && !document.body.hasAttribute('aria-busy')", status)
    return browser.script(IDS)


def type_into(browser, selector, text):
    browser.script("document.querySelector(arguments[0]).focus()", selector)
    browser.press(*text)


def likes_and_skips(browser):
    """By mouse and by keyboard, from the list of a user who has done nothing."""
    first = browser.script(IDS)
    check(len(first) == 10, f"10 videos, not {len(first)}")
    check("most people like" in browser.script(EXPLANATION), "a stranger is told whose list it is")
    check(browser.script(FOCUS)[0] == "list-title", "the focus is on the list")

    browser.click("#videos > li button[data-kind=like]")
    second = settled(browser, "You like “")
    check(first[0] not in second, "what is liked goes")
    check("From what you liked" in browser.script(EXPLANATION), "the list is the user's own now")
    kind, video = browser.script(FOCUS)[1:]
    check(kind == "like" and video == second[0], "the focus stays where the user was")

    browser.press(TAB)
    check(browser.script(FOCUS)[1:] == ["skip", second[0]], "Skip is next")
    outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle")
    check(outline != "none", "the focus is visible")
    browser.press(ENTER)
    third = settled(browser, "You skipped “")
    check(second[0] not in third, "what is skipped goes to the end")
    check(browser.script(FOCUS)[1:] == ["skip", third[0]], "the focus stays among the Skip buttons")
    return third


def names_of_buttons(browser):
    """What assistive technology calls them."""
    named = browser.devtools("Accessibility.getFullAXTree", {})["nodes"]
    names = [node["name"]["value"] for node in named if node.get("role", {}).get("value") == "button" and not node["ignored"]]
    likes = [name for name in names if name.startswith("Like ")]
    check(len(likes) == len(set(likes)) == 10, f"every button says of which video it is: {likes}")


def by_token(browser, page, serve, token, folder):
    browser.open(f"{page}/?baseUrl={serve}")
    browser.wait("a form to sign in", "return !document.querySelector('#by-token').closest('[hidden]')")
    check(browser.script(FOCUS)[0] == "token", "the focus is on the first field")
    check(browser.script("return document.querySelector('#by-password').hidden"), "nobody asks for a password here")
    type_into(browser, "#token", "not.a.token")
    browser.press(ENTER)
    browser.wait("a refusal", f"{PROBLEM}.startsWith('You are not signed in')")

    browser.script("document.querySelector('#token').value = ''")
    type_into(browser, "#token", token)
    browser.press(ENTER)
    settled(browser, "You are signed in")
    names_of_buttons(browser)
    last = likes_and_skips(browser)
    browser.screenshot(os.path.join(folder, "example-list.png"))
    browser.open(f"{page}/?baseUrl={serve}")
    browser.wait("the list again", f"{IDS}.length === 10")
    check(browser.script(IDS) == last, "a reload shows the same list")

    browser.size(360, 740)
    wide = browser.script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    check(wide <= 0, "nothing is wider than a narrow screen")
    browser.screenshot(os.path.join(folder, "example-narrow.png"))
    browser.size(1280, 800)

    browser.click("#sign-out")
    settled(browser, "You are signed out")
    check(not browser.script(IDS), "nothing of the user stays on the page")


def by_password(browser, page, seen):
    browser.open(f"{page}/?baseUrl={page}&publishableKey={KEY}")
    browser.wait("a form to sign in", "return !document.querySelector('#by-password').closest('[hidden]')")
    type_into(browser, "#email", EMAIL)
    type_into(browser, "#password", "wrong")
    browser.press(ENTER)
    browser.wait("a refusal", f"{PROBLEM} === 'Invalid login credentials'")
    browser.script("document.querySelector('#password').value = ''")
    type_into(browser, "#password", PASSWORD)
    browser.press(ENTER)
    settled(browser, "You are signed in")
    likes_and_skips(browser)
    for path in ("/auth/v1/token", "/functions/v1/two_tower_recommendations", "/rest/v1/rpc/like_video", "/rest/v1/skips"):
        check(path in seen, f"{path} was asked")


def unreachable(browser, page):
    """Nobody answers, or somebody stops in the middle."""
    for address in ("http://127.0.0.1:9", f"{page}/cut-off"):
        browser.open(f"{page}/?baseUrl={address}")
        browser.script("sessionStorage.clear()")
        browser.open(f"{page}/?baseUrl={address}&again")
        browser.wait("a form to sign in", "return !document.querySelector('#sign-in').hidden")
        type_into(browser, "#token", "any")
        browser.press(ENTER)
        browser.wait("an error in words", f"{PROBLEM}.includes('cannot be reached')")


def strangers_links(browser, page):
    """A link decides where passwords go on the machine that the page is tried out on, and only to that machine."""
    settings = "return import('/config.js').then(it => [it.baseUrl, it.publishableKey])"
    own = ["http://127.0.0.1:8080", ""]
    for origin, address, expected in (
        (page, page, [page, KEY]),
        (page, "https://elsewhere.example", own),
        (page, "http://127.0.0.1.elsewhere.example", own),
        (page, "//elsewhere.example", own),
        (page.replace("127.0.0.1", HOST), page, own),
        (page.replace("127.0.0.1", HOST), "https://elsewhere.example", own),
    ):
        browser.open(f"{origin}/?baseUrl={address}&publishableKey={KEY}")
        found = browser.script(settings)
        check(found == expected, f"{found} for a page of {origin} that is opened with {address}")


def main():
    serve, token, other_token = sys.argv[1:4]
    folder = sys.argv[4] if len(sys.argv) > 4 else "target/screenshots"
    seen = []
    handler = partial(Project, serve=serve, token=other_token, seen=seen)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    page = f"http://127.0.0.1:{server.server_port}"
    with Browser(os.environ["CHROMIUM"], os.environ["CHROMEDRIVER"], [f"--host-resolver-rules=MAP {HOST} 127.0.0.1"]) as browser:
        browser.size(1280, 800)
        try:
            by_token(browser, page, serve, token, folder)
            by_password(browser, page, seen)
            complaints = [entry["message"] for entry in browser.log() if "favicon" not in entry["message"]]
            refused = [message for message in complaints if "status of 40" in message]
            check(len(complaints) == len(refused) == 2, "the browser's console tells the two refusals and nothing else: " + "\n".join(complaints))
            unreachable(browser, page)
            strangers_links(browser, page)
        except Exception:
            browser.screenshot(os.path.join(folder, "example-failure.png"))
            print("\n".join(entry["message"] for entry in browser.log()), file=sys.stderr)
            raise
    print("the example app works in a browser")


if __name__ == "__main__":
    main()
