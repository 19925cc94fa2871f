"""Run an exported policy with onnxruntime, numpy and mujoco alone: no JAX, no kilolayer.

kilolayer export runs/reacher --output reacher_policy
pip install onnxruntime numpy mujoco
python control_loop.py reacher_policy --realtime --episodes 8

MuJoCo stands for the robot: `Robot` sends controls and measures. To drive a real one, write that class anew.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import mujoco
import numpy as np
import onnxruntime


def table(path: Path) -> dict[str, np.ndarray]:
    """Read a table of the export: the columns `goal_0`, `goal_1` and so on are rows of `goal`."""
    header, *rows = path.read_text().splitlines()
    values = np.array([row.split(",") for row in rows], np.float32)
    parts: dict[str, list[int]] = {}
    for column, name in enumerate(header.split(",")):
        parts.setdefault(name.rpartition("_")[0], []).append(column)
    return {name: values[:, columns] for name, columns in parts.items()}


class Policy:
    """The exported policy: one thread that does not spin, and the queue of a chunk's actions."""

    def __init__(self, folder: Path):
        """Load a policy and check that its files are those that its contract names."""
        self.contract = json.loads((folder / "policy.json").read_text())
        exported = self.contract["exported"]
        for name, digest in exported["sha256"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
                raise SystemExit(f"{folder / name} is damaged: its SHA-256 digest is not the one in policy.json")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            str(folder / "policy.onnx"), options, providers=["CPUExecutionProvider"]
        )
        (self.output,) = exported["outputs"]
        self.chunk: list[np.ndarray] = []
        self._check(folder, exported)

    def run(self, observation: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
        """Return actions of a batch, or their chunks."""
        inputs = {"observation": observation, "desired_goal": desired_goal}
        return self.session.run([self.output], {name: each.astype(np.float32) for name, each in inputs.items()})[0]

    def action(self, observation: np.ndarray, desired_goal: np.ndarray) -> np.ndarray:
        """Return the next action; a policy that chooses several at once is asked when none is left."""
        if not self.chunk:
            size = self.contract["action"]["size"]
            self.chunk = list(self.run(observation[None], desired_goal[None]).reshape(-1, size))
        return self.chunk.pop(0)

    def _check(self, folder: Path, exported: dict) -> None:
        """Compare the actions on this machine with those that the library took where the policy was exported."""
        rows = table(folder / exported["checked"]["file"])
        found = np.concatenate(
            [self.run(*pair) for pair in zip(rows["observation"][:, None], rows["desired_goal"][:, None], strict=True)]
        )
        largest = float(np.abs(found.reshape(len(found), -1) - rows[self.output]).max())
        if not largest <= exported["tolerance"]:
            raise SystemExit(
                f"actions differ from the library's by {largest:.2g}; {exported['tolerance']:g} is allowed"
            )
        print(f"actions of this machine differ from the library's by {largest:.1e} at most")


class Robot:
    """MuJoCo in place of a robot: controls in, measured values out, by the names of the contract."""

    def __init__(self, folder: Path, contract: dict):
        """Load the model; it is where the contract says."""
        about, path = contract["robot"], str(folder / contract["robot"]["file"])
        load = mujoco.MjModel.from_xml_path if path.endswith(".xml") else mujoco.MjModel.from_binary_path
        self.model = load(path)
        self.data = mujoco.MjData(self.model)
        self.steps = about["physics_steps"]
        self.rule = about.get("joint_steps")  # exports of older versions have none
        ends = about["control"] or self.rule
        if ends is None:
            raise SystemExit("the task maps actions to controls in its own way; write that here")
        self.low, self.high = (np.array(ends[end]) for end in ("low", "high"))

    def place(self, qpos: np.ndarray, qvel: np.ndarray, control: np.ndarray | None = None) -> None:
        """Begin an episode; with the targets of servos that actions move in steps."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        if control is not None:
            self.data.ctrl[:] = control
        self._measure()

    def act(self, action: np.ndarray) -> None:
        """Hold a control for one control step."""
        action = np.clip(action, -1.0, 1.0)
        if self.rule is None:
            self.data.ctrl[:] = self.low + 0.5 * (action + 1.0) * (self.high - self.low)
        else:
            self._step_joints(action)
        for _ in range(self.steps):
            mujoco.mj_step(self.model, self.data)
        self._measure()

    def _step_joints(self, action: np.ndarray) -> None:
        """Move the targets of servos by small steps, and tell the other actuators directly."""
        servos, others = self.rule["servos"], self.rule["others"]
        here, low, high = self._holding(), self.low[others], self.high[others]
        targets = here if self.rule["from"] == "joints" else self.data.ctrl[servos].copy()
        targets = targets + np.array(self.rule["step"]) * action[: len(servos)]
        if self.rule["lead"] is not None:
            targets = np.clip(targets, here - self.rule["lead"], here + self.rule["lead"])
        self.data.ctrl[servos] = np.clip(targets, self.low[servos], self.high[servos])
        self.data.ctrl[others] = low + 0.5 * (action[len(servos) :] + 1.0) * (high - low)

    def _holding(self) -> np.ndarray:
        """Return the controls by which servos hold the joints where they are."""
        servos = self.rule["servos"]
        joints = self.model.actuator_trnid[servos, 0]
        offset = -self.model.actuator_biasprm[servos, 0] / self.model.actuator_gainprm[servos, 0]
        return offset + np.array(self.rule["control_per_joint"]) * self.data.qpos[self.model.jnt_qposadr[joints]]

    def _measure(self) -> None:
        """Compute what sensors would show; MuJoCo's own values are those before its last step."""
        mujoco.mj_fwdPosition(self.model, self.data)
        mujoco.mj_fwdVelocity(self.model, self.data)

    def values(self) -> dict[str, float]:
        """Return every measured value by its name in the contract, without the unit."""
        found: dict[str, float] = {}
        for number in range(self.model.njnt):
            joint = self.model.joint(number)
            if self.model.jnt_type[number] >= int(mujoco.mjtJoint.mjJNT_SLIDE):  # or a hinge
                position = float(self.data.qpos[self.model.jnt_qposadr[number]])
                found[f"{joint.name} angle"] = found[f"{joint.name} position"] = position
                found[f"cosine of {joint.name} angle"] = float(np.cos(position))
                found[f"sine of {joint.name} angle"] = float(np.sin(position))
                found[f"{joint.name} velocity"] = float(self.data.qvel[self.model.jnt_dofadr[number]])
        if self.rule is not None:
            joints = self.model.actuator_trnid[self.rule["servos"], 0]
            ahead = (self.data.ctrl[self.rule["servos"]] - self._holding()) / self.rule["control_per_joint"]
            names = (f"{self.model.joint(joint).name} target ahead" for joint in joints)
            found |= dict(zip(names, map(float, ahead), strict=True))
        places = {self.model.body(number).name: self.data.xpos[number] for number in range(1, self.model.nbody)}
        places |= {self.model.site(number).name: self.data.site_xpos[number] for number in range(self.model.nsite)}
        tip = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, "fingertip")
        if tip >= 0:
            velocity = np.zeros(6)
            mujoco.mj_objectVelocity(self.model, self.data, mujoco.mjtObj.mjOBJ_GEOM, tip, velocity, 0)
            places |= {"tip": self.data.geom_xpos[tip], "tip velocity": velocity[3:]}
        for name, vector in places.items():
            found |= {f"{name} {axis}": float(value) for axis, value in zip("xyz", vector, strict=True)}
        return found

    def vector(self, part: dict) -> np.ndarray:
        """Return an observation, or the goal that is achieved, as the contract describes it."""
        if part["names"] is None:
            raise SystemExit("the contract names no entries: its task gives none; fill the vector by hand here")
        values = self.values()
        names = [name.split(" (")[0] for name in part["names"]]
        if missing := [name for name in names if name not in values]:
            raise SystemExit(f"the robot does not measure {', '.join(missing)}; add that to `Robot.values`")
        return np.array([values[name] for name in names])


