"""The paper's own experiments: the grids of its figures, the margins it states, their figure."""
