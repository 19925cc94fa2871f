"""What a page draws of a robot that is shown live, as plain data."""

from typing import Any

import numpy as np
from jaxtyping import Float

from kilolayer.envs import Environment
from kilolayer.errors import TrainingError
from kilolayer.render.play.robot import Seen
from kilolayer.render.record import model_of, motion_of, scene_of
from kilolayer.render.scene import Motion
from kilolayer.render.viewer.shapes import rounded, tendon_pieces
from kilolayer.render.viewer.write import scene_data


class Picture:
    """Turns what is seen of a robot into numbers for the page's bodies, goal, ghost and tendons."""

    def __init__(self, environment: Environment, first: Seen, goals: Float[np.ndarray, "goals goal"]):
        """Prepare the scene.

        Args:
            environment: whose robot it is.
            first: what is seen at the start of an episode.
            goals: that it may have later, which the first view shows as well.

        Raises:
            ConfigurationError: if neither the task nor its engine has a model to draw, or the control step is unknown.
        """
        self._environment, self._model = environment, model_of(environment)
        self._marks: tuple[bytes, int] | None = None
        self._marked: Motion
        self._start: np.ndarray
        desired = np.concatenate([np.asarray(first.desired_goal)[None], goals])
        qpos = np.tile(first.qpos, (len(desired), 1))
        motion = motion_of(environment, self._model, qpos, desired, np.zeros(len(desired), bool), 0)
        self._scene = scene_of(environment, self._model, [motion])
        self.data: dict[str, Any] = scene_data(self._scene, live=True)
        """The scene, as the page's scripts take it."""
        maze = self._scene.maze
        self.data["maze"] = None if maze is None else [*maze.walls.shape, maze.cell_size]
        self._ghosts = [] if motion.ghost is None else sorted(int(body) for body in motion.ghost.bodies)

    def of(self, seen: Seen, episode: int) -> dict[str, Any]:
        """Return `poses`, `mark`, `ghost` and `tendons` of a moment.

        Args:
            seen: the moment.
            episode: its number.

        Raises:
            TrainingError: if the pose is not finite.
        """
        if not np.isfinite(seen.qpos).all():
            raise TrainingError(f"a pose in {self._environment.name} is not finite")
        motion = self._motion(seen, episode)
        qpos = np.asarray(seen.qpos)[None]
        _, (pieces,) = tendon_pieces(self._scene, [qpos], spare=True)
        position, quaternion = self._scene.body_poses(qpos)
        moving = self._scene.moving
        poses = np.concatenate([position[0, moving], quaternion[0, moving]], axis=-1)
        return {
            "poses": rounded(poses.reshape(-1)),
            "mark": None if motion.goal is None else rounded(motion.goal[0]),
            "ghost": self._ghost(motion),
            "tendons": rounded(pieces.reshape(-1)),
        }

    def _motion(self, seen: Seen, episode: int) -> Motion:
        """Return the goal's mark and ghost, computed anew if the goal or the episode is another one."""
        goal = np.asarray(seen.desired_goal)
        if self._marks is None or self._marks[1] != episode:
            self._start = np.asarray(seen.qpos)
        if self._marks != (goal.tobytes(), episode):
            self._marks = (goal.tobytes(), episode)
            still = np.zeros(1, bool)
            self._marked = motion_of(self._environment, self._model, self._start[None], goal[None], still, 0)
        return self._marked

    def _ghost(self, motion: Motion) -> list[list[float] | None]:
        if motion.ghost is None:
            return []
        ghost = motion.ghost.at(0)
        poses = np.concatenate([ghost.position[0], ghost.quaternion[0]], axis=-1)
        own = {int(body): rounded(pose) for body, pose in zip(ghost.bodies, poses, strict=True)}
        return [own.get(body) for body in self._ghosts]
