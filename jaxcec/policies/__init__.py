"""Baselines as pure functions of the observation, planning in the known world, and a search that knows the future."""

from jaxcec.policies.baselines import BASELINES as BASELINES
from jaxcec.policies.baselines import TRAFFIC_PRICE as TRAFFIC_PRICE
from jaxcec.policies.baselines import Policy as Policy
from jaxcec.policies.baselines import at_full_rate as at_full_rate
from jaxcec.policies.baselines import earliest_finish as earliest_finish
from jaxcec.policies.baselines import greedy as greedy
from jaxcec.policies.baselines import local_device as local_device
from jaxcec.policies.baselines import local_node as local_node
from jaxcec.policies.baselines import predicted_finish as predicted_finish
from jaxcec.policies.baselines import priced_earliest_finish as priced_earliest_finish
from jaxcec.policies.baselines import priced_predicted_finish as priced_predicted_finish
from jaxcec.policies.baselines import random_node as random_node
from jaxcec.policies.baselines import srpt as srpt
from jaxcec.policies.placement_search import SearchConfig as SearchConfig
from jaxcec.policies.placement_search import follow_placement as follow_placement
from jaxcec.policies.placement_search import search as search
from jaxcec.policies.planning import EFT_PLAN as EFT_PLAN
from jaxcec.policies.planning import RANDOM_PLANS as RANDOM_PLANS
from jaxcec.policies.planning import Forecast as Forecast
from jaxcec.policies.planning import PlanConfig as PlanConfig
from jaxcec.policies.planning import Prefer as Prefer
from jaxcec.policies.planning import Preference as Preference
from jaxcec.policies.planning import as_now as as_now
from jaxcec.policies.planning import best_of_random as best_of_random
from jaxcec.policies.planning import plan as plan
from jaxcec.policies.planning import prefer_priced_finish as prefer_priced_finish
