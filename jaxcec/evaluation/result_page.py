"""One page with a whole evaluation. It needs Jinja, the extra `plot`."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jaxcec.files import write_aside


def save_report(path: Path, *, title: str, parts: Mapping[str, Any], figures: Sequence[tuple[str, Path]]) -> None:
    """Write the page as one self-contained HTML file: the figures, caption and PNG of each, are embedded.

    The parts are `command`, the command line; `facts`, pairs of a name and a value; `remarks`, lines about what was
    read; `tables`, each with `title`, `head` and `rows`; `settings`, YAML.

    Raises:
        ImportError: Jinja is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise ImportError("a report needs Jinja: pip install 'jaxcec[plot]'") from None
    text = resources.files("jaxcec.evaluation").joinpath("result_page.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    embedded = [(caption, base64.b64encode(figure.read_bytes()).decode()) for caption, figure in figures]
    write_aside(path, template.render(title=title, figures=embedded, **parts))
