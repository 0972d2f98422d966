"""CECEnv for other libraries' learners: flat views of it, and one module for each library, imported by name."""

from jaxcec.env.adapters.views import ContinuousView as ContinuousView
from jaxcec.env.adapters.views import DiscreteView as DiscreteView
from jaxcec.env.adapters.views import FlatView as FlatView
from jaxcec.env.adapters.views import make_view as make_view
