"""A recorded schedule equals the episode that a rollout plays, and its page works in a browser."""

import itertools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.episodes import SMALL

from jaxcec.evaluation import Contender, episode_keys, record, save_page, schedule_figure
from jaxcec.evaluation.schedule import bars, resources
from jaxcec.policies import BASELINES
from jaxcec.scenarios import make_env

NAMES = ("eft", "random", "srpt")


def decide(index, observation, _world, key):
    """As a rule of NAMES, or without a number for the hold; one function, so that one program plays them all."""
    *rules, srpt = (BASELINES[name](observation, key) for name in NAMES)
    rules = [action.replace(postpone=jnp.float32(0.0)) for action in rules]
    broken = rules[0].replace(hold=jnp.float32(jnp.nan))
    return jax.tree.map(lambda *each: jnp.stack(each)[index], *rules, srpt, broken)


def contender(name) -> Contender:
    return Contender(name, decide, jnp.int32((*NAMES, "broken").index(name)))


@pytest.fixture(scope="module")
def small():
    return *make_env(SMALL, "test"), episode_keys(0, 2)[:1]


@pytest.fixture(scope="module")
def schedules(small):
    env, params, keys = small
    return [record(env, params, contender(name), keys[0]) for name in NAMES]


def test_a_schedule_is_the_episode_that_a_rollout_plays(small, schedules):
    env, params, keys = small
    for name, schedule in zip(NAMES, schedules, strict=True):
        played = contender(name).play(env, params, keys)
        assert schedule.act == pytest.approx(float(played.act[0]), rel=1e-5)
        assert len(schedule.placed) == int(played.decisions[0])
        hosts = {
            (p.service, p.microservice): p.node + len(schedule.nodes) * (p.kind == "device") for p in schedule.placed
        }
        for microservice, host in hosts.items():
            assert int(played.host[0][microservice]) == host
        for p in schedule.placed:
            assert float(played.decided_at[0, p.service, p.microservice]) == pytest.approx(p.decided, rel=1e-5)
        assert schedule.moved == pytest.approx(float(played.moved[0] / played.decisions[0]))


def test_a_policy_without_numbers_is_not_recorded(small):
    env, params, keys = small
    with pytest.raises(ValueError, match=r"policy broken: (\d+) of its \1 actions have a number that is not finite"):
        record(env, params, contender("broken"), keys[0])


def test_every_microservice_runs_once_and_after_its_input_has_arrived(schedules):
    for schedule in schedules:
        assert len({(p.service, p.microservice) for p in schedule.placed}) == len(schedule.placed)
        for p in schedule.placed:
            assert (
                schedule.releases[p.service] - 1e-3 <= p.decided <= p.flow_start <= p.data_ready <= p.start < p.finish
            )
            assert bool(p.links) == bool(p.origins)
        assert min(schedule.completions) > 0.0


def test_input_crosses_links_from_its_origins_to_the_node(schedules):
    for schedule in schedules:
        assert len(schedule.links) >= len(schedule.nodes) - 1
        for p in schedule.placed:
            reached = {p.node}
            for _ in p.links:
                joined = [schedule.links[link][:2] for link in p.links]
                reached |= {node for ends in joined if reached & set(ends) for node in ends}
            assert set(p.origins) <= reached, "the links of a coflow connect all its origins to the node"
    assert any(len(p.links) > 1 for schedule in schedules for p in schedule.placed)


def test_bars_of_a_slot_do_not_overlap(schedules):
    for schedule in schedules:
        drawn = bars(schedule)
        assert len(drawn) == len(schedule.placed) + sum(len(p.links) for p in schedule.placed)
        for resource in {bar.resource for bar in drawn}:
            assert resource in resources(schedules)
            for slot in {bar.slot for bar in drawn if bar.resource == resource}:
                row = sorted((b.start, b.end) for b in drawn if (b.resource, b.slot) == (resource, slot))
                assert all(end <= start + 2e-3 for (_, end), (start, _) in itertools.pairwise(row))


