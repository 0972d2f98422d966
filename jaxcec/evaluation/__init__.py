"""Evaluation: episodes under a policy, statistics, figures."""
