"""Geoms, sites, meshes, height fields and tendons of a scene, as plain data for a 3-D page."""

import base64
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from kilolayer.render.ghost import compose
from kilolayer.render.scene import GROUPS, Scene

SHAPES = {
    mujoco.mjtGeom.mjGEOM_SPHERE: "sphere",
    mujoco.mjtGeom.mjGEOM_CAPSULE: "capsule",
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: "ellipsoid",
    mujoco.mjtGeom.mjGEOM_CYLINDER: "cylinder",
    mujoco.mjtGeom.mjGEOM_BOX: "box",
    mujoco.mjtGeom.mjGEOM_MESH: "mesh",
    mujoco.mjtGeom.mjGEOM_SDF: "mesh",
    mujoco.mjtGeom.mjGEOM_HFIELD: "mesh",
}
"""Names of shapes in the page; a height field becomes a mesh."""

HFIELD_POINTS = 200
"""Points of a height field along an edge, at most."""

DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)
"""Colour of an element that was given none; that of its material counts then."""

PULLEY = -2
"""MuJoCo's mark of a point at which a tendon's path is broken."""


class Shapes:
    """What is drawn of a scene's model, each in the frame of the body that it is fixed to."""

    def __init__(self, scene: Scene, index: dict[int, int]):
        """Collect the visible geoms.

        Args:
            scene: the scene.
            index: place of each body that moves among those of the page; others are part of the world.
        """
        self._model, self._index = scene.model, index
        self._world = scene.body_poses(scene.motions[0].qpos[:1])
        self._mesh_numbers: dict[tuple[str, int], int] = {}
        self._shown = scene.visible
        self.meshes: list[dict[str, str]] = []
        """Triangles that geoms refer to by their place."""
        self.geoms = [entry for geom in range(scene.model.ngeom) if (entry := self._geom(geom, index)) is not None]
        self.floor = self._floor(scene)
        """Height of the ground, in metres."""
        self.sites = [entry for site in range(scene.model.nsite) if (entry := self._site(site)) is not None]

    def _floor(self, scene: Scene) -> float:
        """Return the height of the model's last plane; without one, 0 or what lies lowest in the first frame."""
        model, data = self._model, scene.place(scene.motions[0].qpos[0])
        planes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE)
        if planes.size:
            return float(data.geom_xpos[planes[-1], 2])
        down = data.geom_xmat.reshape(-1, 3, 3)[:, 2]
        middle, half = model.geom_aabb[:, :3], model.geom_aabb[:, 3:]
        lowest = data.geom_xpos[:, 2] + (down * middle).sum(axis=-1) - (np.abs(down) * half).sum(axis=-1)
        return min(0.0, float(lowest[self._shown].min(initial=0.0)))

    def of_bodies(self, bodies: list[int]) -> list[dict[str, Any]]:
        """Return the visible geoms of some bodies, whose places in the list they name."""
        index = {body: place for place, body in enumerate(bodies)}
        own = np.flatnonzero(np.isin(self._model.geom_bodyid, bodies))
        return [entry for geom in own if (entry := self._geom(int(geom), index)) is not None]

    def _geom_place(self, geom: int) -> tuple[int, np.ndarray, np.ndarray]:
        model = self._model
        return int(model.geom_bodyid[geom]), model.geom_pos[geom], model.geom_quat[geom]

    def _geom(self, geom: int, index: dict[int, int]) -> dict[str, Any] | None:
        model, kind = self._model, mujoco.mjtGeom(self._model.geom_type[geom])
        rgba = self._rgba(model.geom_rgba[geom], int(model.geom_matid[geom]))
        if kind not in SHAPES or rgba[3] == 0 or not self._shown[geom]:
            return None
        entry = self._entry(kind, model.geom_size[geom], rgba, self._placed(self._geom_place(geom), index))
        if SHAPES[kind] == "mesh":
            entry["mesh"] = self._mesh(kind, int(model.geom_dataid[geom]))
        return entry

    def _site(self, site: int) -> dict[str, Any] | None:
        model, kind = self._model, mujoco.mjtGeom(self._model.site_type[site])
        rgba = self._rgba(model.site_rgba[site], int(model.site_matid[site]))
        if rgba[3] == 0:
            return None
        place = (int(model.site_bodyid[site]), model.site_pos[site], model.site_quat[site])
        return self._entry(kind, model.site_size[site], rgba, self._placed(place, self._index))

    def _placed(
        self, place: tuple[int, np.ndarray, np.ndarray], index: dict[int, int]
    ) -> tuple[int, np.ndarray, np.ndarray]:
        """Return the place of a body in the page, and a pose in its frame; of one that never moves, in the world."""
        body, position, quaternion = place
        if body in index:
            return index[body], position, quaternion
        return -1, *compose(self._world[0][0, body], self._world[1][0, body], position, quaternion)

    def _entry(self, kind: Any, size: np.ndarray, rgba: np.ndarray, placed: tuple) -> dict[str, Any]:
        body, position, quaternion = placed
        return {
            "body": body,
            "type": SHAPES[kind],
            "size": rounded(size),
            "position": rounded(position),
            "quaternion": rounded(quaternion, 6),
            "rgba": rounded(rgba, 3),
        }

    def _rgba(self, own: np.ndarray, material: int) -> np.ndarray:
        """Return the colour of an element, or that of its material if it has the default colour."""
        return self._model.mat_rgba[material] if material >= 0 and np.allclose(own, DEFAULT_RGBA) else own

    def _mesh(self, kind: Any, number: int) -> int:
        """Return the place of a mesh or height field among those of the page."""
        is_field = kind == mujoco.mjtGeom.mjGEOM_HFIELD
        key = ("field" if is_field else "mesh", number)
        if key not in self._mesh_numbers:
            self._mesh_numbers[key] = len(self.meshes)
            vertices, faces = (height_field if is_field else _triangles)(self._model, number)
            self.meshes.append({"vertices": text(vertices.astype("<f4")), "faces": text(faces.astype("<u4"))})
        return self._mesh_numbers[key]


