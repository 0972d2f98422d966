"""Baselines as pure functions of what an agent sees."""

from jaxcec.policies.baselines import BASELINES as BASELINES
from jaxcec.policies.baselines import Policy as Policy
from jaxcec.policies.baselines import earliest_finish as earliest_finish
from jaxcec.policies.baselines import greedy as greedy
from jaxcec.policies.baselines import local_device as local_device
from jaxcec.policies.baselines import local_node as local_node
from jaxcec.policies.baselines import random_node as random_node
