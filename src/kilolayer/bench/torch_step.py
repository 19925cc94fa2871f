"""The gradient step of CRL in PyTorch, to compare with: the same networks, losses and optimiser, written plainly.

This module imports PyTorch, which the library does not need; only processes that measure it import this.
"""

import math
import time
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kilolayer.bench.naive import NaiveState, Network
from kilolayer.bench.process import cpu_name, process_peak_bytes, tell
from kilolayer.bench.step import ACTION_SIZE, GOAL_SIZE, OBSERVATION_SIZE, agent_of, floor_fields
from kilolayer.bench.timing import seconds_of
from kilolayer.errors import ConfigurationError
from kilolayer.machine import cpu_cores
from kilolayer.nn import ResidualArchitecture

REPRESENTATION_SIZE = 64
LEARNING_RATE = 3e-4
TARGET_ENTROPY = -0.5
PRODUCTS, RATE_ROUNDS = 64, 7
WARM_UP = 3


class TorchBatch(NamedTuple):
    """State-actions with their goals, in rows."""

    observation: Tensor
    action: Tensor
    desired_goal: Tensor


def hidden_layer(in_size: int, width: int) -> nn.Sequential:
    """Return dense, LayerNorm, Swish."""
    return nn.Sequential(nn.Linear(in_size, width), nn.LayerNorm(width, eps=1e-6), nn.SiLU())


