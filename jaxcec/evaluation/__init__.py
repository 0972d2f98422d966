"""Evaluation: whole episodes under a policy, statistics of paired episodes, schedules, figures and pages.

Figures and pages need the extra `plot`, whose packages are imported when the first one is drawn.
"""

from jaxcec.evaluation.bounds import clairvoyant as clairvoyant
from jaxcec.evaluation.bounds import lower_bounds as lower_bounds
from jaxcec.evaluation.figures import act_bars as act_bars
from jaxcec.evaluation.figures import schedule_figure as schedule_figure
from jaxcec.evaluation.figures import training_curves as training_curves
from jaxcec.evaluation.measures import MeasureConfig as MeasureConfig
from jaxcec.evaluation.measures import Power as Power
from jaxcec.evaluation.measures import Work as Work
from jaxcec.evaluation.measures import decision_energy as decision_energy
from jaxcec.evaluation.measures import decision_work as decision_work
from jaxcec.evaluation.measures import service_bounds as service_bounds
from jaxcec.evaluation.rollout import MEASURES as MEASURES
from jaxcec.evaluation.rollout import Apply as Apply
from jaxcec.evaluation.rollout import Contender as Contender
from jaxcec.evaluation.rollout import Decide as Decide
from jaxcec.evaluation.rollout import Episodes as Episodes
from jaxcec.evaluation.rollout import Result as Result
from jaxcec.evaluation.rollout import baseline_contenders as baseline_contenders
from jaxcec.evaluation.rollout import episode_keys as episode_keys
from jaxcec.evaluation.rollout import play as play
from jaxcec.evaluation.rollout import rollout as rollout
from jaxcec.evaluation.rollout import timed_rollout as timed_rollout
from jaxcec.evaluation.schedule import Schedule as Schedule
from jaxcec.evaluation.schedule import record as record
from jaxcec.evaluation.schedule_files import save_schedule as save_schedule
from jaxcec.evaluation.schedule_page import save_page as save_page
from jaxcec.evaluation.statistics import Interval as Interval
from jaxcec.evaluation.statistics import bootstrap_mean as bootstrap_mean
from jaxcec.evaluation.statistics import bootstrap_means as bootstrap_means
from jaxcec.evaluation.statistics import paired_difference as paired_difference
from jaxcec.evaluation.statistics import paired_reduction as paired_reduction
