"""The tables of robots that others modelled, and of policies on cranes that differ, from the data under `results/`."""

from typing import Any

from results import data, score

CRANES = {
    "crane": "the crane of the model",
    "robust_crane": "cranes that differ as in training, with noise and wind",
    "heavy_crane": "a load three times as heavy",
    "weak_crane": "a drive of half the force",
    "free_crane": "a fifth of the damping",
    "windy_crane": "wind of up to 6 N",
    "noisy_crane": "noise of 0.03 on the observation",
}
"""Kinds of cranes that both policies are evaluated on."""

IN_ONE_THING = tuple(CRANES)[2:]
"""Those that differ from the model in one thing."""

ROBOTS = ("panda_reach", "servo_arm", "shadow_hand", "suite_quadruped")
"""Robots whose runs are in `results/robots`."""


def crane_score(policy: str, kind: str) -> float:
    """Return the mean steps at the goal of a policy on a kind of crane."""
    return data(f"robots/cranes/{policy}-on-{kind}.json")["eval/time_at_goal"]


def crane_loss(policy: str) -> float:
    """Return the mean share of its steps at the goal that a policy loses on cranes that differ in one thing."""
    shares = [crane_score(policy, kind) / crane_score(policy, "crane") for kind in IN_ONE_THING]
    return 1.0 - sum(shares) / len(shares)


def crane_rows() -> list[list[str]]:
    """Return the table of both policies on all kinds of cranes."""
    found = []
    for kind, text in CRANES.items():
        cells = [text]
        for policy in ("crane", "robust_crane"):
            result = data(f"robots/cranes/{policy}-on-{kind}.json")
            at_goal, error = (result[f"eval/time_at_goal{end}"] for end in ("", "_stderr"))
            lost = "" if kind == "crane" else f"{1.0 - at_goal / crane_score(policy, 'crane'):.0%}"
            cells += [f"{at_goal:.0f} ± {error:.0f}", lost]
        found.append(cells)
    return found


def robot_rows() -> list[list[str]]:
    """Return the table of robots that were trained, as they were evaluated at the end."""
    found = []
    for name in ROBOTS:
        result: Any = data(f"robots/{name}/evaluation.json")
        success, error = (result[f"eval/success_any{end}"] for end in ("", "_stderr"))
        minutes = score(f"robots/{name}", "seconds").mean / 60.0
        found.append(
            [
                f"`{name}`",
                f"{result['env_steps'] / 1e6:.1f}M",
                f"{minutes:.0f}",
                f"{success:.2f} ± {error:.2f}",
                f"{result['eval/success_final']:.2f}",
                f"{result['eval/time_at_goal']:.0f}",
            ]
        )
    return found
