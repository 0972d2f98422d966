"""The page on adapters: its code runs; and without its library each adapter says what to install."""

import importlib
import re
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "adapters.md").read_text()
BLOCKS = dict(re.findall(r"## (\S+)\n.*?```python\n(.*?)```", PAGE, re.DOTALL))
NEEDS = {
    "gymnax": "gymnax",
    "gymnax_legacy": "gymnax",
    "brax": "brax",
    "gymnasium": "gymnasium",
    "stable_baselines3": "stable_baselines3",
    "envelope": "envelope",
}


@pytest.mark.parametrize("library", BLOCKS)
def test_the_page_s_code_runs(library, lenient, monkeypatch):
    import jax

    package = re.match(r"(?:from|import) (\w+)", BLOCKS[library])[1]
    pytest.importorskip(package, exc_type=ImportError)
    if not hasattr(jax, "device_put_replicated"):
        monkeypatch.setattr(jax, "device_put_replicated", None, raising=False)  # so that it is gone again afterwards
    exec(BLOCKS[library], {})


@pytest.mark.parametrize("adapter", NEEDS)
def test_an_adapter_without_its_library_says_what_to_install(adapter, monkeypatch):
    for name in [NEEDS[adapter], *sys.modules]:
        if name.startswith("jaxcec.env.adapters.") and not name.endswith(".views"):
            monkeypatch.delitem(sys.modules, name)
        elif name.split(".")[0] == NEEDS[adapter]:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"jaxcec\.env\.adapters\.\w+: .*; pip install .*tested with"):
        importlib.import_module(f"jaxcec.env.adapters.{adapter}")
