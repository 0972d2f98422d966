"""A decider that makes the decisions of tests of the controller and of the server."""

import pytest


@pytest.fixture(scope="module")
def decider():
    pytest.importorskip("pydantic")
    from helpers.controlled import RULE, SITE

    from jaxcec.live.decider import Decider

    decider = Decider(SITE, RULE, deadline=1.0)
    yield decider
    decider.close()