def _triangles(model: mujoco.MjModel, mesh: int) -> tuple[np.ndarray, np.ndarray]:
    vertex, face = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
    vertices = model.mesh_vert[vertex : vertex + model.mesh_vertnum[mesh]]
    return vertices, model.mesh_face[face : face + model.mesh_facenum[mesh]]


def height_field(model: mujoco.MjModel, field: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the surface of a height field as vertices in metres (points, 3) and triangles (faces, 3)."""
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    begin = model.hfield_adr[field]
    heights = model.hfield_data[begin : begin + rows * columns].reshape(rows, columns)
    x_half, y_half, top, _ = model.hfield_size[field]
    at_row, at_column = (
        np.unique(np.linspace(0, count - 1, min(count, HFIELD_POINTS)).round().astype(int)) for count in (rows, columns)
    )
    x, y = np.meshgrid(np.linspace(-x_half, x_half, columns)[at_column], np.linspace(-y_half, y_half, rows)[at_row])
    vertices = np.stack([x, y, top * heights[np.ix_(at_row, at_column)]], axis=-1).reshape(-1, 3)
    number = np.arange(len(vertices)).reshape(len(at_row), len(at_column))
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], axis=-1).reshape(-1, 3), np.stack([a, c, d], axis=-1).reshape(-1, 3)])
    return vertices, faces


def tendon_pieces(
    scene: Scene, episodes: list[Float[np.ndarray, "frames nq"]], *, spare: bool = False
) -> tuple[list[int], list[Float[np.ndarray, "frames pieces 2 3"]]]:
    """Return the straight pieces of all tendons in space.

    Args:
        scene: the scene.
        episodes: joint positions of the frames of each episode.
        spare: return as many pieces as a tendon can have in any pose, and not only those of these frames.

    Returns:
        The tendon of each piece, and for each episode both ends of every piece in each frame. Where a tendon has fewer
        pieces than in other frames, the rest have no length.
    """
    model = scene.model
    shown = [tendon for tendon in range(model.ntendon) if int(model.tendon_group[tendon]) in GROUPS]
    paths = [[[_pieces(scene.place(qpos), tendon) for tendon in shown] for qpos in frames] for frames in episodes]
    most = [max((len(frame[at]) for frames in paths for frame in frames), default=0) for at in range(len(shown))]
    if spare:  # a path of n points runs over n - 1 pieces, and a geom that it wraps around has two
        most = [2 * int(model.tendon_num[tendon]) if count else 0 for tendon, count in zip(shown, most, strict=True)]

    def padded(piece: np.ndarray, count: int) -> np.ndarray:
        end = piece[-1:, 1:] if len(piece) else np.zeros((1, 1, 3))
        return np.concatenate([piece, np.tile(end, (count - len(piece), 2, 1))])

    return [tendon for tendon, count in zip(shown, most, strict=True) for _ in range(count)], [
        np.array([np.concatenate([padded(*one) for one in zip(frame, most, strict=True)]) for frame in frames])
        if sum(most)
        else np.zeros((len(frames), 0, 2, 3))
        for frames in paths
    ]


def _pieces(data: mujoco.MjData, tendon: int) -> Float[np.ndarray, "pieces 2 3"]:
    """Return both ends of the pieces of one tendon: none if it does not run through space."""
    begin, count = int(data.ten_wrapadr[tendon]), int(data.ten_wrapnum[tendon])
    points = data.wrap_xpos.reshape(-1, 3)[begin : begin + count]
    broken = data.wrap_obj.reshape(-1)[begin : begin + count] == PULLEY
    whole = ~(broken[:-1] | broken[1:])
    return np.stack([points[:-1], points[1:]], axis=1)[whole] if count > 1 else np.zeros((0, 2, 3))


def rounded(numbers: np.ndarray, digits: int = 5) -> list[float]:
    """Return numbers rounded to a few digits."""
    return [round(float(number), digits) for number in numbers]


def text(array: np.ndarray) -> str:
    """Return the bytes of an array as text."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
