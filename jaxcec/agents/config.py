"""Settings of an agent and of its training, every number with its unit.

A setting that is a number (a learning rate, a discount, an exploration scale) is a leaf of a pytree, so it may be an
array: `vmap` then trains many settings in one compiled program. Sizes and choices are static: each needs another
compiled program. The target rate is static too, because as a leaf it would round differently.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from flax import struct

from jaxcec.agents.information import Information
from jaxcec.checks import check_numbers
from jaxcec.policies import PlanConfig

NetworkKind = Literal["per-node", "flat"]


def _static(default: Any) -> Any:
    """A field that is part of the compiled program's identity."""
    return struct.field(pytree_node=False, default=default)


class EvolutionConfig(struct.PyTreeNode):
    """The evolution strategy that sets the first prices (`agents.evolution`)."""

    generations: int = _static(50)  # before gradients are used; 0 starts from the prices of a rule
    pairs: int = _static(192)  # antithetic pairs of episodes per generation
    slowest: float = 0.25  # arrival rates of the episodes, in those of the scenario: log-uniform from this
    fastest: float = 16.0  # to this

    def __post_init__(self) -> None:
        check_numbers(self, "agent.evolution.", least={"generations": 0, "pairs": 1}, positive=["slowest", "fastest"])
        if all(isinstance(rate, int | float) for rate in (self.slowest, self.fastest)) and self.slowest > self.fastest:
            raise ValueError(
                f"agent.evolution.slowest: got {self.slowest}; must be at most agent.evolution.fastest, {self.fastest}"
            )


class TwinConfig(struct.PyTreeNode):
    """The learned digital twin of dtdrlmo (Algorithm 1)."""

    hidden: tuple[int, ...] = _static((64, 64))  # units of the hidden layers of its model
    learning_rate: float = 1e-3
    reward: float = 0.0  # share of Eq. 17 in the training reward; the environment's reward has the rest

    def __post_init__(self) -> None:
        _check_hidden("agent.twin.hidden", self.hidden)
        check_numbers(self, "agent.twin.", positive=["learning_rate"], share=["reward"])


class PPOConfig(struct.PyTreeNode):
    """Settings of PPO alone."""

    rollout_steps: int = _static(16)  # decisions in every environment between updates, and minibatches per epoch
    epochs: int = _static(4)  # passes over those decisions
    clip: float = 0.2  # probability ratios count up to 1 + clip and down to 1 - clip
    gae_lambda: float = 0.95  # of the advantages: 0 trusts the value of the next state, 1 the rewards alone

    def __post_init__(self) -> None:
        least = {"rollout_steps": 1, "epochs": 1}
        check_numbers(self, "agent.ppo.", least=least, positive=["clip"], share=["gae_lambda"])


class AgentConfig(struct.PyTreeNode):
    """The learner, its networks, and how it is trained.

    Raises:
        ValueError: a number is out of range. Numbers that are arrays or traced are not checked. Whether the settings
            suit the algorithm is checked by `jaxcec.agents.learner_for`.
    """

    algorithm: str = _static("dtdrlmo")  # dtdrlmo, dtdrlmo-plan, ddpg, ppo or dqn: a key of `jaxcec.agents.LEARNERS`
    information: str | None = _static(None)  # what it sees: an `Information`; by default the algorithm's own
    network: NetworkKind = _static("per-node")  # per-node: one scorer shared by all nodes; flat: one vector (the paper)
    hidden: tuple[int, ...] = _static((64, 64))  # units of the hidden layers of every network
    actor_learning_rate: float = 3e-5
    critic_learning_rate: float = 5e-4
    discount: float = 0.99  # gamma of Eq. 23, per decision
    return_steps: int = _static(32)  # decisions whose rewards are summed before the critic's value is used (Eq. 23)
    target_rate: float = _static(0.005)  # tau, share of the online network that enters the target at each update
    replay_size: int = _static(524_288)  # transitions
    batch_size: int = _static(2048)  # transitions per update
    updates_per_step: int = _static(2)  # updates of each network after one decision in every environment
    warmup_steps: int = _static(64)  # decisions in every environment before the first update
    exploration: float = 1.0  # scale of the Gumbel noise on node scores; 1 samples from the softmax
    learn_flow: bool = _static(False)  # whether the actor chooses eta and eps; if not, full bandwidth and no hold
    postpone: bool = _static(False)  # whether it gives way to shorter services, with a patience that evolution finds
    flow_exploration: float = 0.1  # with learn_flow: probability of drawing eta, and eps, uniformly from its range
    max_hold: float = 30.0  # s at the usual pace, the largest eps that the actor can choose
    entropy: float = 0.03  # weight of the entropy of the relaxed node choice, in units of scaled reward
    flow_cost: float = 0.05  # with learn_flow: cost of a full hold or of no bandwidth in the actor's objective
    reward_scale: float = 0.01  # 1/s at the usual pace, rewards are multiplied by it before learning
    evolution: EvolutionConfig = struct.field(default_factory=EvolutionConfig)
    twin: TwinConfig = struct.field(default_factory=TwinConfig)
    plan: PlanConfig = struct.field(pytree_node=False, default_factory=PlanConfig)
    ppo: PPOConfig = struct.field(default_factory=PPOConfig)

    def __post_init__(self) -> None:
        if self.network not in get_args(NetworkKind):
            raise ValueError(f"agent.network: got {self.network!r}; must be one of {', '.join(get_args(NetworkKind))}")
        if self.information is not None and self.information not in get_args(Information):
            allowed = ", ".join(get_args(Information))
            raise ValueError(f"agent.information: got {self.information!r}; must be one of {allowed}")
        _check_hidden("agent.hidden", self.hidden)
        counts = dict.fromkeys(["return_steps", "replay_size", "batch_size", "updates_per_step"], 1)
        weights = dict.fromkeys(["exploration", "entropy", "flow_cost"], 0)
        check_numbers(
            self,
            "agent.",
            least=counts | weights | {"warmup_steps": 2},
            positive=["actor_learning_rate", "critic_learning_rate", "reward_scale", "max_hold"],
            share=["discount", "target_rate", "flow_exploration"],
        )
        if self.network == "per-node" and isinstance(self.entropy, int | float) and self.entropy == 0.0:
            raise ValueError("agent.entropy: got 0.0; must be positive with network per-node, whose scores are in it")


def _check_hidden(name: str, hidden: tuple[int, ...]) -> None:
    if not hidden or any(units < 1 for units in hidden):
        raise ValueError(f"{name}: got {hidden}; must be at least one positive integer")
