"""Files of settings that were read wrongly, or refused without saying which file."""

import pytest

from jaxcec.commands.settings import TrainConfig, load_config

BOMB = "a: &a [0,0,0,0,0,0,0,0,0]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "content, message",
    [
        ("!!python/object/apply:os.mkdir ['made']", "could not determine a constructor for the tag"),
        ("seed: !!python/name:os.system ''", "could not determine a constructor for the tag"),
        ("seed: 1\nseed: 2\n", "key 'seed' given twice"),
        ("scenario: {bandwidth: 1, bandwidth: 2}", "key 'bandwidth' given twice"),
        ("[]", r"the file: got \[\]; must be a mapping"),
        ("0", "the file: got 0; must be a mapping"),
        ("[" * 2000, "not valid YAML: RecursionError"),
        ("seed: 2001-99-99", "not valid YAML: ValueError: month must be"),
        ("seed: !!int ''", "not valid YAML: IndexError"),
        ("seed: !!bool x", "not valid YAML: KeyError"),
        ("seed: !!timestamp x", "not valid YAML: AttributeError"),
        (f"scenario: {{load: 1{'0' * 400}}}", r"scenario.load: got 10000.*; must be from -9007199254740992 to 9007"),
        (f"num_envs: {2**60}", "num_envs: got 1152921504606846976; must be from"),
        ("agent: {actor_learning_rate: .inf}", "agent.actor_learning_rate: got inf; must be finite"),
        ("agent: {plan_steps: 4}", "agent.plan_steps: unknown key; did you mean plan.steps?"),
        ("agent: {twin_learning_rate: 0.1}", "agent.twin_learning_rate: unknown key; did you mean twin.learning_rate"),
        ("agent: {ppo: {epoch: 1}}", "agent.ppo.epoch: unknown key; did you mean epochs?"),
        ("agent: {evolution: 50}", "agent.evolution: got 50; must be a mapping of settings"),
        ("agent: {evolution: {pairs: 0}}", "agent.evolution.pairs: got 0; must be at least 1"),
        ("agent: {algorithm: sac}", "agent.algorithm: got 'sac'; must be one of dtdrlmo-plan, dtdrlmo, ddpg, ppo, dqn"),
        ("scenario: {load: 1.0e+300}", r"scenario.load: got 1e\+300; must be positive and finite, from 1e-9 to 1e15"),
        ("agent: {entropy: 1.0e+300}", r"agent.entropy: got 1e\+300; must be finite and at most 1e30"),
        ("scenario: {demand: [0.5, .nan]}", r"demand: got \(0.5, nan\); must be \(low, high\)"),
        ("scenario: {neighbours: [3, 2]}", r"scenario.neighbours: got \(3, 2\); must be \(least, largest\)"),
        (f"{BOMB}seed: *i", "a: unknown key"),
        (f"seed: {BOMB.splitlines()[0][3:]}", r"seed: got \[0, 0, 0, 0, 0, 0, ...\]; must be of type int"),
    ],
)
def test_bad_files_are_refused_by_name_and_without_running_anything(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ValueError, match=rf"c\.yaml: (.|\n)*{message}") as error:
        load_config("c.yaml")
    assert len(str(error.value)) < 1000
    assert [path.name for path in tmp_path.iterdir()] == ["c.yaml"]


def test_a_value_that_unfolds_without_end_is_refused_at_once(tmp_path):
    lines = BOMB.replace("a: &a", "&a").splitlines()
    nested = lines[0]
    for name, before in zip("bcdefghi", "abcdefgh", strict=True):
        nested = f"&{name} [{nested},{','.join([f'*{before}'] * 8)}]"
    (tmp_path / "c.yaml").write_text(f"seed: {nested}")
    with pytest.raises(ValueError, match=r"seed: got .*; must be of type int") as error:
        load_config(str(tmp_path / "c.yaml"))
    assert len(str(error.value)) < 5000


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert load_config(str(tmp_path / "c.yaml")) == TrainConfig()
