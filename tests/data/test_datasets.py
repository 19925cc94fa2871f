"""Data sets: layouts, formats, mistakes in one line, and episodes that never leak into each other."""

import dataclasses
import importlib.util
import io
import json
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilolayer.data import Draw, prepare_arrivals, sample_arrivals, sample_hindsight, sample_transitions
from kilolayer.data.datasets import (
    DatasetFormat,
    DatasetSource,
    environment_of,
    read_dataset,
    register_dataset_format,
    register_dataset_source,
    unregister_dataset_format,
    unregister_dataset_source,
    write_dataset,
    written_formats,
)
from kilolayer.errors import ConfigurationError, RunError
from small_datasets import numbered, raw_file, same

LENGTHS = (5, 2, 4)
FORMATS = [
    "npz",
    "ogbench",
    pytest.param(
        "minari",
        marks=pytest.mark.skipif(
            not all(map(importlib.util.find_spec, ("minari", "h5py"))), reason="minari is not installed"
        ),
    ),
]


def output(form, folder):
    return folder / ("small-v0" if form == "minari" else "small.npz")


# ---- Formats -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_written_is_read_again(form, tmp_path):
    data = numbered(LENGTHS, failed=(1,), environment="point_u_maze")
    write_dataset(data, output(form, tmp_path), form)
    same(read_dataset(str(output(form, tmp_path))), data.checked("data"))
    assert environment_of(str(output(form, tmp_path))) == "point_u_maze"


@pytest.mark.parametrize("form", FORMATS)
def test_paths_may_be_relative(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = output(form, Path())
    write_dataset(numbered(LENGTHS), path, form)
    same(read_dataset(str(path)), numbered(LENGTHS))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_data_give_the_same_bytes(form, tmp_path):
    for name in ("first", "second"):
        write_dataset(numbered(LENGTHS), output(form, tmp_path / name), form)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("first", "second")]
    assert files[0]
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_is_written_over_and_nothing_is_left_behind(form, tmp_path):
    path = output(form, tmp_path)
    path.mkdir()
    with pytest.raises(RunError, match="exists already"):
        write_dataset(numbered(LENGTHS), path, form)
    path.rmdir()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        write_dataset(numbered(LENGTHS), output(form, tmp_path / "file"), form)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_of_minari_has_a_version(tmp_path):
    pytest.importorskip("minari")
    with pytest.raises(ConfigurationError, match="has a name and a version, such as reacher-v0"):
        write_dataset(numbered(LENGTHS), tmp_path / "small", "minari")


def test_minari_itself_reads_what_is_written(tmp_path):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    write_dataset(numbered(LENGTHS, failed=(1,)), tmp_path / "small-v0", "minari")
    found = list(minari.MinariDataset(tmp_path / "small-v0" / "data").iterate_episodes())
    assert [len(episode) for episode in found] == [4, 1, 3]
    assert [bool(episode.terminations[-1]) for episode in found] == [False, True, False]
    np.testing.assert_array_equal(found[2].observations["achieved_goal"], [[2, 0], [2, 1], [2, 2], [2, 3]])


def test_minaris_actions_are_mapped_from_their_bounds(tmp_path):
    """Data as Minari's own writer makes them, with plain observations and an environment of Gymnasium."""
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    import gymnasium
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    (tmp_path / "mine-v0" / "data").mkdir(parents=True)
    storage = MinariStorage.new(
        tmp_path / "mine-v0" / "data",
        gymnasium.spaces.Box(-np.inf, np.inf, (3,)),
        gymnasium.spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 4.0]), dtype=np.float64),
    )
    about = {"dataset_id": "mine-v0", "minari_version": minari.__version__}
    spec = gymnasium.envs.registration.EnvSpec("FetchReach-v4", entry_point="nowhere:Nothing")
    storage.update_metadata(about | {"env_spec": spec.to_json()})
    data = numbered((4,))
    actions = np.array([[-2.0, 0.0], [1.0, 3.0], [2.0, 4.0]])
    storage.update_episodes(
        [
            EpisodeBuffer(
                id=0,
                observations=data.observation,
                actions=actions,
                rewards=[0.0] * 3,
                terminations=[False] * 3,
                truncations=[False, False, True],
            )
        ]
    )
    found = read_dataset("minari:mine-v0", tmp_path)
    np.testing.assert_array_equal(found.action[:3], [[-1, -1], [0.5, 0.5], [1, 1]])
    assert (found.achieved_goal, found.environment) == (None, "gym:FetchReach-v4")
    np.testing.assert_array_equal(found.observation, data.observation)


