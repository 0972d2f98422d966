"""What can be chosen about an agent and its training; every number with its unit."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

Algorithm = Literal["dtdrlmo-plan", "dtdrlmo", "ddpg", "ppo", "dqn"]
Network = Literal["per-node", "flat"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)


@dataclasses.dataclass(frozen=True)
class AgentConfig:
    """DDPG (section IV): without a digital twin (`ddpg`), with a learned one (`dtdrlmo`), or with one that runs the
    known mechanism and learns the load of others (`dtdrlmo-plan`). Beside it PPO and DQN.
    """

    algorithm: Algorithm = "dtdrlmo"  # DDPG with a twin that simulates, a learned one or none; PPO; double DQN
    network: Network = "per-node"  # scorer shared by all nodes, or one vector as in the paper
    hidden: tuple[int, ...] = (64, 64)  # units of the hidden layers of every network
    actor_learning_rate: float = 3e-5
    critic_learning_rate: float = 5e-4
    twin_learning_rate: float = 1e-3
    discount: float = 0.99  # gamma of Eq. 23, per decision
    return_steps: int = 32  # decisions whose rewards are summed before the critic's value takes over (Eq. 23)
    target_rate: float = 0.005  # tau, share of the online network that enters the target at each update
    replay_size: int = 524_288  # transitions
    batch_size: int = 2048  # transitions per update
    updates_per_step: int = 2  # updates of each network after one decision in every environment
    warmup_steps: int = 64  # decisions in every environment before the first update
    evolution: int = 50  # generations that set the per-node scorer's first prices before DDPG begins; 0 for a rule's
    evolution_pairs: int = 192  # pairs of episodes in a generation; a multiple of the number of devices
    evolution_spread: float = 4.0  # arrival rates of its episodes, up to so many times the scenario's, or as much less
    exploration: float = 1.0  # scale of the Gumbel noise on node scores: 1 samples from the softmax
    learn_flow: bool = False  # eta and eps as the actor says; otherwise full bandwidth and no hold
    flow_exploration: float = 0.1  # with learn_flow: probability of drawing eta, and eps, uniformly over its range
    max_hold: float = 30.0  # s, largest eps the actor can ask for
    entropy: float = 0.03  # weight of the entropy of the relaxed node choice, in units of scaled reward
    flow_cost: float = 0.05  # taken from the actor's objective for a full hold or no bandwidth, in scaled reward
    reward_scale: float = 0.01  # 1/s, rewards are multiplied by it before learning
    candidates: int = 3  # nodes tried in the twin at each decision (Algorithm 2, line 9)
    twin_score: float = 0.1  # weight of the return the learned twin predicts beside the actor's preference
    twin_reward: float = 0.0  # share of Eq. 17 in the training reward; the rest is the environment's
    rollout_steps: int = 16  # decisions in every environment between two iterations of PPO, and minibatches in each
    ppo_epochs: int = 4  # times that PPO goes through them; updates per decision in every environment
    ppo_clip: float = 0.2  # how far PPO's probability ratios count
    gae_lambda: float = 0.95  # of PPO's advantages: 0 trusts the value of the next state, 1 the rewards alone
    plan_steps: int = 10  # decisions simulated after each candidate, with dtdrlmo-plan
    plan_toll: float = 0.5  # weight in a plan of what traffic costs services to come, as the scorer prices it
    plan_samples: int = 1  # forecasts of others' load that a plan is simulated under; 1 is the mean

    def __post_init__(self) -> None:
        _check_choice("algorithm", self.algorithm, ALGORITHMS)
        _check_choice("network", self.network, get_args(Network))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not abs(value) <= 1e30:  # beyond it float32 ends
                raise ValueError(f"agent.{field.name}: got {value}; must be finite and at most 1e30 in size")
        if not self.hidden or any(units < 1 for units in self.hidden):
            raise ValueError(f"agent.hidden: got {self.hidden}; must be at least one positive integer")
        rates = ("actor_learning_rate", "critic_learning_rate", "twin_learning_rate")
        counts = ("return_steps", "replay_size", "batch_size", "updates_per_step", "evolution_pairs", "candidates")
        least = dict.fromkeys((*counts, "plan_steps", "plan_samples", "evolution_spread"), 1) | {"warmup_steps": 2}
        least |= dict.fromkeys(("rollout_steps", "ppo_epochs"), 1)
        least |= dict.fromkeys(("exploration", "entropy", "flow_cost", "evolution", "plan_toll"), 0)
        for name, bound in least.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"agent.{name}: got {getattr(self, name)}; must be at least {bound}")
        for name in (*rates, "reward_scale", "max_hold", "ppo_clip"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"agent.{name}: got {getattr(self, name)}; must be positive")
        for name in ("discount", "target_rate", "twin_score", "twin_reward", "flow_exploration", "gae_lambda"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"agent.{name}: got {getattr(self, name)}; must be from 0 to 1")
        if self.network == "per-node" and self.entropy == 0.0:
            raise ValueError("agent.entropy: got 0.0; must be positive with network per-node, whose scores are in it")
        if self.discrete and self.learn_flow:
            raise ValueError(
                f"agent.learn_flow: got True; must be False for {self.algorithm}, which chooses nodes alone"
            )
        if self.algorithm == "dqn" and self.entropy == 0.0:
            raise ValueError("agent.entropy: got 0.0; must be positive for dqn, whose exploration is in units of it")
        if self.algorithm == "ppo" and self.exploration != 1.0:
            raise ValueError(f"agent.exploration: got {self.exploration}; must be 1 for ppo, which samples its policy")

    @property
    def has_twin(self) -> bool:
        """Whether the agent learns and uses a transition model."""
        return self.algorithm == "dtdrlmo"

    @property
    def discrete(self) -> bool:
        """Whether the agent chooses among nodes directly, without a relaxed action."""
        return self.algorithm in ("ppo", "dqn")

    @property
    def on_policy(self) -> bool:
        """Whether the agent learns from its newest decisions alone."""
        return self.algorithm == "ppo"

    @property
    def steps_per_iteration(self) -> int:
        """Decisions in every environment in one iteration of training."""
        return self.rollout_steps if self.on_policy else 1

    @property
    def plans(self) -> bool:
        """Whether the agent learns to foresee load, and chooses by simulating ahead."""
        return self.algorithm == "dtdrlmo-plan"

    @property
    def evolves(self) -> bool:
        """Whether there are prices to find before learning begins."""
        return self.evolution > 0 and self.network == "per-node"


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"agent.{name}: got {value!r}; must be one of {', '.join(allowed)}")
