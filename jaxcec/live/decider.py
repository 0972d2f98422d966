"""Decisions in time: a policy decides, and a quicker one where it is late."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxcec.env import CECEnv, Info
from jaxcec.evaluation import Contender
from jaxcec.live.lateness import Lateness, no_lateness
from jaxcec.live.ledger import Ledger
from jaxcec.live.mirror import Facts, decide
from jaxcec.live.site import Site


class Verdict(NamedTuple):
    """A decision; see `mirror.decide`."""

    info: Info
    policy: str
    late: bool  # the policy was late, so its fallback decided


class Decider:
    """Decides with a policy, which has so many s, or else with its fallback, which must be quick.

    Both are compiled first, for the shapes of the site.

    Args:
        site: what is mirrored.
        policy: decides, in a thread of its own, unless it is late.
        fallback: such as a rule; None for a policy that may be as late as it likes.
        deadline: s.
        lateness: of finishes, as learned; by default the mechanism leaves nothing out.
    """

    def __init__(
        self,
        site: Site,
        policy: Contender,
        *,
        fallback: Contender | None = None,
        deadline: float,
        lateness: Lateness | None = None,
    ) -> None:
        self._site, self._env = site, CECEnv(site.config)
        self._policy, self._fallback = policy, fallback
        self.lateness = lateness or no_lateness(site.config.num_nodes)
        self._deadline = deadline if fallback else None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy")
        self._decisions = 0
        self._running: asyncio.Future[Info] | None = None
        nothing = Ledger(site).facts(0.0)
        for contender in (policy, fallback):
            if contender is not None:
                self._decide(contender, nothing, 0)

    async def decide(self, facts: Facts) -> Verdict:
        """The decision; one policy that is still late with an earlier decision is late with this one too."""
        self._decisions += 1
        arguments = facts, self._decisions
        if self._running is None or self._running.done():
            loop = asyncio.get_running_loop()
            self._running = loop.run_in_executor(self._thread, self._decide, self._policy, *arguments)
            done, _ = await asyncio.wait([self._running], timeout=self._deadline)
            if done:
                return Verdict(self._running.result(), self._policy.name, late=False)
        assert self._fallback is not None
        return Verdict(self._decide(self._fallback, *arguments), self._fallback.name, late=True)

    def use(self, params: Any, lateness: Lateness) -> None:
        """Let the policy have these parameters, of the same shapes, from the next decision on, and this lateness."""
        self._policy = self._policy._replace(params=params)
        self.lateness = lateness

    def close(self) -> None:
        """Let go of the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _decide(self, contender: Contender, facts: Facts, number: int) -> Info:
        how = {"lateness": self.lateness, "apply": contender.apply, "params": contender.params}
        return jax.device_get(decide(self._env, facts, self._site.network, **how, number=np.int32(number)))
