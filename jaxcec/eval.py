"""`python -m jaxcec.eval`: what eval.py is in the repository."""

from jaxcec.commands.evaluate import main

if __name__ == "__main__":
    main()
