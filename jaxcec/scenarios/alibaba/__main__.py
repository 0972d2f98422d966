"""`python -m jaxcec.scenarios.alibaba download`."""

from jaxcec.scenarios.alibaba.download import main

main()
