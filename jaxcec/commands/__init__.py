"""The command lines behind train.py and eval.py."""
