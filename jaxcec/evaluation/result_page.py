"""One page that holds a whole evaluation. Needs Jinja and matplotlib, both of the extra `plot`."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jaxcec.files import write_aside


def save_report(path: Path, title: str, parts: Mapping[str, Any], figures: Sequence[tuple[str, Path]]) -> None:
    """Write the page; figures are in it, so it may be sent as one file.

    Args:
        path: the HTML file.
        title: at the top.
        parts: `command`; `facts`, pairs of a name and what it is; `tables`, each with `title`, `head` and `rows`;
            `settings`, YAML.
        figures: caption and PNG of each.

    Raises:
        ImportError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise ImportError("a report needs Jinja: pip install 'jaxcec[plot]'") from None
    text = resources.files("jaxcec.evaluation").joinpath("result_page.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    shown = [(caption, base64.b64encode(figure.read_bytes()).decode()) for caption, figure in figures]
    write_aside(path, template.render(title=title, figures=shown, **parts))
