"""Data: the ring buffer of trajectories, and the samplers that relabel goals in hindsight."""

from kilolayer.data.arrivals import ArrivalBuffer, Arrivals, Draw, prepare_arrivals, sample_arrivals
from kilolayer.data.goal_transitions import GoalShares, GoalTransitions, sample_goal_transitions
from kilolayer.data.hindsight import Batch, sample_hindsight, sample_times, truncated_geometric
from kilolayer.data.ring_buffer import ReplayBuffer, Trajectory, empty_buffer, end_episodes, insert
from kilolayer.data.transitions import Transitions, sample_transitions
from kilolayer.data.windows import ReplaySettings, draw_windows

__all__ = [
    "ArrivalBuffer",
    "Arrivals",
    "Batch",
    "Draw",
    "GoalShares",
    "GoalTransitions",
    "ReplayBuffer",
    "ReplaySettings",
    "Trajectory",
    "Transitions",
    "draw_windows",
    "empty_buffer",
    "end_episodes",
    "insert",
    "prepare_arrivals",
    "sample_arrivals",
    "sample_goal_transitions",
    "sample_hindsight",
    "sample_times",
    "sample_transitions",
    "truncated_geometric",
]
