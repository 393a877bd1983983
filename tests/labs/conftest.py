"""What the tests of all labs share."""

import pytest

pytest.register_assert_rewrite("tests.exercises.frame")
