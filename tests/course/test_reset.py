"""`make reset`: the notebooks and the progress as they were, and nothing of the learner's lost."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(shutil.which("make") is None, reason="no make"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git"),
]


def git(folder, *arguments):
    settings = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True)


def reset(folder):
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "GIT_DIR", "GIT_WORK_TREE"}
    environment = {key: value for key, value in os.environ.items() if key not in outer}
    return subprocess.run(
        ["make", "reset"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def copies(folder):
    """What was kept, by the name of each file and in the order of the resets."""
    found = {}
    for path in sorted((folder / ".lab" / "before-reset").glob("*/*")):
        found.setdefault(path.name, []).append(path.read_text())
    return found


@pytest.fixture(params=[".", "courses/redis patterns"], ids=["its own", "in a larger one"])
def course(tmp_path, request):
    """A small course in a repository."""
    folder = tmp_path / request.param
    for name in ("Makefile", "tools/reset.sh", ".gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "notebooks").mkdir()
    for name in ("00_a", "01_b", "02_c"):
        (folder / "notebooks" / f"{name}.ipynb").write_text(f"{name} as it was")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "the course")
    return folder


def test_restores_and_keeps_what_was_there(course):
    """Changed notebooks and the progress are in .lab, and the start is back; a deleted one, too."""
    notebooks = course / "notebooks"
    (notebooks / "00_a.ipynb").write_text("00_a with answers")
    (notebooks / "01_b.ipynb").unlink()
    (notebooks / ".progress.json").write_text("some")
    (notebooks / "predictions.json").write_text("all of them")
    (notebooks / ".ipynb_checkpoints").mkdir()
    (course / ".lab" / "workspaces").mkdir(parents=True)
    done = reset(course)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in notebooks.iterdir()) == [
        "00_a.ipynb",
        "01_b.ipynb",
        "02_c.ipynb",
    ]
    for path in notebooks.iterdir():
        assert path.read_text() == f"{path.stem} as it was"
    assert copies(course) == {
        "00_a.ipynb": ["00_a with answers"],
        ".progress.json": ["some"],
        "predictions.json": ["all of them"],
    }
    assert [path.name for path in (course / ".lab").iterdir()] == ["before-reset"]
    assert "what was there is in .lab/before-reset/" in done.stdout


def test_again_does_no_harm(course):
    """A second reset has nothing to do; a second class, in the same second, has a folder of its own."""
    for answers in ("the first class", "the second class"):
        (course / "notebooks" / "00_a.ipynb").write_text(answers)
        assert reset(course).returncode == 0
        again = reset(course)
        assert (again.returncode, again.stdout) == (0, "")
    assert copies(course) == {"00_a.ipynb": ["the first class", "the second class"]}


def test_leaves_what_the_learner_made(course):
    """Notebooks that the course does not have stay, those that git was told of as well."""
    notebooks = course / "notebooks"
    (notebooks / "mine.ipynb").write_text("mine")
    (notebooks / "staged.ipynb").write_text("staged")
    git(course, "add", "notebooks/staged.ipynb")
    git(course, "mv", "notebooks/02_c.ipynb", "notebooks/renamed.ipynb")
    (notebooks / "00_a.ipynb").write_text("changed")
    assert reset(course).returncode == 0
    found = {path.stem: path.read_text() for path in notebooks.iterdir()}
    course_itself = {name: f"{name} as it was" for name in ("00_a", "01_b", "02_c")}
    assert found == course_itself | {
        "mine": "mine",
        "staged": "staged",
        "renamed": "02_c as it was",
    }


def test_refuses_without_a_start(tmp_path):
    """Unpacked from an archive, even inside somebody's repository, nothing is touched."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "something else")
    for name in ("Makefile", "tools/reset.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / ".progress.json").write_text("some")
    done = reset(tmp_path)
    assert done.returncode != 0
    assert "not a git checkout of the course" in done.stderr
    assert (tmp_path / "notebooks" / ".progress.json").exists()
