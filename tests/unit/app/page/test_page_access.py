"""Who may ask the page: strangers, other sites, other names, wrong passwords."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from ibd.app.page import access
from ibd.app.page.access import HEADERS, is_loopback
from tests.page_makers import Page, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "birds")


@pytest.fixture(scope="module")
def page(run):
    return Page(run)


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/runs", "/api/runs/birds/picture?image=test:0", "/none"])
def test_a_stranger_is_refused_in_one_line(page, path):
    for wanted in (path, f"{path}{'&' if '?' in path else '?'}token=guess"):
        answer = page.stranger().get(wanted)
        assert answer.status_code == 403
        assert answer.text.count("\n") <= 1
        assert "ibd serve" in answer.text
    forged = page.stranger()
    forged.cookies.set(page.access.cookie, "forged")
    assert forged.get(path).status_code == 403
    assert page.stranger().post("/api/runs/birds/predict", json={}).status_code == 403


def test_the_token_becomes_a_cookie_and_leaves_the_address(page):
    client = page.stranger()
    answer = client.get("/", params={"token": page.access.token, "x": "1"}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?x=1"
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert page.access.token not in said  # who reads the cookie of a browser cannot let in another one
    assert client.get("/api/runs").status_code == 200
    far = page.stranger().get("//evil.example/", params={"token": page.access.token}, follow_redirects=False)
    assert far.headers.get("location", "/").startswith("/")
    assert not far.headers.get("location", "/").startswith("//")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.168.1.5", ""])
def test_a_name_that_is_not_the_pages_is_refused(page, host):
    """A site whose name resolves to this machine (DNS rebinding) has the browser's cookies for that name, not ours."""
    client = page.browser()
    assert client.get("/api/runs", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:9999", "127.0.0.1", "[::1]:8000"])
def test_the_own_names_are_known_at_any_port(page, host):
    assert page.browser().get("/api/runs", headers={"host": host}).status_code in (200, 403)  # a cookie is by name


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},  # another server of this machine, which the browser calls the same site
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_can_neither_send_nor_embed(page, headers):
    client = page.browser()
    answer = client.post("/api/runs/birds/predict", json={"image": "test:0"}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"] == "requests from other sites are refused"
    if "sec-fetch-site" in headers:
        assert client.get("/api/runs", headers={**headers, "sec-fetch-mode": "no-cors"}).status_code == 403
        assert client.get("/", headers={**headers, "sec-fetch-mode": "navigate"}).status_code == 200  # a link
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client.post("/api/runs/birds/predict", json={"image": "test:0"}, headers=own).status_code == 200


def test_a_form_of_another_type_is_refused(page):
    """What a plain form of another site could send."""
    answer = page.browser().post(
        "/api/runs/birds/predict", content=b'{"image": "test:0"}', headers={"content-type": "text/plain"}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/api/runs", "/static/none.js", "/api/runs/none"])
def test_every_answer_loads_nothing_from_elsewhere(page, path):
    for client in (page.browser(), page.stranger()):
        headers = client.get(path).headers
        for name, value in HEADERS.items():
            assert headers[name] == value
        assert "unsafe" not in headers["content-security-policy"]


def test_an_answer_that_nobody_foresaw_is_one_line_and_as_guarded(page, monkeypatch):
    from ibd.app.page.site import Site

    def fail(*_):
        raise ZeroDivisionError("of a user's own class")

    client = page.stranger(raises=False)
    client.get("/", params={"token": page.access.token})
    monkeypatch.setattr(Site, "run", fail)
    answer = client.get("/api/runs/birds")
    assert answer.status_code == 500
    assert answer.json() == {"error": "this failed (ZeroDivisionError); the terminal says more"}
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


def test_files_beside_the_static_ones_are_not_served(page):
    for path in ("/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static//etc/passwd"):
        answer = page.browser().get(path)
        assert answer.status_code == 404
        assert "import" not in answer.text


def test_a_password_opens_and_wrong_ones_wait_longer_and_longer(run, monkeypatch):
    page = Page(run, host="0.0.0.0", password="correct horse")
    client = page.stranger("http://192.168.1.5:8000")
    form = client.get("/")
    assert form.status_code == 403
    assert 'type="password"' in form.text
    assert client.get("/", params={"token": page.access.token}).status_code == 403  # no way past the password
    assert client.get("/api/runs").json()["error"].startswith("say the password")
    clock = [1000.0]
    monkeypatch.setattr(access.time, "monotonic", lambda: clock[0])
    for _ in range(3):
        assert client.post("/login", data={"password": "wrong"}).status_code == 403
    late = client.post("/login", data={"password": "correct horse"})
    assert late.status_code == 429
    assert "wait 1 second" in late.text
    clock[0] += 1.1
    assert client.post("/login", data={"password": "wrong"}).status_code == 403
    clock[0] += 1.1
    assert client.post("/login", data={"password": "correct horse"}).status_code == 429  # 2 seconds now
    clock[0] += 1
    assert client.post("/login", data={"password": "correct horse"}).status_code == 200
    assert client.get("/api/runs").status_code == 200
    assert client.post("/login", data={"password": "x" * 5000}).status_code == 200  # who is in needs no more


def test_passwords_that_come_slowly_are_no_free_tries(run):
    """All of them are let in before the first is wrong: each must wait as if they had come one after the other."""
    page = Page(run, host="0.0.0.0", password="correct horse")
    statuses = []

    async def login(arrived, password):
        headers = [(b"host", b"192.168.1.5:8000"), (b"origin", b"http://192.168.1.5:8000")]
        scope = {"type": "http", "method": "POST", "path": "/login", "query_string": b"", "headers": headers}

        async def receive():
            await arrived.wait()
            return {"type": "http.request", "body": f"password={password}".encode()}

        async def send(message):
            statuses.extend([message["status"]] if message["type"] == "http.response.start" else [])

        await page.app({**scope, "client": ("192.168.1.9", 1)}, receive, send)

    async def attack():
        arrived = asyncio.Event()
        tries = [asyncio.create_task(login(arrived, word)) for word in ["a", "b", "c", "d", "e", "correct+horse"]]
        await asyncio.sleep(0)
        arrived.set()
        await asyncio.gather(*tries)

    with ThreadPoolExecutor(1) as thread:  # a loop of its own, whatever runs in this one
        thread.submit(asyncio.run, attack()).result()
    assert statuses == [403] * 3 + [429] * 3


def test_a_long_password_is_not_read(run):
    page = Page(run, password="correct horse")
    assert page.stranger().post("/login", data={"password": "x" * 5000}).status_code == 413


def test_the_name_of_the_machine_is_known_in_any_letters(run, monkeypatch):
    monkeypatch.setattr(access.socket, "gethostname", lambda: "Annas-MacBook.local")
    page = Page(run, host="0.0.0.0", password="correct horse")
    assert "password" in page.stranger().get("/", headers={"host": "annas-macbook.local:8000"}).text


def test_another_loopback_address_is_known_by_its_own_name(run):
    page = Page(run, host="127.0.0.2")
    client = page.stranger("http://127.0.0.2:8000")
    assert client.get("/", params={"token": page.access.token}).status_code == 200


def test_a_tab_that_was_left_open_says_what_to_do(page, run):
    client = page.browser()
    again = Page(run).stranger()
    again.cookies.update(client.cookies)
    assert "started anew" in again.get("/api/runs").json()["error"]


def test_with_a_password_a_name_must_still_be_of_this_machine(run):
    page = Page(run, host="0.0.0.0", password="correct horse")
    assert page.stranger("http://evil.example:8000").get("/").status_code == 400
    for name in ("10.0.0.7", "[fe80::1]", "localhost"):
        assert page.stranger().get("/", headers={"host": f"{name}:8000"}).status_code == 403


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.1", "example.org", "")))
