"""The interactive page: one file, no network, and a browser draws and plays it."""

import base64
import json
import re

import browser
import mujoco
import numpy as np
import pytest
from scenes import point_scene

from kilolayer.render.scene import Motion, Scene
from kilolayer.render.viewer import write_page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(point_scene(frames=31), tmp_path_factory.mktemp("page") / "scene.html")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    binary = browser.find()
    if binary is None:
        pytest.skip("there is no Chromium here; on Debian: apt-get install chromium")
    found = browser.Browser(binary, tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def data_of(path) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', path.read_text())[1])


def test_the_page_refers_to_nothing_outside(page):
    text = page.read_text()
    # The one address is the name of a namespace, which nothing loads.
    assert set(re.findall(r"https?://[^\s\"'`<>)]*", text)) <= {"http://www.w3.org/1999/xhtml"}
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!data:)', text)
    assert not re.findall(r"@import|url\(", re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1])
    assert "MIT License" in text
    assert page.parent.joinpath("scene.partial").exists() is False


def test_poses_come_out_as_they_went_in(page):
    scene, data = point_scene(frames=31), data_of(page)
    assert data["step"] == pytest.approx(0.1)
    for motion, episode in zip(scene.motions, data["episodes"], strict=True):
        steps = np.frombuffer(base64.b64decode(episode["poses"]), "<i2").reshape(31, data["bodies"], 7)
        position = np.array(data["origin"]) + data["scale"] * steps[..., :3]
        np.testing.assert_allclose(position[:, 0, :2], motion.qpos, atol=data["scale"] + 1e-5)
        np.testing.assert_allclose(steps[..., 3:] / 32767, np.tile([1, 0, 0, 0], (31, 1, 1)), atol=1e-4)
        assert episode["success"] == "".join("01"[int(each)] for each in motion.success)
    assert [geom["type"] for geom in data["geoms"]].count("box") >= 5
    assert data["geoms"][-1] | {"body": 0, "type": "cylinder"} == data["geoms"][-1]


def test_names_cannot_break_out_of_the_page(tmp_path):
    name = "</script><b>{{script}}"
    scene = point_scene()
    path = write_page(Scene(name, scene.model, scene.motions, 0.1, True, scene.maze), tmp_path / "scene.html")
    assert "<b>" not in path.read_text()
    assert data_of(path)["name"] == name


def test_long_episodes_of_many_bodies_stay_small(tmp_path):
    spec = mujoco.MjSpec()
    body = spec.worldbody
    for _ in range(25):
        body = body.add_body(pos=[0.0, 0.0, 0.1])
        body.add_joint()
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, fromto=[0, 0, 0, 0, 0, 0.1], size=[0.02, 0, 0])
    model = spec.compile()
    frames = 1000
    qpos = np.random.default_rng(0).normal(size=(frames, model.nq)) * 0.1
    motion = Motion(qpos, np.zeros((frames, 3)), 0.1, np.zeros(frames, bool), 0)
    path = write_page(Scene("chain", model, [motion] * 8, 0.02, False, None), tmp_path / "scene.html")
    assert path.stat().st_size < 6_000_000
    data = data_of(path)
    assert data["episodes"][0]["frames"] * data["step"] == pytest.approx(frames * 0.02, rel=0.01)
    assert {geom["type"] for geom in data["geoms"]} == {"capsule"}


def test_meshes_come_as_triangles(tmp_path):
    spec = mujoco.MjSpec()
    corners = [0.0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]
    spec.add_mesh(name="wedge", uservert=corners)
    body = spec.worldbody.add_body()
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="wedge", rgba=[1, 0, 0, 1])
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[1, 0, 0], group=3)
    model = spec.compile()
    motion = Motion(model.qpos0[None], np.zeros((1, 3)), 0.1, np.zeros(1, bool), 0)
    data = data_of(write_page(Scene("wedge", model, [motion], 0.02, False, None), tmp_path / "scene.html"))
    (geom,) = data["geoms"]  # geoms for collisions alone are left out
    assert (geom["type"], geom["mesh"], geom["rgba"]) == ("mesh", 0, [1.0, 0.0, 0.0, 1.0])
    assert np.frombuffer(base64.b64decode(data["meshes"][0]["faces"]), "<u4").size == 12
    assert np.frombuffer(base64.b64decode(data["meshes"][0]["vertices"]), "<f4").size == 12


def colours(pixels: np.ndarray) -> int:
    return len(np.unique(pixels.reshape(-1, 3), axis=0))


def test_a_browser_draws_it_plays_it_and_finds_no_fault(chromium, page):
    chromium.open(page)
    chromium.wait("Number(document.body.dataset.frame) > 3")  # by itself
    chromium.press(" ")
    chromium.wait("document.body.dataset.playing === 'false'")
    frame = int(chromium.evaluate("document.body.dataset.frame"))
    chromium.press("ArrowRight")
    chromium.wait(f"Number(document.body.dataset.frame) === {frame + 1}")

    chromium.evaluate("var scrub = document.getElementById('scrub')")
    chromium.evaluate("scrub.value = 0; scrub.dispatchEvent(new Event('input'))")
    chromium.wait("document.body.dataset.frame === '0'")
    assert chromium.evaluate("document.getElementById('status').textContent") == "on its way"
    waiting = chromium.screenshot()
    assert colours(waiting) > 200
    assert near(waiting, (0.7, 0.5, 0.0)) > 50  # the goal, orange
    chromium.evaluate("scrub.value = 21; scrub.dispatchEvent(new Event('input'))")
    chromium.wait("document.body.dataset.reached === 'true'")
    assert chromium.evaluate("document.getElementById('status').textContent") == "at the goal"
    chromium.press("ArrowDown")
    chromium.wait("document.body.dataset.episode === '1' && document.body.dataset.frame === '0'")

    before = chromium.screenshot()
    chromium.drag((300, 200), (420, 240))
    chromium.settle()
    assert (chromium.screenshot() != before).any(axis=-1).mean() > 0.05
    chromium.press(" ")
    chromium.wait("document.body.dataset.playing === 'true' && Number(document.body.dataset.frame) > 1")
    assert chromium.errors == []
    assert {url.split(":")[0] for url in chromium.requests} <= {"file", "data"}


def near(pixels: np.ndarray, colour: tuple[float, float, float]) -> int:
    """Count pixels whose hue is about that of a colour."""
    unit = np.array(colour) / np.linalg.norm(colour)
    length = np.linalg.norm(pixels.astype(float), axis=-1)
    return int(((pixels @ unit > 0.985 * length) & (length > 100)).sum())


def test_it_fits_a_phone_and_the_dark(chromium, page):
    chromium.call("Emulation.setDeviceMetricsOverride", width=360, height=720, deviceScaleFactor=1, mobile=True)
    chromium.open(page)
    assert chromium.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert chromium.evaluate("document.getElementById('view').clientHeight") > 400
    light = chromium.screenshot()
    chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    chromium.wait("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 28)'")
    chromium.settle()
    assert chromium.screenshot().mean() < light.mean() - 40
    assert chromium.errors == []
