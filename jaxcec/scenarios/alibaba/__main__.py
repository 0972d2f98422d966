"""Entry point of `python -m jaxcec.scenarios.alibaba`."""

from jaxcec.scenarios.alibaba.download import main

main()
