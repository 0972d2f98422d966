"""Agents: DDPG and the digital twins that assist it, PPO and DQN, trained in one compiled loop.

`train` trains from Python; `train_jittable` is a whole run as one pure function. `LEARNERS` is the table of algorithms,
to which another `Learner` can be added.
"""

from jaxcec.agents.checkpoint import PRETRAINED as PRETRAINED
from jaxcec.agents.checkpoint import load_policy as load_policy
from jaxcec.agents.checkpoint import save_policy as save_policy
from jaxcec.agents.config import AgentConfig as AgentConfig
from jaxcec.agents.config import EvolutionConfig as EvolutionConfig
from jaxcec.agents.config import PPOConfig as PPOConfig
from jaxcec.agents.config import TwinConfig as TwinConfig
from jaxcec.agents.features import Features as Features
from jaxcec.agents.features import encode as encode
from jaxcec.agents.learner import Learner as Learner
from jaxcec.agents.learner import NodeLearner as NodeLearner
from jaxcec.agents.learners import LEARNERS as LEARNERS
from jaxcec.agents.learners import learner_for as learner_for
from jaxcec.agents.run_folder import RunFolder as RunFolder
from jaxcec.agents.trained_policy import TrainedPolicy as TrainedPolicy
from jaxcec.agents.training import NotFiniteError as NotFiniteError
from jaxcec.agents.training import Report as Report
from jaxcec.agents.training import TrainState as TrainState
from jaxcec.agents.training import train as train
from jaxcec.agents.training import train_jittable as train_jittable
from jaxcec.agents.types import AgentParams as AgentParams
from jaxcec.agents.types import AgentState as AgentState
from jaxcec.agents.types import Choice as Choice
