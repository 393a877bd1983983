"""What the tests of all exercises share."""

import pytest


@pytest.fixture(autouse=True)
def _progress_elsewhere(tmp_path, monkeypatch):
    """Keep the reader's own progress out of it: what `hint` shows depends on it."""
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress.json"))
