"""A session: a robot that moves in real time in a thread of its own, shown by frames and changed by controls."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from kilolayer.agents import ActionMode
from kilolayer.envs import Environment
from kilolayer.envs.gym import GymEnvironment
from kilolayer.errors import ConfigurationError
from kilolayer.policies import Policy
from kilolayer.render.play.actors import Actions, actions_of, check_actions
from kilolayer.render.play.controls import SPEEDS, Controls
from kilolayer.render.play.goals import Goals
from kilolayer.render.play.pace import Pace
from kilolayer.render.play.picture import Picture
from kilolayer.render.play.robot import Robot, distance_text

MOST_FRAMES = 60.0
"""Frames of a second, at most; between them, a fast robot takes several steps."""

IN_VIEW = 24
"""Goals that the first view shows."""

Floor = Callable[[Float[np.ndarray, " goal"]], Float[np.ndarray, "rows columns"]]
"""Returns a number for every pixel of a maze's floor, for a desired goal; NaN for none."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """What is shown at a moment."""

    number: int
    """Frames are numbered from 1."""
    data: Mapping[str, Any]
    """Plain data; see `Session.frame`."""


@dataclasses.dataclass
class Counts:
    """What happened so far."""

    episode: int = 1
    time_at_goal: int = 0
    """Steps of this episode at the goal."""
    ended: int = 0
    """Episodes that came to their end."""
    reached: int = 0
    """Those of them that reached their goal."""


