"""Host side: topologies, services, arrivals and background load become the banks that the simulator reads."""

from jaxcec.scenarios.adversarial import adversarial as adversarial
from jaxcec.scenarios.adversarial import adversarial_record as adversarial_record
from jaxcec.scenarios.scenario import PAPER_SETTINGS as PAPER_SETTINGS
from jaxcec.scenarios.scenario import Scenario as Scenario
from jaxcec.scenarios.scenario import load_jobs as load_jobs
from jaxcec.scenarios.scenario import make_env as make_env
