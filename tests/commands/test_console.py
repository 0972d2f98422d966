"""What the commands say in common."""

import importlib.util
import sys

import pytest

from jaxcec.commands.console import call


@pytest.mark.parametrize(
    "program, module, expected",
    [
        ("/home/somebody/jaxcec/train.py", None, "python train.py --resume 'my run'"),
        ("/usr/bin/jaxcec-eval", None, "jaxcec-train --resume 'my run'"),
        ("/usr/lib/jaxcec/eval.py", "jaxcec.eval", "python -m jaxcec.train --resume 'my run'"),
    ],
)
def test_the_reader_is_told_the_command_in_the_form_just_used(program, module, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    spec = module and importlib.util.find_spec(module)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    assert call("train", "--resume", "my run") == expected
