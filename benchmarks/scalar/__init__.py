"""The model of docs/model.md as a scalar program compiled by numba: the reference for the array simulator on a CPU."""
