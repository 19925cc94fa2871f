"""The live page: only its own address may look on and act, what is malformed is refused, a browser drives a robot."""

import http.client
import json
import socket
import threading

import browser
import numpy as np
import pytest
from goal_seeker import seeker

from kilolayer.envs import make
from kilolayer.errors import ConfigurationError
from kilolayer.render.play import PlayServer, Session, check_address, is_loopback
from kilolayer.render.play.address import own_host
from kilolayer.render.play.server import LONGEST_BODY

TOKEN = "token"
SECONDS = 60.0


def numbers(goal):
    """A floor whose numbers rise along x, and that has a wall."""
    found = np.tile(np.linspace(0.0, goal[0], 10)[:, None], (1, 10))
    found[0] = np.nan
    return found


@pytest.fixture(scope="module")
def server():
    session = Session(make("point_u_maze", episode_length=400), seeker(), floor=numbers, seed=1)
    with PlayServer(session, port=0, token=TOKEN) as found, session:
        found.session = session
        yield found


def ask(server, path="", *, method="GET", body=None, token=TOKEN, **headers):
    """Return status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    if body is not None:
        headers = {"Content-Type": "application/json"} | headers
    connection.request(
        method, f"/{token}/{path}", body=body, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def control(server, given, **headers):
    body = given if isinstance(given, bytes) else json.dumps(given).encode()
    return ask(server, "controls", method="POST", body=body, **headers)


def test_the_address_has_a_token_and_the_page_is_whole(server):
    assert server.address == f"http://127.0.0.1:{server.port}/{TOKEN}/"
    status, headers, body = ask(server)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"point_u_maze" in body
    for name in ("viewer.css", "live.css", "three.js", "world.js", "live.js"):
        assert name.encode() in body
        assert ask(server, name)[0] == 200
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert headers["Server"] == "kilolayer"
    assert not [name for name in headers if name.lower().startswith("access-control")]


def test_every_address_has_a_token_of_its_own(server):
    tokens = set()
    for _ in range(2):
        with PlayServer(server.session, port=0) as other:
            tokens.add(other.address.split("/")[3])
    assert len(tokens) == 2
    assert min(map(len, tokens)) >= 32


@pytest.mark.parametrize("path", ["", "frames", "floor", "live.js", "controls"])
def test_nobody_without_the_token_or_by_another_name_is_answered(server, path):
    own = f"127.0.0.1:{server.port}"
    method, body = ("POST", b'{"reset": true}') if path == "controls" else ("GET", None)
    refused = [
        {"token": "other"},
        {"token": ""},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.port}"},
        {"Host": "127.0.0.1"},
        {"Host": f"127.0.0.1:{server.port + 1}"},
        {"Host": f"127.0.0.1.evil.example:{server.port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": own, "Origin": f"https://{own}"},
    ]
    episode = server.session.frame.data["episode"]
    for headers in refused:
        status, answered, text = ask(server, path, method=method, body=body, **headers)
        assert (status, text) == (403, b"this is not the address that was printed\n"), headers
        assert not [name for name in answered if name.lower().startswith("access-control")]
    assert server.session.frame.data["episode"] == episode
    if path == "controls":
        assert control(server, {"keep_goal": True}, Origin=f"http://{own}")[0] == 204
        assert control(server, {"keep_goal": False}, Host=f"localhost:{server.port}")[0] == 204


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", b"must be JSON"),
        (b"\xff", b"must be JSON"),
        (b'{"goal": [NaN, 1]}', b"must be JSON"),
        (b'{"goal": [1, Infinity]}', b"must be JSON"),
        (b'{"goal": [1, 1e999]}', b"a list of 2 finite numbers"),
        (b"[" * 30_000, b"must be JSON"),
        (b'{"fly": true}', b"'fly' is unknown"),
        (b'{"actions": "expert"}', b"one of policy"),
        (b'"' + b"x" * LONGEST_BODY + b'"', b"at most 65536 bytes"),
        (b"", b"must be JSON"),
    ],
)
def test_malformed_bodies_are_one_line(server, body, words):
    status, _, text = control(server, body)
    assert status == 400
    (line,) = text.splitlines()
    assert words in line


def test_other_methods_paths_and_types_are_refused(server):
    assert ask(server, "nowhere")[0] == 404
    assert ask(server, "../pyproject.toml")[0] == 404
    assert ask(server, "frames", method="POST", body=b"{}")[0] == 404
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
        assert ask(server, method=method)[0] == 405
        assert ask(server, method=method, token="other")[0] == 403
    assert control(server, {"reset": True}, Content_Type="text/plain")[0] == 400
    with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as raw:
        own = f"POST /{TOKEN}/controls HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        raw.sendall(f"{own}Content-Length: -1\r\n\r\n".encode())
        assert raw.recv(20).startswith(b"HTTP/1.1 400")


def test_the_floor_comes_as_bytes(server):
    _, headers, body = ask(server, "floor")
    found = json.loads(body)
    assert headers["Content-Type"] == "application/json"
    assert (found["rows"], found["columns"]) == (10, 10)
    assert found["high"] == pytest.approx(server.session.frame.data["goal"][0], abs=0.01)


def look_on(server):
    """Yield the frames of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS)
    connection.request("GET", f"/{TOKEN}/frames")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type") == "text/event-stream"
    for line in answer:
        if line.startswith(b"event: end"):
            return
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))
    connection.close()