class Session:
    """Shows one robot live. Its methods may be called from any thread.

    Use it as a context, in which the robot moves; without one, call `advance` step by step.

        >>> with Session(environment, policy) as session:
        ...     session.control({"speed": 2.0})
    """

    def __init__(
        self,
        environment: Environment,
        policy: Policy | None = None,
        *,
        actions: str | None = None,
        mode: ActionMode = "deterministic",
        speed: float = 1.0,
        seed: int = 0,
        floor: Floor | None = None,
    ):
        """Prepare the robot. Its first step is compiled here.

        Args:
            environment: its robot is shown.
            policy: that can move it; None for none.
            actions: what moves it: `policy`, `zero` or `random`; None for the policy, or else `random`.
            mode: how the policy chooses.
            speed: times as fast as it would be, one of `SPEEDS`.
            seed: of starts, goals and actions.
            floor: numbers to show as colours on the floor of a maze.

        Raises:
            ConfigurationError: if the environment cannot be shown in 3-D, or an argument is not valid.
        """
        if isinstance(environment, GymEnvironment):
            raise ConfigurationError(
                f"{environment.name} draws itself, and has no 3-D page; `kilolayer render` makes a film of a run in it"
            )
        if speed not in SPEEDS:
            raise ConfigurationError(f"speed={speed} must be one of {', '.join(f'{one:g}' for one in SPEEDS)}")
        self.environment, self._floor = environment, floor
        self._actions: Actions = check_actions(actions, policy)
        self._controls = Controls(environment.goal_size, actions_of(policy))
        self._robot = Robot(environment, policy, seed=seed, mode=mode)
        self._goals = Goals(environment, seed)
        self._picture = Picture(environment, self._robot.seen, self._goals.sample[:IN_VIEW])
        assert environment.control_step is not None, "the picture has refused it"
        self._pace = Pace(environment.control_step, float(speed))
        self._counts = Counts()
        self._paused, self._steps_left, self._kept = False, 0, False
        self._pending: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._news = threading.Condition()
        self._closed, self._thread = False, threading.Thread(target=self._run, daemon=True, name="kilolayer play")
        self.failure: Exception | None = None
        """What ended the session, if it did not end by `close`."""
        self._about = {"actions": actions_of(policy), "speeds": SPEEDS, "policy": policy is not None}
        self._shown_at = 0.0
        self._frame = Frame(0, {})
        self._robot.step(self._actions)  # so that compiling takes none of the robot's time
        self._robot.reset()
        self._show()

    @property
    def frame(self) -> Frame:
        """The latest frame.

        Its data: `episode` and `step`; `poses`, position and quaternion of each body that moves, one after another;
        `mark`, position of the goal's mark, or null; `ghost`; `tendons`; `goal`, the desired goal; `distance` to it;
        `success`; `time_at_goal`, steps of this episode at the goal; `ended` and `reached`, episodes that ended, and
        those of them that reached their goal; `actions`, `speed`, `paused` and `keep_goal`, as they are set; and
        `measured`, times as fast as the robot would be that it moves.
        """
        return self._frame

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._closed

    def about(self) -> dict[str, Any]:
        """Return what does not change, as plain data for a page: the scene, and what there is to choose from."""
        task = self.environment.task
        goal = self._robot.seen.desired_goal
        return {
            "scene": self._picture.data,
            "episode_length": self.environment.episode_length,
            "control_step": self._pace.control_step,
            "distance_unit": distance_text(task),
            "has_success": self.environment.has_success,
            "goal_names": list(self._goals.names),
            "goal_low": self._goals.low.tolist(),
            "goal_high": self._goals.high.tolist(),
            "mark_axes": self._goals.axes(np.asarray(goal)).tolist(),
            "floor": self._floor is not None,
            **{name: list(value) if isinstance(value, tuple) else value for name, value in self._about.items()},
        }

    def control(self, given: Any) -> None:
        """Do what a person asks for, before the next step.

        Args:
            given: see `Controls.read`.

        Raises:
            ConfigurationError: in one line, if a control is unknown or not valid.
        """
        self._pending.put(self._controls.read(given))
        self._wake.set()

    def floor(self) -> Float[np.ndarray, "rows columns"] | None:
        """Return a number for every pixel of the floor, for the goal of the latest frame; None if there are none."""
        if self._floor is None:
            return None
        return self._floor(np.asarray(self._frame.data["goal"], np.float64))

    def wait(self, after: int, timeout: float) -> Frame | None:
        """Wait for a frame.

        Args:
            after: number of the last one that is known.
            timeout: seconds to wait at most.

        Returns:
            The latest frame; None if there is no newer one in time, or the session has ended.
        """
        with self._news:
            self._news.wait_for(lambda: self._closed or self._frame.number > after, timeout)
            return self._frame if self._frame.number > after else None

    def advance(self) -> Frame:
        """Do what is asked for, take one step, and return its frame. Not while the session is a context."""
        self._obey()
        self._step()
        self._show()
        return self._frame

    def join(self) -> None:
        """Wait until the session ends.

        Raises:
            Exception: what a step failed with.
        """
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """End the session; further calls do nothing."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._robot.release()

    def __enter__(self) -> "Session":
        """Let the robot move."""
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End the session."""
        self.close()

    # In the thread of the session

    def _run(self) -> None:
        try:
            while not self._closed:
                self._wake.clear()
                if self._obey():
                    self._show()
                if self._paused and not self._steps_left:
                    self._pace.hold()
                    self._wake.wait()
                elif (left := self._pace.wait(time.monotonic())) > 0.0 and not self._steps_left:
                    self._wake.wait(left)
                else:
                    self._step()
                    now = time.monotonic()
                    self._pace.stepped(now)
                    if self._paused or now - self._shown_at >= 1.0 / MOST_FRAMES:
                        self._shown_at = now
                        self._show()
        except Exception as error:
            self.failure = error
        finally:
            with self._news:
                self._closed = True
                self._news.notify_all()

    def _obey(self) -> bool:
        """Do what was asked for; return whether anything was."""
        any_at_all = False
        while not self._pending.empty():
            any_at_all = True
            for name, value in self._pending.get().items():
                getattr(self, f"_do_{name}")(value)
        return any_at_all

    def _do_goal(self, numbers: list[float]) -> None:
        goal = self._robot.seen.desired_goal
        self._robot.set_goal(self._goals.inside(np.asarray(numbers, goal.dtype)))

    def _do_place(self, place: list[float]) -> None:
        goal = np.asarray(self._robot.seen.desired_goal)
        self._robot.set_goal(self._goals.inside(self._goals.moved(goal, np.asarray(place))))

    def _do_new_goal(self, _: bool) -> None:
        self._robot.set_goal(self._goals.drawn())

    def _do_keep_goal(self, keep: bool) -> None:
        self._kept = keep

    def _do_actions(self, actions: Actions) -> None:
        self._actions = actions
        self._robot.look_again()

    def _do_speed(self, speed: float) -> None:
        self._pace.speed = speed
        self._pace.hold()

    def _do_paused(self, paused: bool) -> None:
        self._paused, self._steps_left = paused, 0

    def _do_steps(self, steps: int) -> None:
        self._paused, self._steps_left = True, steps

    def _do_reset(self, _: bool) -> None:
        goal = np.asarray(self._robot.seen.desired_goal)
        self._robot.reset()
        self._begin(goal)

    def _begin(self, goal: np.ndarray) -> None:
        """Count an episode that has begun; its goal is that of the last one, if that is to be kept."""
        if self._kept:
            self._robot.set_goal(goal)
        self._counts.episode += 1
        self._counts.time_at_goal = 0

    def _step(self) -> None:
        goal, counts = np.asarray(self._robot.seen.desired_goal), self._counts
        ended = self._robot.step(self._actions)
        counts.time_at_goal += bool(ended.success)
        self._steps_left = max(self._steps_left - 1, 0)
        if ended.done:
            counts.ended += 1
            counts.reached += counts.time_at_goal > 0
            self._begin(goal)

    def _show(self) -> None:
        seen, counts = self._robot.seen, self._counts
        data = {
            **self._picture.of(seen, counts.episode),
            "episode": counts.episode,
            "step": int(seen.episode_step),
            "goal": [float(number) for number in seen.desired_goal],
            "distance": float(seen.distance),
            "success": bool(seen.success),
            "time_at_goal": counts.time_at_goal,
            "ended": counts.ended,
            "reached": counts.reached,
            "actions": self._actions,
            "speed": self._pace.speed,
            "paused": self._paused,
            "keep_goal": self._kept,
            "measured": round(self._pace.measured, 3),
        }
        with self._news:
            self._frame = Frame(self._frame.number + 1, data)
            self._news.notify_all()
