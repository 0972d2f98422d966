"""Settings from random and mutated YAML: `load_config` returns a valid TrainConfig or raises a ValueError."""

import dataclasses
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcec.commands.settings import TrainConfig, load_config, save_config

FILES = [path.read_bytes() for path in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))]
EXAMPLES = pytest.mark.parametrize("examples", [80, pytest.param(5000, marks=pytest.mark.slow)])
FIELDS = [field.name for part in (TrainConfig, *(type(getattr(TrainConfig(), name)) for name in ("scenario", "agent")))
          for field in dataclasses.fields(part)]  # fmt: skip
TAGS = ["!!int ''", "!!bool x", "!!timestamp x", "!!float 1:", "2001-99-99", "!!binary é", "<<: 1", "&a [*a]", "1e999"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TAGS)
numbers = st.integers(-2, 5) | st.sampled_from([10**19, 10**400, 0.0, 0.5, math.inf, math.nan, 1e-320])
values = scalars | numbers | st.lists(numbers, max_size=3)
trees = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(max_size=3), values | st.dictionaries(st.sampled_from(FIELDS), values, max_size=4)
)


def check(path, content):
    """Load settings, which must be finite, of the right types, and equal after writing and reading, or be refused."""
    path.write_bytes(content)
    try:
        config = load_config(str(path))
    except ValueError as error:
        assert type(error) is ValueError and str(path) in str(error) and len(str(error)) < 3000
        return
    for part in (config, config.scenario, config.agent):
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            for number in value if isinstance(value, tuple) else [value]:
                assert not isinstance(number, float) or math.isfinite(number)
            if field.default is not dataclasses.MISSING and field.default is not None:
                assert type(value) is type(field.default), field.name
    save_config(config, path)
    assert load_config(str(path)) == config


@EXAMPLES
@pytest.mark.parametrize(
    "contents",
    [
        st.binary(max_size=80),
        st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
        trees.map(lambda tree: yaml.safe_dump(tree).encode()),
        st.dictionaries(st.sampled_from(["scenario", "agent"]), trees).map(lambda tree: yaml.safe_dump(tree).encode()),
        st.lists(st.tuples(st.sampled_from(FIELDS), scalars)).map(
            lambda pairs: "".join(f"{key}: {value}\n" for key, value in pairs).encode("utf-8", "replace")
        ),
        st.builds(
            lambda file, at, length, new: file[: int(at * len(file))] + new + file[int(at * len(file)) + length :],
            st.sampled_from(FILES),
            st.floats(0, 1),
            st.integers(0, 9),
            st.binary(max_size=3) | st.text("0123456789.-[]{}:e \n", max_size=4).map(str.encode),
        ),
    ],
    ids=["bytes", "text", "mappings", "parts", "lines", "files"],
)
def test_settings_are_read_correctly_or_refused(examples, contents, tmp_path):
    @settings(max_examples=examples, deadline=None, database=None)
    @given(contents)
    def holds(content):
        check(tmp_path / "c.yaml", content)

    holds()