def test_a_stranger_does_not_choose_what_is_imported(tmp_path):
    """Without its spaces in the metadata, minari would build the environment that the file names."""
    folder = tmp_path / "bad-v0" / "data"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps({"env_spec": '{"id": "x:Y-v0"}', "data_format": "hdf5"}))
    with pytest.raises(ConfigurationError, match="does not tell observation_space and action_space"):
        read_dataset(str(tmp_path / "bad-v0"))


def test_formats_and_sources_are_open(tmp_path):
    data = numbered(LENGTHS)
    register_dataset_source(DatasetSource("mine", lambda name, folder: data, lambda name: f"env_of_{name}"))
    register_dataset_format(DatasetFormat("dots", lambda path: data, lambda path: path.suffix == ".dots"))
    try:
        same(read_dataset("mine:anything"), data)
        assert environment_of("mine:anything") == "env_of_anything"
        (tmp_path / "file.dots").touch()
        same(read_dataset(str(tmp_path / "file.dots")), data)
        assert written_formats() == ["minari", "npz", "ogbench"]
        with pytest.raises(ConfigurationError, match="format='dots' is unknown; choose one of minari, npz, ogbench"):
            write_dataset(data, tmp_path / "x", "dots")
        with pytest.raises(ConfigurationError, match="'mine' is already registered"):
            register_dataset_source(DatasetSource("mine", lambda name, folder: data))
        with pytest.raises(ConfigurationError, match="'dots' is already registered"):
            register_dataset_format(DatasetFormat("dots", lambda path: data, lambda path: False))
    finally:
        unregister_dataset_source("mine")
        unregister_dataset_format("dots")
    with pytest.raises(ConfigurationError, match="source 'mine' is unknown; did you mean minari"):
        read_dataset("mine:anything")


# ---- OGBench's layouts -------------------------------------------------------------------------------------


def layouts(path, lengths):
    """Write the three layouts of the same episodes; return their paths."""
    raw = raw_file(path / "raw.npz", lengths)
    last = raw["terminals"].astype(bool)
    one_before = np.append(last[1:], True)
    following = np.append(raw["observations"][1:], raw["observations"][:1], axis=0)
    np.savez(
        path / "regular.npz",
        observations=raw["observations"][~last],
        actions=raw["actions"][~last],
        next_observations=following[~last],
        terminals=one_before[~last].astype(np.float32),
    )
    np.savez(
        path / "compact.npz",
        observations=raw["observations"],
        actions=raw["actions"],
        terminals=np.minimum(raw["terminals"] + one_before, 1.0),
        valids=1.0 - raw["terminals"],
    )
    return [path / f"{name}.npz" for name in ("raw", "regular", "compact")]


def transitions(data):
    """All transitions of a data set's buffer, as the samplers see them: observation, action, next observation."""
    buffer = dataclasses.replace(data, achieved_goal=data.observation).to_buffer()
    drawn = sample_transitions(buffer, (4000,), jax.random.key(0), relabeled=1.0)
    assert np.asarray(drawn.known).all()
    rows = np.concatenate([drawn.observation, drawn.action, drawn.next_observation], axis=1)
    return np.unique(rows, axis=0)


