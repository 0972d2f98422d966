"""The command lines behind train.py and eval.py."""

import os

# XLA reads this once, when jax is imported. On a CPU it reports every program taken from the compilation cache as made
# for another machine, because it takes its own tuning preferences for features that the CPU lacks. Exceptions remain.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
