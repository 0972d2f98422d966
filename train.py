"""Train an agent: see `python train.py --help`."""

from jaxcec.commands.train import main

if __name__ == "__main__":
    main()