def test_two_pages_see_the_same_robot(server):
    control(server, {"paused": False, "speed": 8.0})
    pages = [look_on(server), look_on(server)]
    for page in pages:
        first, later = next(page), [next(page) for _ in range(3)]
        assert later[-1]["step"] != first["step"]
    control(server, {"paused": True, "goal": [3.25, 1.5]})
    last = [next(frame for frame in page if frame["paused"] and frame["goal"] == [3.25, 1.5]) for page in pages]
    assert last[0] == last[1]
    control(server, {"steps": 2})
    for page in pages:
        assert next(frame for frame in page if frame["step"] >= last[0]["step"] + 2)["paused"]


def test_a_session_that_ends_or_fails_tells_its_pages():
    session = Session(make("point_u_maze", episode_length=400), seeker())
    seen: list[int] = []
    with PlayServer(session, port=0, token=TOKEN) as server, session:
        page = threading.Thread(target=lambda: seen.extend(len(frame) for frame in look_on(server)))
        page.start()
        while not seen:
            assert session.wait(session.frame.number, SECONDS) is not None
        session._robot.step = lambda actions: 1 / 0  # an engine that fails
        with pytest.raises(ZeroDivisionError):
            session.join()
        page.join(SECONDS)
        assert not page.is_alive()
    port = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    with PlayServer(session, port=port) as again:
        assert again.port == port  # it is free


def test_addresses_that_cannot_be_taken_are_one_line(server):
    for given, words in (
        ({"port": server.port}, f"port={server.port} of 127.0.0.1 cannot be taken"),
        ({"port": 70_000}, "port=70000 must be from 0 to 65535"),
        ({"port": -1}, "port=-1 must be from 0 to 65535"),
        ({"port": 0, "host": "no.such.host.invalid"}, "is no address of this machine"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            PlayServer(server.session, **given)
        with pytest.raises(ConfigurationError, match=words):
            check_address(given.get("host", "127.0.0.1"), given["port"])
    check_address("127.0.0.1", 0)


def test_names_that_are_this_machine_s_own():
    assert own_host("127.0.0.1:80", "127.0.0.1", 80)
    assert own_host("LOCALHOST:80", "127.0.0.1", 80)
    assert own_host("[::1]:80", "::1", 80)
    assert own_host("192.168.0.7:80", "0.0.0.0", 80)
    assert own_host("robot.lan:80", "robot.lan", 80)
    assert own_host(f"{socket.gethostname()}:80", "0.0.0.0", 80)
    for given in ("evil.example:80", "127.0.0.1", "", ":80", "localhost:81"):
        assert not own_host(given, "127.0.0.1", 80)
        assert not own_host(given, "0.0.0.0", 80)
    assert not own_host("localhost:80", "192.168.0.7", 80)
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "robot.lan", "")] == [
        *(True, True, True),
        *(False, False, False),
    ]


