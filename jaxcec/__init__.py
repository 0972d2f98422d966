"""jaxcec: collaborative edge computing in JAX."""
