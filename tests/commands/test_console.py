"""Output that the commands share."""

import importlib.util
import sys

import pytest

from jaxcec.commands.console import command_line


@pytest.mark.parametrize(
    "program, module, expected",
    [
        ("/home/somebody/jaxcec/train.py", None, "python train.py --resume 'my run'"),
        ("/usr/bin/jaxcec-eval", None, "jaxcec-train --resume 'my run'"),
        ("/usr/lib/jaxcec/eval.py", "jaxcec.eval", "python -m jaxcec.train --resume 'my run'"),
    ],
)
def test_a_command_line_has_the_form_in_which_the_process_was_started(program, module, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    spec = module and importlib.util.find_spec(module)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    assert command_line("train", "--resume", "my run") == expected
