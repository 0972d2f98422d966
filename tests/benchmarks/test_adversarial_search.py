"""The search for adversarial instances simulates the same instances that it writes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcec.env import build_instance
from jaxcec.env.routing import Link, packed, routes


@pytest.fixture
def search(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import adversarial

    return adversarial


def drawn_genes(search, rng: np.random.Generator) -> dict:
    return {name: jnp.asarray(rng.random(shape), jnp.float32) for name, (shape, *_) in search.BOUNDS.items()}


@pytest.mark.parametrize("seed", range(4))
def test_genes_and_written_instance_agree(search, seed):
    rng = np.random.default_rng(seed)
    genes, links = drawn_genes(search, rng), search.draw_links(rng)
    crosses = routes([Link(a, b, 1.0) for a, b in links], search.V, search.E)[0]
    params = search.instance_params(genes, jnp.asarray(crosses), jnp.asarray(packed(crosses)))
    written = search.plain(jax.tree.map(lambda x: x[None], params), 0, links)
    _, built = build_instance(**written, config=search.SIZES)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), params, built)
    jax.tree.map(lambda x, y: np.testing.assert_equal(x.dtype, y.dtype), params, built)


def test_each_change_moves_one_number_and_all_quantities_change_eventually(search):
    genes = drawn_genes(search, np.random.default_rng(0))
    new = jax.jit(jax.vmap(search.changed, in_axes=(0, None)))(jax.random.split(jax.random.key(0), 200), genes)
    differ = {name: np.reshape(new[name] != genes[name][None], (200, -1)).sum(axis=1) for name in genes}
    assert np.all(sum(differ.values()) <= 1)
    assert all(count.any() for count in differ.values())
    assert all(gene.min() >= 0.0 and gene.max() <= 1.0 for gene in new.values())