def main() -> None:
    """Run episodes, and print how many reach their goal and how long the policy takes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what `kilolayer export` wrote")
    parser.add_argument("--episodes", type=int, default=128)
    parser.add_argument("--realtime", action="store_true", help="wait for the clock between two steps, as a robot does")
    parser.add_argument("--rate", type=float, help="control steps a second of that clock; without it, the contract's")
    options = parser.parse_args()
    if options.rate is not None and not options.rate > 0.0:
        parser.error(f"--rate {options.rate:g} must be above 0 control steps a second")

    policy = Policy(options.folder)
    contract = policy.contract
    robot = Robot(options.folder, contract)
    environment, distance = contract["environment"], contract["robot"]["success_distance"]
    if distance is None:
        raise SystemExit(f"success is no plain distance: {contract['robot']['success_text']}; write that rule here")
    period = 1.0 / options.rate if options.rate is not None else environment["control_step"]
    starts = table(options.folder / contract["robot"]["episodes"])
    episodes = min(options.episodes, len(starts["qpos"]))
    seconds: list[float] = []
    at_goal = np.zeros(episodes, int)
    missed = 0
    for episode in range(episodes):
        robot.place(*(starts[part][episode] for part in ("qpos", "qvel", "control") if part in starts))
        goal = starts["desired_goal"][episode]
        policy.chunk.clear()
        deadline = time.perf_counter() + period
        for _ in range(environment["episode_length"]):
            began = time.perf_counter()
            action = policy.action(robot.vector(contract["observation"]), goal)
            ended = time.perf_counter()
            seconds.append(ended - began)
            # A step is missed if its action comes after its time: of the clock, or of a period for each by itself.
            missed += ended > (deadline if options.realtime else began + period)
            if options.realtime:
                time.sleep(max(0.0, deadline - time.perf_counter()))
                deadline = max(deadline, time.perf_counter()) + period
            robot.act(action)
            at_goal[episode] += np.linalg.norm(robot.vector(contract["goal"]) - goal) < distance

    success = float((at_goal > 0).mean())
    error = (success * (1.0 - success) / max(episodes - 1, 1)) ** 0.5
    p50, p99, p999 = 1e3 * np.quantile(seconds, [0.5, 0.99, 0.999])
    print(f"{environment['name']}, {episodes} episodes of {environment['episode_length']} steps")
    print(f"  success_any  {success:.3f} ± {error:.3f}")
    print(f"  time_at_goal {at_goal.mean():.1f}")
    print(f"  observation and action: median {p50:.3f} ms, 99 % {p99:.3f} ms, 99.9 % {p999:.3f} ms")
    print(f"  {missed} of {len(seconds)} deadlines of {1e3 * period:g} ms missed")


if __name__ == "__main__":
    main()
