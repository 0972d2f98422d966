"""Evaluate every policy on the test split: see `python eval.py --help`."""

from jaxcec.commands.evaluate import main

if __name__ == "__main__":
    main()
