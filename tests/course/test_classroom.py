"""What the teacher of a class sees: who has passed what, and why answers were refused."""

import json
from pathlib import Path

import pytest
import yaml

from labsupport.course import exercise, exercise_titles
from labsupport.exercises import Progress
from tools.classroom import main, summary

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "ada" / ".progress.json"))
    (tmp_path / "ada").mkdir()
    return tmp_path


@pytest.mark.long
def test_refusals_are_counted_until_it_passes(folder, capsys):
    """A refusal is kept by the clause that was broken, beside the passes; the command tells both."""
    one = exercise("00.1")
    refused = one.judge(one.stub)
    one.judge(one.stub)
    one.judge(one.solution)
    (reason,) = Progress().refused["00.1"]
    assert Progress().refused["00.1"][reason] == 2
    assert reason in refused.reason
    (folder / "bob").mkdir()  # has logged in, and done nothing
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"2 learners, {len(exercise_titles())} exercises\n")
    assert "ada   1 passed,   2 refusals,  0 hints; last 00.1" in said
    assert "bob   0 passed,   0 refusals,  0 hints\n" in said
    assert f"00.1 {one.title}: 1 passed, 2 refusals, 0 took hints\n    2 × {reason}\n" in said


def test_the_commonest_come_first(tmp_path):
    """Three reasons an exercise, over the whole class."""
    class_of = {name: Progress(tmp_path / name) for name in ("ada", "bob")}
    for count, reason in enumerate(("rare", "seldom", "often", "always"), 1):
        for _ in range(count):
            class_of["ada"].note("01.1", reason)
    class_of["bob"].note("01.1", "always")
    found = summary(class_of)
    assert "11 refusals" in found
    assert found.endswith("\n    5 × always\n    3 × often\n    2 × seldom")


def test_a_file_stays_small(tmp_path):
    """Reasons that differ each time are kept up to a number, long ones up to a length."""
    progress = Progress(tmp_path / "progress.json")
    for number in range(100):
        progress.note("01.1", f"{number} " + "x" * 1000)
    progress.save()
    assert len(Progress(tmp_path / "progress.json").refused["01.1"]) == 20
    assert (tmp_path / "progress.json").stat().st_size < 5000


def test_what_a_learner_writes_is_only_text(folder, capsys):
    """A damaged file is an empty one, numbers that no exercise has do not count, escapes are taken out."""
    path = folder / "ada" / ".progress.json"
    path.write_text("[]")
    assert main([str(folder)]) == 0
    refused = {"00.1": {"\x1b[2J red": 1}, "99.9": {"?": 7}}
    path.write_text(json.dumps({"passed": ["99.9"], "hints": {}, "refused": refused}))
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert "ada   0 passed,   1 refusals" in said
    assert "\x1b" not in said
    assert main([]) == 2


def test_no_password_is_kept():
    """Compose takes both from outside and has no default; .env is in neither the repository nor the image."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert compose["hub"]["profiles"] == ["class"]
    settings = compose["hub"]["environment"]
    assert {"CLASS_PASSWORD", "TEACHER_PASSWORD"} <= settings.keys()
    assert set(settings.values()) == {None}
    assert compose["hub"]["ports"] == ["${CLASS_ADDRESS:-127.0.0.1}:8000:8000"]
    for name in (".gitignore", ".dockerignore"):
        assert ".env" in (ROOT / name).read_text().split()
