"""Adapters of CECEnv to other libraries: flat views, and one module per library, to be imported by name."""

from jaxcec.adapters.views import ContinuousView as ContinuousView
from jaxcec.adapters.views import DiscreteView as DiscreteView
from jaxcec.adapters.views import FlatView as FlatView
from jaxcec.adapters.views import make_view as make_view
