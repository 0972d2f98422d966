"""`python -m jaxcec.train`: what train.py is in the repository."""

from jaxcec.commands.train import main

if __name__ == "__main__":
    main()
