"""Scenarios: generators and readers that prepare, on the host, the banks that the simulator draws episodes from."""

from jaxcec.scenarios.adversarial import adversarial_instances as adversarial_instances
from jaxcec.scenarios.adversarial import adversarial_records as adversarial_records
from jaxcec.scenarios.environment import make_env as make_env
from jaxcec.scenarios.scenario import PAPER_SETTINGS as PAPER_SETTINGS
from jaxcec.scenarios.scenario import Scenario as Scenario
from jaxcec.scenarios.sources import Sources as Sources
from jaxcec.scenarios.sources import read_sources as read_sources
