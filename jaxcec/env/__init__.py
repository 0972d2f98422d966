"""The simulator: pure functions on arrays, and `CECEnv`, which composes them. It imports nothing else of jaxcec."""

from jaxcec.env.banks import Dag as Dag
from jaxcec.env.banks import Topology as Topology
from jaxcec.env.banks import make_dags as make_dags
from jaxcec.env.banks import make_network as make_network
from jaxcec.env.check import check_params as check_params
from jaxcec.env.dag import any_undecided as any_undecided
from jaxcec.env.env import CECEnv as CECEnv
from jaxcec.env.instance import build_instance as build_instance
from jaxcec.env.known import HISTORY as HISTORY
from jaxcec.env.known import World as World
from jaxcec.env.known import coarse as coarse
from jaxcec.env.known import expected_completions as expected_completions
from jaxcec.env.known import known_world as known_world
from jaxcec.env.known import with_forecast as with_forecast
from jaxcec.env.observe import flatten as flatten
from jaxcec.env.observe import observation_size as observation_size
from jaxcec.env.types import INFEASIBLE as INFEASIBLE
from jaxcec.env.types import Action as Action
from jaxcec.env.types import Arrivals as Arrivals
from jaxcec.env.types import Background as Background
from jaxcec.env.types import Dags as Dags
from jaxcec.env.types import EnvConfig as EnvConfig
from jaxcec.env.types import EnvParams as EnvParams
from jaxcec.env.types import EnvState as EnvState
from jaxcec.env.types import Network as Network
from jaxcec.env.types import Observation as Observation