def test_loads_equal_those_in_the_observation(small, schedules):
    env, params, keys = small
    observation, _ = jax.vmap(env.reset_env, in_axes=(0, None))(keys, params)
    loads, links = schedules[0].loads, len(schedules[0].links)
    np.testing.assert_allclose(loads[0, links:], observation.nodes.load[0], rtol=1e-6)
    np.testing.assert_allclose(loads[0, :links], observation.links.load[0][:links], rtol=1e-6)


def test_the_busy_share_is_that_of_time_steps_with_an_execution(schedules):
    for schedule in schedules:
        times = (np.arange(20_000) + 0.5) / 20_000 * schedule.makespan
        busy = [
            np.any(
                [(p.start <= times) & (times < p.finish) for p in schedule.placed if p.resource == ("node", v)], axis=0
            )
            for v in range(len(schedule.nodes))
        ]
        assert schedule.busy == pytest.approx(float(np.mean([np.mean(node) for node in busy])), abs=1e-3)


def test_a_figure_has_a_panel_for_each_schedule(schedules, tmp_path):
    schedule_figure(schedules[:1], tmp_path / "one.png", title="one")
    schedule_figure(schedules, tmp_path / "three.png", title="three")
    assert (tmp_path / "three.png").stat().st_size > (tmp_path / "one.png").stat().st_size


@pytest.fixture(scope="module")
def page(schedules, tmp_path_factory):
    """The page of two schedules, opened in a browser; it collects errors and network requests in `wrong`."""
    sync_api = pytest.importorskip("playwright.sync_api")
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        pytest.skip("Chromium is not installed")
    path = tmp_path_factory.mktemp("page") / "schedule.html"
    save_page(schedules[:2], path, title="two policies")
    assert path.stat().st_size < 2_000_000
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1500, "height": 1200})
        page.wrong = []
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda sent: page.wrong.append(sent.url) if not sent.url.startswith("file:") else None)
        page.goto(path.as_uri())
        page.wait_for_selector("#vis svg")
        yield page
        browser.close()


def drawn_at(page, time):
    """Move the slider to a time; the charts that are drawn then."""
    slider = page.locator("#slider input")
    slider.evaluate("(input, time) => { input.value = time; input.dispatchEvent(new Event('input')); }", str(time))
    page.wait_for_timeout(200)
    return page.locator("svg.marks").inner_html()


def test_the_page_opens_without_error_or_network(page, schedules):
    text = page.locator("svg.marks").text_content()
    assert not page.wrong
    for schedule in schedules[:2]:
        assert f"{schedule.policy}: ACT {schedule.act:,.1f} s" in text
    assert "node 0" in text and "two policies" in text


def test_the_slider_changes_the_network(page, schedules):
    placed = schedules[0].placed
    busy = max(placed, key=lambda p: p.finish - p.start)
    idle = max(schedule.makespan for schedule in schedules[:2]) + 1.0
    assert drawn_at(page, (busy.start + busy.finish) / 2.0) != drawn_at(page, idle)
    assert not page.wrong


def test_hovering_shows_details_and_a_click_highlights_the_service(page):
    bar = page.locator("svg.marks .mark-rect path").first
    bar.hover()
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    details = tooltip.inner_text()
    for name in ("C, load (Mcycles)", "D, input (Mbit)", "B, share of bandwidth", "hold (s)", "wait (s)", "service"):
        assert name in details
    faded = "svg.marks .mark-rect path[opacity='0.12']"
    assert page.locator(faded).count() == 0
    bar.click()
    page.wait_for_timeout(200)
    assert page.locator(faded).count() > 0
    assert page.locator("svg.marks .mark-rect path[opacity='1']").count() > 0
    bar.dblclick()
    page.wait_for_timeout(200)
    assert page.locator(faded).count() == 0
    assert not page.wrong