class ResidualMLP(nn.Module):
    """The network of Wang et al. (2025, section 3), as `kilolayer.nn.ResidualMLP`."""

    def __init__(
        self, in_size: int, out_size: int, *, depth: int, width: int, block_size: int = 4, factor: float = 1.0
    ):
        """Draw the parameters; `factor` scales the branch of every block."""
        super().__init__()
        self.factor = factor
        self.input_layer = hidden_layer(in_size, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(hidden_layer(width, width) for _ in range(block_size))) for _ in range(depth // block_size)
        )
        self.head = nn.Linear(width, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis of `x`."""
        x = self.input_layer(x)
        for block in self.blocks:
            x = x + self.factor * block(x)
        return self.head(x)

    @torch.no_grad()
    def copy_from(self, network: Network) -> None:
        """Take the parameters of a network of the naive step."""
        layers = [self.input_layer, *(layer for block in self.blocks for layer in block)]
        theirs = [network["input"], *(layer for block in network["blocks"] for layer in block)]
        for (dense, norm, _), p in zip(layers, theirs, strict=True):
            _copy(dense.weight, p["w"].T, dense.bias, p["b"])
            _copy(norm.weight, p["scale"], norm.bias, p["offset"])
        _copy(self.head.weight, network["head"]["w"].T, self.head.bias, network["head"]["b"])


def _copy(weight: Tensor, new_weight: Any, bias: Tensor, new_bias: Any) -> None:
    weight.copy_(torch.tensor(np.asarray(new_weight)))
    bias.copy_(torch.tensor(np.asarray(new_bias)))


class TorchStep:
    """Networks and optimisers of CRL, and its gradient step with the paper's settings."""

    def __init__(
        self,
        observation_size: int,
        goal_size: int,
        action_size: int,
        *,
        depth: int,
        width: int,
        factor: float = 1.0,
        device: str = "cpu",
    ):
        """Draw the parameters.

        Args:
            observation_size: numbers in an observation.
            goal_size: numbers in a goal.
            action_size: numbers in an action.
            depth: of all networks.
            width: of all networks.
            factor: scales the branch of every block.
            device: as PyTorch calls it.
        """

        def network(in_size: int, out_size: int) -> ResidualMLP:
            return ResidualMLP(in_size, out_size, depth=depth, width=width, factor=factor).to(device)

        self.actor = network(observation_size + goal_size, 2 * action_size)
        self.phi = network(observation_size + action_size, REPRESENTATION_SIZE)
        self.psi = network(goal_size, REPRESENTATION_SIZE)
        self.log_alpha = torch.zeros((), device=device, requires_grad=True)
        self.parts: list[list[Tensor]] = [
            list(self.actor.parameters()),
            [*self.phi.parameters(), *self.psi.parameters()],
            [self.log_alpha],
        ]
        on_gpu = device == "cuda"
        self.optimizers = [
            torch.optim.Adam(part, lr=LEARNING_RATE, fused=True, capturable=on_gpu) for part in self.parts
        ]

    def copy_from(self, state: NaiveState) -> None:
        """Take the parameters of an untrained naive step."""
        self.actor.copy_from(state.actor)
        self.phi.copy_from(state.critic["phi"])
        self.psi.copy_from(state.critic["psi"])
        with torch.no_grad():
            self.log_alpha.fill_(float(state.log_alpha))

    def learn(self, batch: TorchBatch, noise: Tensor | None = None) -> dict[str, Tensor]:
        """Take one gradient step, all losses with the old networks.

        Args:
            batch: to learn from.
            noise: of the actor, standard normal, in the shape of the actions; None draws it.

        Returns:
            Both losses and the entropy.
        """
        alpha = self.log_alpha.exp()
        phi = self.phi(torch.cat([batch.observation, batch.action], dim=-1))
        psi = self.psi(batch.desired_goal)
        logits = -torch.cdist(phi, psi)
        normalizer = torch.logsumexp(logits, dim=1)
        critic_loss = (normalizer - logits.diagonal()).mean() + 0.1 * normalizer.square().mean()

        mean, raw = self.actor(torch.cat([batch.observation, batch.desired_goal], dim=-1)).chunk(2, dim=-1)
        log_std = -5.0 + 3.5 * (torch.tanh(raw) + 1.0)
        noise = torch.randn_like(mean) if noise is None else noise
        action = torch.tanh(mean + log_std.exp() * noise)
        log_density = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        log_density = (log_density - torch.log(1.0 - action.square() + 1e-6)).sum(dim=-1)
        phi_of_policy = self.phi(torch.cat([batch.observation, action], dim=-1))
        value = -torch.linalg.vector_norm(phi_of_policy - psi.detach(), dim=-1)
        actor_loss = (alpha.detach() * log_density - value).mean()

        entropy = -log_density.detach().mean()
        alpha_loss = alpha * (entropy - TARGET_ENTROPY * mean.shape[-1])
        for part, loss in zip(self.parts, (actor_loss, critic_loss, alpha_loss), strict=True):
            for parameter in part:
                parameter.grad = None
            # The critic is constant in the actor's loss: each loss has gradients of its own part alone.
            for parameter, gradient in zip(part, torch.autograd.grad(loss, part), strict=True):
                parameter.grad = gradient
        for optimizer in self.optimizers:
            optimizer.step()
        return {"critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach(), "entropy": entropy}


def as_one_graph(step: TorchStep, batch: TorchBatch) -> Callable[[], object]:
    """Return the whole step on this batch as one CUDA graph. The step has been taken a few times already."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.learn(batch)
    return graph.replay


def measure(
    form: str, depth: int, width: int, batch_size: int, steps: int, device: str
) -> Generator[dict[str, Any] | float, str, None]:
    """Measure PyTorch's step in this process; see `kilolayer.bench.step.measure`.

    Args:
        form: `torch`, or `torch graph` on a GPU.
        depth: of all networks.
        width: of all networks.
        batch_size: state-action pairs in a step.
        steps: gradient steps in a call.
        device: `cpu` or `cuda`.
    """
    on_gpu = device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise ConfigurationError(f"PyTorch {torch.__version__} cannot use this GPU; install one that can")
    torch.manual_seed(0)
    torch.set_num_threads(cpu_cores())
    if on_gpu:
        torch.set_float32_matmul_precision("high")  # TF32, as JAX takes it
    agent = agent_of(depth, width, batch_size, ResidualArchitecture())
    factor = ResidualArchitecture().branch_factor(max(depth // 4, 1))
    sizes = (OBSERVATION_SIZE, GOAL_SIZE, ACTION_SIZE)
    step = TorchStep(*sizes, depth=depth, width=width, factor=factor, device=device)
    batch = TorchBatch(
        *(torch.randn(batch_size, size, device=device) for size in (OBSERVATION_SIZE, ACTION_SIZE, GOAL_SIZE))
    )
    tell("preparing")
    began = time.perf_counter()
    run: Callable[[], object] = lambda: step.learn(batch)  # noqa: E731
    if form == "torch graph":
        wait(device)
        with torch.cuda.stream(torch.cuda.Stream()):  # as PyTorch asks for before a capture
            for _ in range(WARM_UP):
                run()
        wait(device)
        run = as_one_graph(step, batch)
    run()
    wait(device)
    request = yield {
        "form": form,
        "depth": depth,
        "width": width,
        "batch_size": batch_size,
        "remat": "none",
        "chain": "",
        "kernels": "",
        "precision": "tf32",
        "torch_version": torch.__version__,
        "trace_seconds": 0.0,
        "compile_seconds": time.perf_counter() - began,
        "device": torch.cuda.get_device_name() if on_gpu else cpu_name(),
    }

    def several() -> None:
        for _ in range(steps):
            run()
        wait(device)

    while True:
        if request == "round":
            request = yield seconds_of(several) / steps
        else:
            peak = torch.cuda.max_memory_allocated() if on_gpu else process_peak_bytes()
            request = yield floor_fields(agent, matrix_rate(batch_size, width, device), peak)


def wait(device: str) -> None:
    """Wait until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def matrix_rate(rows: int, width: int, device: str) -> float:
    """Measure the rate of PyTorch's matrix products in a chain; see `kilolayer.bench.floor.matrix_rate`."""
    weights = torch.randn(PRODUCTS, width, width, device=device) / width**0.5
    x = torch.randn(rows, width, device=device)

    def chain() -> None:
        product = x
        for weight in weights:
            product = product @ weight
        wait(device)

    chain()
    return 2.0 * rows * width**2 * PRODUCTS / min(seconds_of(chain) for _ in range(RATE_ROUNDS))
