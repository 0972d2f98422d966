"""Control groups of version 2, in a folder that stands in for the kernel's; the lab tests those of version 1."""

import pytest

pytest.importorskip("pydantic")

from jaxcec.live.cgroups import Group, may_bound


@pytest.fixture
def root(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    return tmp_path


def test_a_group_is_bounded_and_the_groups_around_it_let_it_be(root):
    assert may_bound(root)
    Group("jaxcec/node0/runs", root).make(0.1)
    inner = root / "jaxcec" / "node0" / "runs"
    assert (inner / "cpu.max").read_text() == "5000 50000"
    for around in (root, root / "jaxcec", root / "jaxcec" / "node0"):
        assert (around / "cgroup.subtree_control").read_text() == "+cpu"
    assert not (inner / "cgroup.subtree_control").exists()


def test_little_is_bounded_over_a_longer_period(root):
    """A thousandth of a core: the kernel's least quota, 1 ms, in a second."""
    Group("a", root).make(0.001)
    assert (root / "a" / "cpu.max").read_text() == "1000 1000000"


def test_weight_and_usage(root):
    group = Group("a", root).make()
    group.weigh(30.0)
    (root / "a" / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    assert (root / "a" / "cpu.weight").read_text() == "3000" and group.usage() == 2.5


def test_without_the_controller_nothing_is_bounded(tmp_path):
    assert not may_bound(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    assert not may_bound(tmp_path)
