"""What users call the nodes, services and microservices of banks; the simulator itself has numbers only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Names:
    """Names for output. Without them, the names are made of numbers.

    A bank repeats its networks in order, and its workflows: row i of a bank has the names of entry i modulo the number
    of entries.
    """

    networks: Sequence[Sequence[str]] = ()  # unique names of the nodes of each network
    workflows: Sequence[tuple[str, Sequence[str]]] = ()  # the name of each workflow, and those of its tasks

    def check(self, sizes: np.ndarray) -> None:
        """Refuse names of which some are missing or stand for two nodes.

        Args:
            sizes: (rows,) number of microservices of each row of the bank of DAGs.

        Raises:
            ValueError: a network names two nodes alike, or a workflow names fewer tasks than a row of it has.
        """
        for index, names in enumerate(self.networks):
            if not names or len(set(names)) < len(names):
                raise ValueError(f"names.networks: got {list(names)} for network {index}; must be unique names")
        for row, size in enumerate(sizes.tolist() if self.workflows else ()):
            workflow, tasks = self.workflows[row % len(self.workflows)]
            if len(tasks) < size:
                raise ValueError(
                    f"names.workflows: got {len(tasks)} tasks of {workflow!r}; must be {size}, as row {row} of the bank"
                    " of DAGs has"
                )

    def nodes(self, topology: int, count: int) -> list[str]:
        """Names of the first nodes of a row of the bank of topologies.

        A row beyond the nodes of its network lies at the place of one of them (`make_network`) and has its name with a
        number: `Chicago (2)`.
        """
        if not self.networks:
            return [f"node {v}" for v in range(count)]
        names = self.networks[topology % len(self.networks)]
        turns = (divmod(v, len(names)) for v in range(count))
        return [names[place] if turn == 0 else f"{names[place]} ({turn + 1})" for turn, place in turns]

    def device(self, node: int, name: str) -> str:
        """Name of the end device of a node, whose own name is given."""
        return f"device at {name}" if self.networks else f"device {node}"

    def link(self, ends: tuple[int, int], names: Sequence[str]) -> str:
        """Name of the link between two nodes; `names` are those of all nodes."""
        a, b = ends
        return f"{names[a]} - {names[b]}" if self.networks else f"link {a}-{b}"

    def workflow(self, dag: int) -> str:
        """Name of a row of the bank of DAGs."""
        return self.workflows[dag % len(self.workflows)][0] if self.workflows else str(dag)

    def task(self, dag: int, microservice: int) -> str:
        """Name of a microservice of a row of the bank of DAGs."""
        return self.workflows[dag % len(self.workflows)][1][microservice] if self.workflows else str(microservice)
