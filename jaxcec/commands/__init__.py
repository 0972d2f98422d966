"""The command lines behind train.py and eval.py."""

import os

# XLA reads this once, when jax is imported. On a CPU it would warn about every program from the compilation cache,
# because it mistakes its own tuning preferences for features that the CPU lacks. Exceptions still appear.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
