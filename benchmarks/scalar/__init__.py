"""The model of docs/model.md as a scalar program compiled by numba: what the arrays are held against on a CPU."""
