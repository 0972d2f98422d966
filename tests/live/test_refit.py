"""The twin refitted to a log: what was measured, whether it foresees better, which version is kept, what is refused."""

import asyncio
import dataclasses
import heapq
import json
import random
import shutil
from functools import cache
from itertools import count

import jax
import numpy as np
import pytest

pytest.importorskip("pydantic")

from jaxcec.agents import PRETRAINED, load_policy
from jaxcec.commands.live import main
from jaxcec.commands.refit_twin import refit_regularly
from jaxcec.commands.serve_site import ServeCommand, _fallback, _learned
from jaxcec.env import CECEnv
from jaxcec.evaluation import Contender
from jaxcec.live import events
from jaxcec.live.decider import Verdict
from jaxcec.live.event_log import EventLog
from jaxcec.live.experience import executed_decisions
from jaxcec.live.lateness import no_lateness
from jaxcec.live.ledger import Ledger
from jaxcec.live.mirror import decide
from jaxcec.live.orders import decision_event
from jaxcec.live.policy_versions import Version, current_version, settle
from jaxcec.live.refit import refit
from jaxcec.live.shorten import shorten
from jaxcec.live.site import Site
from jaxcec.policies import earliest_finish

SITE = Site(
    links=[(0, 1, 10.0), (1, 2, 10.0)],
    node_speed=[30.0] * 3,
    device_speed=[0.0] * 3,
    capacity=[[1.0, 1.0]] * 3,
    num_services=6,
    max_microservices=4,
)
EFT = Contender.of_rule("eft", earliest_finish)
NOTHING_LATE = no_lateness(3)
SERVICES = 100
SHIPPED = PRETRAINED / "dtdrlmo.msgpack"