def test_all_layouts_hold_the_same_transitions(tmp_path):
    found = [read_dataset(str(path)) for path in layouts(tmp_path, LENGTHS)]
    assert [data.steps for data in found] == [sum(LENGTHS) - len(LENGTHS)] * 3
    assert len(transitions(found[0])) == found[0].steps
    for other in found[1:]:
        same(other, found[0])
        np.testing.assert_array_equal(transitions(other), transitions(found[0]))


@pytest.mark.parametrize("compact", [False, True])
def test_transitions_are_those_of_ogbenchs_own_loader(tmp_path, compact):
    utils = pytest.importorskip("ogbench.utils")
    raw_file(tmp_path / "pointmaze-medium-navigate-v0.npz", LENGTHS)
    theirs = utils.load_dataset(str(tmp_path / "pointmaze-medium-navigate-v0.npz"), compact_dataset=compact)
    if compact:
        where = np.flatnonzero(theirs["valids"])
        following = theirs["observations"][where + 1]
    else:
        where, following = np.arange(len(theirs["observations"])), theirs["next_observations"]
    expected = np.concatenate([theirs["observations"][where], theirs["actions"][where], following], axis=1)
    data = read_dataset("ogbench:pointmaze-medium-navigate-v0", tmp_path)
    np.testing.assert_array_equal(transitions(data), np.unique(expected, axis=0))
    np.savez(tmp_path / "saved.npz", **theirs)
    same(read_dataset(str(tmp_path / "saved.npz")), data)


def test_ogbenchs_own_loader_reads_what_is_written(tmp_path):
    utils = pytest.importorskip("ogbench.utils")
    data = numbered(LENGTHS)
    write_dataset(data, tmp_path / "mine.npz", "ogbench")
    theirs = utils.load_dataset(str(tmp_path / "mine.npz"))
    np.testing.assert_array_equal(theirs["observations"], data.observation[~data.last])
    np.testing.assert_array_equal(theirs["actions"], data.action[~data.last])


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("pointmaze-medium-navigate-v0", "ogbench:pointmaze-medium-v0"),
        ("cube-single-play-v0", "ogbench:cube-single-v0"),
        ("puzzle-4x4-noisy-v0", "ogbench:puzzle-4x4-v0"),
    ],
)
def test_the_environment_is_the_name_without_the_kind_of_data(name, environment):
    assert environment_of(f"ogbench:{name}") == environment


def test_a_file_that_is_missing_is_downloaded_by_the_package(tmp_path, monkeypatch):
    called = []

    def download(names, folder):
        called.append((names, folder))
        raise OSError("no network\nhere")

    module = type("Package", (), {"download_datasets": staticmethod(download)})
    monkeypatch.setitem(__import__("sys").modules, "ogbench", module)
    with pytest.raises(ConfigurationError, match=r"does not exist, and cannot be downloaded: no network here"):
        read_dataset("ogbench:pointmaze-medium-navigate-v0", tmp_path)
    assert called == [(["pointmaze-medium-navigate-v0"], str(tmp_path))]
    monkeypatch.setitem(__import__("sys").modules, "ogbench", None)
    with pytest.raises(ConfigurationError, match=r"its download needs ogbench: pip install 'kilolayer\[ogbench\]'"):
        read_dataset("ogbench:pointmaze-medium-navigate-v0", tmp_path)


# ---- Mistakes ----------------------------------------------------------------------------------------------


def changed(name, change):
    """A file of OGBench in which one array is another."""

    def write(path):
        arrays = {key: array.copy() for key, array in raw_file(path, LENGTHS).items()}
        arrays[name] = change(arrays[name])
        np.savez(path, **{key: array for key, array in arrays.items() if array is not None})

    return write


def put(row, value):
    def change(array):
        array[row] = value
        return array

    return change


def without_an_end(path):
    archive = io.BytesIO()
    raw_file(archive, LENGTHS)
    path.write_bytes(archive.getvalue()[:-200])


def with_objects(path):
    np.savez(path, observations=np.array([{"a": 1}], object), actions=np.zeros((1, 2)), terminals=np.ones(1))