def test_a_server_on_all_addresses_says_how_others_reach_it(server):
    assert server.address_elsewhere is None
    with PlayServer(server.session, host="0.0.0.0", port=0) as open_to_all:
        assert open_to_all.address.startswith("http://127.0.0.1:")
        assert open_to_all.address_elsewhere == open_to_all.address.replace("127.0.0.1", socket.gethostname())


# In a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    binary = browser.find()
    if binary is None:
        pytest.skip("there is no Chromium here; on Debian: apt-get install chromium")
    found = browser.Browser(binary, tmp_path_factory.mktemp("profile"))
    found.call("Emulation.setDeviceMetricsOverride", width=500, height=500, deviceScaleFactor=1, mobile=False)
    yield found
    found.close()


def test_in_a_browser_the_goal_is_dragged_and_the_robot_follows(server, chromium):
    control(server, {"paused": True, "reset": True, "actions": "policy", "speed": 8.0, "goal": [1.5, 4.5]})
    chromium.call("Page.navigate", url=server.address)
    chromium.wait("document.readyState === 'complete' && Number(document.body.dataset.drawn) > 0")
    chromium.wait("document.body.dataset.goal === '1.5 4.5' && document.body.dataset.paused === 'true'")
    chromium.settle()
    before = chromium.screenshot()
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 200

    x, y = map(int, chromium.evaluate("document.body.dataset.goalAt").split())
    chromium.drag((x, y), (x - 60, y))
    chromium.wait("document.body.dataset.goal !== '1.5 4.5'")
    goal = [float(number) for number in chromium.evaluate("document.body.dataset.goal").split()]
    assert abs(goal[0] - 1.5) < 0.5  # along the row
    assert 1.5 < goal[1] < 4.3
    chromium.wait("document.getElementById('keep-goal').checked")  # it outlives the episode
    chromium.evaluate("document.getElementById('view').focus()")
    chromium.press("ArrowRight")
    chromium.wait(f"Number(document.body.dataset.goal.split(' ')[1]) > {goal[1]} + 0.1")

    assert chromium.evaluate("document.getElementById('status').textContent") == "on its way"
    chromium.press(" ")
    chromium.wait("document.body.dataset.reached === 'true'")
    assert chromium.evaluate("document.getElementById('status').textContent") == "at the goal"
    chromium.evaluate("document.querySelector('#actions input[value=zero]').click()")
    chromium.wait("document.body.dataset.actions === 'zero'")
    chromium.evaluate("document.getElementById('floor').click()")
    chromium.wait("document.body.dataset.floor !== undefined")
    chromium.evaluate("document.getElementById('reset').click()")
    chromium.wait("Number(document.body.dataset.step) < 20")
    chromium.evaluate("document.getElementById('goal').open = true")
    chromium.wait("document.getElementById('goal-1').value !== ''")
    chromium.evaluate(
        "var box = document.getElementById('goal-1'); box.value = '3.25'; box.dispatchEvent(new Event('input'))"
    )
    chromium.wait("document.body.dataset.goal.endsWith(' 3.25')")
    chromium.settle()
    assert (chromium.screenshot() != before).any(axis=-1).mean() > 0.02
    assert chromium.errors == []
    own = f"http://127.0.0.1:{server.port}/{TOKEN}/"
    assert [url for url in chromium.requests if not url.startswith((own, "data:"))] == []


def test_the_page_fits_a_phone_and_the_dark(server, chromium):
    chromium.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True)
    chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    chromium.call("Page.navigate", url=server.address)
    chromium.wait("document.readyState === 'complete' && Number(document.body.dataset.drawn) > 0")
    assert chromium.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert chromium.evaluate("document.getElementById('view').clientHeight") > 400
    assert chromium.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    unnamed = """[...document.querySelectorAll('button, select, input')].filter((one) => one.offsetParent !== null)
        .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).length"""
    assert chromium.evaluate(unnamed) == 0
    assert chromium.errors == []