@pytest.fixture(autouse=True)
def lax_promotion():
    """optax's Adam adds numbers of different types."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def services(seed):
    """Services with their times of submission, s."""
    rng, time = random.Random(seed), 1_766_000_000.0
    for i in range(SERVICES):
        time += rng.expovariate(1 / 8)
        numbers = range(4)
        yield events.Submitted(
            time=time,
            service=f"s{i}",
            spec=events.Service(
                source=rng.randrange(3),
                preds=[[k for k in range(j) if rng.random() < 0.5] for j in numbers],
                load=[rng.uniform(20, 200) for _ in numbers],
                data=[rng.uniform(10, 60) for _ in numbers],
                demand=[[rng.uniform(0.6, 1.0), 0.2] for _ in numbers],
            ),
        )


def measured(decided, slower):
    """The reports of a run whose flow takes `slower` times as long as decided, and all else exactly as long."""
    of = {name: getattr(decided, name) for name in ("service", "microservice", "attempt")}
    late = (slower - 1.0) * (decided.data_ready - decided.flow_start)
    ready, start = decided.data_ready + late, max(decided.start, decided.data_ready + late)
    if decided.links:
        yield events.FlowStarted(time=decided.flow_start, **of)
        yield events.FlowEnded(time=ready, **of)
    yield events.ExecutionStarted(time=start, **of)
    yield events.ExecutionEnded(time=start + (decided.finish - decided.start), **of)


@cache
def happened(*slower):
    """A log in which flows take `slower[i]` times as long as decided in the i-th of so many parts of the services."""
    env, ledger, log, numbers = CECEnv(SITE.config), Ledger(SITE), [], count()
    ahead = [(event.time, next(numbers), event) for event in services(seed=1)]
    for host in range(3):
        log.append(events.WorkerUp(time=0.0, host=host))
        ledger.apply(log[-1])
    while (due := ledger.next_due()) or ahead:
        if ahead and (due is None or ahead[0][0] <= due.time):
            event = heapq.heappop(ahead)[-1]
        else:
            facts = ledger.facts(due.time, (due.slot, due.microservice))
            number = np.int32(next(numbers))
            how = {"lateness": NOTHING_LATE, "apply": EFT.apply, "params": EFT.params, "number": number}
            info = decide(env, facts, SITE.network, **how)
            event = decision_event(ledger, due, Verdict(info, "eft", late=False), due.time - float(facts.now))
            factor = slower[int(event.service[1:]) * len(slower) // SERVICES]
            for report in measured(event, factor):
                heapq.heappush(ahead, (report.time, next(numbers), report))
        ledger.apply(event)
        log.append(event)
    assert ledger.counters.completed == SERVICES
    return log


@cache
def shipped(name="dtdrlmo"):
    observation = jax.eval_shape(CECEnv(SITE.config).reset_env, jax.random.key(0), SITE.empty)[0]
    return load_policy(PRETRAINED / f"{name}.msgpack", observation)


def executed(log, most):
    """Executed decisions, each with its event."""
    decided = {each.run: each for each in log if isinstance(each, events.Decided)}
    ended = [each for each in log if isinstance(each, events.ExecutionEnded)][-most:]
    rows = executed_decisions(SITE, log, shipped(), most=most)
    return [(row, decided[each.run]) for row, each in zip(rows, ended, strict=True)]


def write_log(path, log, site=SITE):
    with EventLog(path) as file:
        file.settle("site", site.model_dump_json())
        file.append(log)
    return path


def test_outcomes_of_a_schedule_that_is_kept_are_the_waits_of_the_mechanism():
    rows, waited = executed(happened(1.0), most=1000), 0
    assert len(rows) == 4 * SERVICES
    for row, event in rows:
        links = event.flow_start - event.time if event.links else 0.0
        node = event.start - event.data_ready if event.links else event.start - event.time
        np.testing.assert_allclose(row.waits, [links, node], atol=2e-3)
        foreseen = row.unhindered + row.waits.sum()
        np.testing.assert_allclose([row.booked, row.finish], foreseen, atol=2e-3)
        waited += max(links, node) > 1.0
    assert waited > SERVICES // 2


def test_a_shortened_log_says_the_same_about_later_decisions(tmp_path):
    log = happened(1.0)
    cut = log[len(log) // 2].time
    with EventLog(write_log(tmp_path / "log", log)) as file:
        assert shorten(file, SITE, before=cut) > len(log) // 4
        left = [event for _, event in file.read()]
    carried = next(event for event in left if isinstance(event, events.Carried))
    rows = list(executed_decisions(SITE, left, shipped(), most=4 * SERVICES))
    later = [row for row, event in executed(log, most=4 * SERVICES) if event.time > carried.time]
    assert len(rows) == len(later) > SERVICES
    for row, same in zip(rows, later, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), row, same)


def test_slower_flows_are_a_wait_for_links():
    rows = executed(happened(1.5), most=10)
    assert len(rows) == 10 and any(row.crosses for row, _ in rows)
    for row, event in rows:
        late = event.flow_start - event.time + 0.5 * (event.data_ready - event.flow_start)
        assert row.waits[0] == pytest.approx(late if row.crosses else 0.0, abs=2e-3)
        assert row.unhindered + row.waits.sum() == pytest.approx(row.finish, abs=2e-3)


def test_the_twin_learns_that_flows_take_longer_and_its_versions_are_kept(tmp_path):
    found = refit(shipped(), [(SITE, happened(1.5))])
    assert found.better and found.fitted > 2 * found.held_out > 100
    assert found.after.error.mean < 0.7 * found.before.error.mean
    assert found.after.median < found.before.median
    assert found.chosen == "refitted" and found.corrected.error.mean < 0.5 * found.mechanism.error.mean
    assert found.corrected_before is None
    assert found.policy.params.actor is shipped().params.actor
    first = settle(tmp_path, shipped(), found, SITE.config)
    assert first == current_version(tmp_path)
    assert first == Version(tmp_path / "policy-0002.msgpack", tmp_path / "lateness-0001.json")
    assert sorted(path.name for path in tmp_path.glob("*.msgpack")) == ["policy-0001.msgpack", "policy-0002.msgpack"]
    assert "better" in json.loads((tmp_path / "current.json").read_text())["why"]


def test_a_refit_that_does_not_help_keeps_the_old_version(tmp_path):
    found = refit(shipped(), [(SITE, happened(3.0, 3.0, 3.0, 1.0))])
    assert not found.better
    first = Version(tmp_path / "policy-0001.msgpack")
    assert settle(tmp_path, shipped(), found, SITE.config) == current_version(tmp_path) == first
    assert "not better" in json.loads((tmp_path / "current.json").read_text())["why"]
    assert len([*tmp_path.glob("*.msgpack")]) == 1


def test_a_lateness_that_harms_is_given_up(tmp_path):
    """Flows were slow when the lateness was learned, and are not any more."""
    slow = refit(shipped(), [(SITE, happened(1.5))])
    settle(tmp_path, shipped(), slow, SITE.config)
    found = refit(shipped(), [(SITE, happened(3.0, 3.0, 3.0, 1.0))], lateness=slow.lateness)
    assert found.chosen == "none"
    assert found.mechanism.error.mean < min(found.corrected_before.error.mean, found.corrected.error.mean)
    assert settle(tmp_path, shipped(), found, SITE.config).lateness is None
    assert current_version(tmp_path).lateness is None and (tmp_path / "lateness-0001.json").is_file()


def test_logs_of_several_sites_teach_nothing_about_single_nodes(tmp_path):
    other = SITE.model_copy(update={"frame": 20.0})
    found = refit(shipped(), [(SITE, happened(1.5)), (other, happened(1.5))])
    assert found.site is None and found.chosen == "refitted" and not found.lateness.slower.any()
    version = settle(tmp_path, shipped(), found, SITE.config)
    assert version.load_lateness([other]).shared.any()
    assert refit(shipped(), [(SITE, happened(1.5))]).site == SITE


def test_several_logs_follow_one_another():
    found = refit(shipped(), [(SITE, happened(1.5)), (SITE, happened(1.0))])  # of one time, as if a lab had played both
    assert found.held_out == pytest.approx(2 * SERVICES, abs=5)
    assert found.mechanism.error.mean < 1e-3  # all that is held out is of the second log, which the mechanism foresaw


def test_the_command_goes_on_from_the_current_version(tmp_path, capsys):
    log, out = write_log(tmp_path / "log.sqlite", happened(1.5)), tmp_path / "versions"
    main(["refit", str(log), "--policy", str(SHIPPED), "--out", str(out)])
    assert current_version(out).policy.name == "policy-0002.msgpack"
    first = json.loads((out / "current.json").read_text())["judged"]
    main(["refit", str(log), "--out", str(out)])
    second = json.loads((out / "current.json").read_text())["judged"]
    assert second["before"] == first["after"] and second["corrected_before"] == first["corrected"]
    assert current_version(out).lateness.name == "lateness-0001.json", "the same log teaches the same"
    with pytest.raises(SystemExit):
        main(["refit", str(log), "--policy", str(SHIPPED), "--out", str(out)])
    assert "must be left out" in capsys.readouterr().err


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["refit", *map(str, arguments)])
    assert left.value.code == 2
    return capsys.readouterr().err


def test_unfit_input_is_refused(tmp_path, capsys):
    out = "--out", tmp_path / "versions"
    log = write_log(tmp_path / "log.sqlite", happened(1.0))
    started = [each for each in happened(1.0) if not isinstance(each, events.ExecutionEnded)]
    unfinished = write_log(tmp_path / "unfinished.sqlite", started)
    other = SITE.model_copy(update={"capacity": [[1.0, 1.0, 1.0]] * 3})
    gpus = write_log(tmp_path / "gpus.sqlite", [], other)
    (tmp_path / "text").write_text("no database, but long enough to be looked at as if it were one" * 20)
    assert "no such event log" in refused(capsys, tmp_path / "none.sqlite", *out)
    assert "not an event log" in refused(capsys, tmp_path / "text", *out)
    assert "got 0, 0 and 0 finished decisions" in refused(capsys, unfinished, *out)
    assert "trained for num_resources = 2, but the scenario has 3" in refused(capsys, gpus, *out)
    assert "has no twin" in refused(capsys, log, *out, "--policy", PRETRAINED / "ddpg.msgpack")
    assert "at least one" in refused(capsys, *out)
    assert current_version(out[1]) is None


@pytest.mark.parametrize("policy", ["eft", "dtdrlmo", "dtdrlmo-exact"])
def test_a_schedule_serves_what_is_current(tmp_path, policy):
    """Of other policies than those of dtdrlmo only the lateness is used."""
    found = refit(shipped(), [(SITE, happened(1.5))])
    versions = tmp_path / "versions"
    version = settle(versions, shipped(), found, SITE.config)
    command = ServeCommand(site=tmp_path / "site.yaml", policy=policy, refit_every=60.0, versions=versions)
    contender, lateness = _learned(command, SITE)
    jax.tree.map(np.testing.assert_array_equal, lateness, version.load_lateness([SITE]))
    actor = getattr(contender.params, "actor", None)
    assert (actor is None) == (policy == "eft")
    if policy == "dtdrlmo":
        jax.tree.map(np.testing.assert_array_equal, contender.params.twin, found.policy.params.twin)
    contender, lateness = _learned(dataclasses.replace(command, refit_every=None), SITE)
    assert not lateness.shared.any()


@pytest.mark.parametrize(("policy", "fallback"), [("dtdrlmo-plan", "dtdrlmo"), ("dtdrlmo", "eft"), ("greedy", "eft")])
def test_a_quick_policy_decides_when_another_one_is_late(tmp_path, policy, fallback):
    assert _fallback(ServeCommand(site=tmp_path / "site.yaml", policy=policy), SITE).name == fallback


def test_a_damaged_folder_is_refused(tmp_path, capsys):
    shutil.copy(SHIPPED, tmp_path / "policy-0001.msgpack")
    for content in ("{}", "[]", '"text"', "{"):
        (tmp_path / "current.json").write_text(content)
        with pytest.raises(ValueError, match="damaged"):
            current_version(tmp_path)
    (tmp_path / "current.json").write_text('{"policy": "policy-0001.msgpack"}')  # as older releases wrote it
    assert current_version(tmp_path) == Version(tmp_path / "policy-0001.msgpack")
    (tmp_path / "current.json").write_text('{"policy": "policy-0001.msgpack", "lateness": "lateness-0001.json"}')
    with pytest.raises(ValueError, match="which is not there"):
        current_version(tmp_path)
    (tmp_path / "current.json").write_text('{"policy": "policy-0002.msgpack"}')
    with pytest.raises(ValueError, match="which is not there"):
        current_version(tmp_path)


def test_a_policy_that_holds_flows_is_refused():
    policy = dataclasses.replace(shipped(), config=shipped().config.replace(learn_flow=True))
    with pytest.raises(ValueError, match="learn_flow"):
        refit(policy, [])


@pytest.mark.slow
def test_a_schedule_lets_a_new_version_be_used_once(tmp_path):
    log, out, used = write_log(tmp_path / "log.sqlite", happened(1.5)), tmp_path / "versions", []

    async def first_versions():
        refitting = asyncio.create_task(refit_regularly(log, out, every=0.1, use=used.append))
        while not used:
            await asyncio.sleep(0.1)
        refitting.cancel()
        await asyncio.gather(refitting, return_exceptions=True)

    asyncio.run(asyncio.wait_for(first_versions(), 120.0))
    assert used == [Version(out / "policy-0002.msgpack", out / "lateness-0001.json")]