def nothing(path):
    np.savez(path, observations=np.zeros((0, 3)), actions=np.zeros((0, 2)), terminals=np.zeros(0))


MISTAKES = {
    "no terminal at the end": (
        changed("terminals", put(-1, 0.0)),
        "the last row does not end an episode; the file was cut short",
    ),
    "an episode of one row": (changed("terminals", put(0, 1.0)), "episode 0 has a single row"),
    "mixed lengths": (changed("actions", lambda a: a[:-1]), "action has 10 rows and observation has 11"),
    "NaN": (changed("observations", put((7, 1), np.nan)), r"observation\[7\] is not finite: \[2.0, nan"),
    "infinity": (changed("actions", put((0, 1), np.inf)), r"action\[0\] is not finite: \[0.0, inf\]"),
    "too large for float32": (changed("observations", lambda o: o.astype(np.float64) + 1e300), "is not finite"),
    "actions out of bounds": (changed("actions", put((0, 0), 1.5)), r"action\[0\] is \[1.5, 0.0\], and actions are"),
    "no actions": (changed("actions", lambda a: None), "is in no format that is known"),
    "no terminals": (changed("terminals", lambda t: None), "has no array 'terminals'; it has actions, observations"),
    "terminals of two": (changed("terminals", put(3, 2.0)), r"terminals\[3\] is 2.0; it must be 0 or 1"),
    "terminals with two axes": (changed("terminals", lambda t: t[:, None]), r"terminals is float32\[11, 1\]"),
    "pixels": (changed("observations", lambda o: o.astype(np.uint8)), "observation is uint8; it needs floating-point"),
    "flat observations": (changed("observations", lambda o: o[:, 0]), r"observation has shape \[11\]"),
    "three axes": (changed("observations", lambda o: o[:, None]), r"observation has shape \[11, 1, 3\]"),
    "nothing in it": (nothing, "is empty: it has no rows"),
    "objects": (with_objects, "holds Python objects, which are never loaded"),
    "no archive": (lambda path: path.write_bytes(b"text"), "in no format that is known"),
    "an empty file": (lambda path: path.touch(), "in no format that is known"),
    "cut short": (without_an_end, "in no format that is known"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(tmp_path, mistake):
    write, message = MISTAKES[mistake]
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(ConfigurationError, match=message) as error:
        read_dataset(str(path))
    assert "bad.npz" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "folder", "message"),
    [
        ("nowhere.npz", None, "there is no such file; take a path, or one of minari:NAME, ogbench:NAME"),
        ("ogbench:../../etc/passwd", None, "is no name of OGBench"),
        ("minari:../x", None, "is no name of Minari"),
        ("minari:none/x-v0", "here", "holds no data set; minari downloads to its own folder alone"),
        ("", None, "is not a name"),
        ("x\0y", None, "is not a name"),
    ],
)
def test_names_that_are_none_are_one_line(name, folder, message):
    with pytest.raises(ConfigurationError, match=message):
        read_dataset(name, folder)


def test_a_folder_has_no_effect_with_a_path(tmp_path):
    raw_file(tmp_path / "mine.npz", LENGTHS)
    with pytest.raises(ConfigurationError, match="dataset_dir='here' has no effect with the path"):
        read_dataset(str(tmp_path / "mine.npz"), "here")


