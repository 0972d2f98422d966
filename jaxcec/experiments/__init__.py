"""The paper's own experiments: the grids of Fig. 4 and 5, the margins that its section V states, and their figure."""

from jaxcec.experiments.grid_figure import draw_grid as draw_grid
from jaxcec.experiments.grids import AXES as AXES
from jaxcec.experiments.grids import SWEEPS as SWEEPS
from jaxcec.experiments.grids import Acts as Acts
from jaxcec.experiments.grids import Point as Point
from jaxcec.experiments.grids import acts_along as acts_along
from jaxcec.experiments.grids import grid as grid
from jaxcec.experiments.grids import load_acts as load_acts
from jaxcec.experiments.grids import play_point as play_point
from jaxcec.experiments.grids import save_acts as save_acts
from jaxcec.experiments.grids import with_paper_setting as with_paper_setting
from jaxcec.experiments.margins import MARGINS as MARGINS
from jaxcec.experiments.margins import Margin as Margin
from jaxcec.experiments.margins import margin_table as margin_table
from jaxcec.experiments.margins import measured_margin as measured_margin
