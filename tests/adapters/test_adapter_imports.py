"""An adapter without its library raises an error that says what to install."""

import importlib
import sys

import pytest

NEEDS = {
    "gymnax": "gymnax",
    "gymnax_legacy": "gymnax",
    "brax": "brax",
    "gymnasium": "gymnasium",
    "stable_baselines3": "stable_baselines3",
    "envelope": "envelope",
}


@pytest.mark.parametrize("adapter", NEEDS)
def test_an_adapter_without_its_library_says_what_to_install(adapter, monkeypatch):
    for name in [NEEDS[adapter], *sys.modules]:
        if name.startswith("jaxcec.adapters.") and not name.endswith(".views"):
            monkeypatch.delitem(sys.modules, name)
        elif name.split(".")[0] == NEEDS[adapter]:
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"jaxcec\.adapters\.\w+: .*; pip install .*tested with"):
        importlib.import_module(f"jaxcec.adapters.{adapter}")