def test_a_member_of_an_archive_that_is_damaged_is_one_line(tmp_path):
    raw_file(tmp_path / "good.npz", LENGTHS)
    with zipfile.ZipFile(tmp_path / "good.npz") as good, zipfile.ZipFile(tmp_path / "bad.npz", "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            bad.writestr(name, content[:-40] if name == "actions.npy" else content)
    with pytest.raises(ConfigurationError, match=r"bad.npz: actions cannot be read: ValueError") as error:
        read_dataset(str(tmp_path / "bad.npz"))
    assert "\n" not in str(error.value)


def test_the_action_of_a_last_row_means_nothing(tmp_path):
    data = numbered(LENGTHS)
    data.action[data.last] = np.nan
    checked = data.checked("data")
    assert np.isfinite(checked.action).all()
    buffer = checked.to_buffer()
    drawn = sample_hindsight(buffer, (4000,), 0.9, jax.random.key(1))
    assert set(np.unique(np.asarray(drawn.action)[:, 0])) == {np.float32(e / 100) for e in range(3)}


# ---- Episodes stay apart -----------------------------------------------------------------------------------


ROWS = 40
"""Of the buffers in the property test: all have the same shape, so that the samplers are compiled once."""

DRAW = Draw(
    lambda a, b: (abs(a - b) < 0.5).all(), horizon=8, discount=0.9, own_goals=0.0, random_goals=0.0, action_chunk=2
)


@jax.jit
def samples(buffer, key):
    return (
        sample_hindsight(buffer, (256,), 0.9, key, action_chunk=2, failure_discount=0.9),
        sample_transitions(buffer, (256,), key, relabeled=1.0),
        sample_arrivals(prepare_arrivals(buffer, DRAW), 256, DRAW, key),
    )


@given(
    lengths=st.lists(st.integers(2, 9), max_size=4),
    failed=st.sets(st.integers(0, 4)),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=40, deadline=None)
def test_episodes_never_leak_into_each_other(lengths, failed, seed):
    """Every goal, next state and chunk is of the row's own episode, and no action of a last row is ever drawn."""
    failed = {episode for episode in failed if episode <= len(lengths)}
    lengths = [*lengths, ROWS + len(failed) - sum(lengths)]
    buffer = numbered(lengths, failed=tuple(failed)).checked("data").to_buffer()
    pairs, steps, rows = samples(buffer, jax.random.key(seed))
    size = np.array(lengths)
    for drawn, goal in ((pairs, pairs.desired_goal), (steps, steps.desired_goal), (rows, rows.goal[:, 0])):
        seen, goal, action = (np.asarray(array) for array in (drawn.observation, goal, drawn.action))
        episode, step = seen[:, 0].astype(int), seen[:, 1].astype(int)
        assert (step < size[episode] - 1).all()
        assert (goal[:, 0] == episode).all()
        assert ((goal[:, 1] >= step) | (goal[:, 1] == -1)).all()  # -1 was commanded
        np.testing.assert_array_equal(action[:, :2], np.stack([episode, step], axis=1).astype(np.float32) / 100)
    now, following = np.asarray(steps.observation), np.asarray(steps.next_observation)
    failing = (now[:, 1] == size[now[:, 0].astype(int)] - 2) & np.isin(now[:, 0], list(failed))
    np.testing.assert_array_equal(np.asarray(steps.terminated), failing)
    assert np.asarray(steps.known).all()
    assert (following[~failing, :2] == now[~failing, :2] + [0, 1]).all()
    for drawn in (pairs, rows):  # a chunk of two actions is valid where both were taken
        episode, step = (np.asarray(drawn.observation)[:, place].astype(int) for place in (0, 1))
        np.testing.assert_array_equal(np.asarray(drawn.valid), step + 2 <= size[episode] - 1)


def test_a_failure_is_known_and_ends_its_episode():
    buffer = numbered((3, 3), failed=(0,)).checked("data").to_buffer()
    assert buffer.capacity == 5  # nothing follows the failure
    np.testing.assert_array_equal(buffer.terminated[:, 0], [False, True, False, False, False])
    np.testing.assert_array_equal(buffer.diverged[:, 0], [False, False, False, False, True])
    np.testing.assert_array_equal(buffer.episode[:, 0], [0, 0, 1, 1, 1])
    assert int(buffer.open_episode[0]) == 2


def test_without_goals_an_episode_was_to_reach_what_it_reached():
    data = dataclasses.replace(numbered((3, 2)), desired_goal=None)
    np.testing.assert_array_equal(data.goal, [[0, 2], [0, 2], [0, 2], [1, 1], [1, 1]])
