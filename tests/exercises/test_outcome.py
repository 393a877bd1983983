"""What becomes of an answer, as it is shown."""

from types import SimpleNamespace

import pytest

from labsupport import check
from labsupport.errors import InvalidSettingError
from labsupport.exercises import Outcome

STEPS = "In Redis at the start: nothing\n\n    ada       bob\n 1  GET a\n 2            SET a <1>"


def refused(reason="Both got 1.", finding="Both got 1.", steps=STEPS):
    return Outcome(False, reason, SimpleNamespace(schedule=f"{steps}\n\n{finding}"), "00.1")


def test_a_finding_is_told_once():
    """The reason is at the top; the schedule does not end with it again."""
    assert str(refused()) == (
        f'✗ 00.1 not yet: Both got 1.\n\n{STEPS}\n\nAnother try, or a hint("00.1").'
    )
    assert str(refused(finding="The key is gone.")).count("The key is gone.") == 1


def test_a_schedule_is_a_table():
    """On a narrow page all of it is to be seen: sentences and cells are wrapped between words."""
    html = refused()._repr_html_()
    sentence, rest = html.split("<table ")
    assert "✗ 00.1 not yet</span>" in sentence
    assert "Both got 1." in sentence
    assert ">SET a &lt;1&gt;</td>" in rest
    assert rest.count("<tr>") == len(STEPS.rpartition("\n\n")[2].split("\n"))
    assert rest.endswith("</table><div>Another try, or a hint(&quot;00.1&quot;).</div>")


def test_a_step_longer_than_its_lane_is_not_torn():
    """The steps that decide are told whole, and may reach below the lanes at their right."""
    longer = f"{STEPS}\n 3  DEL a and all that was kept beside it"
    assert ">DEL a and all that was kept beside it</td><td" in refused(steps=longer)._repr_html_()


def test_a_schedule_is_a_table_also_where_a_finding_follows():
    """It is told where the reason says something else: below the table, which stays one."""
    html = refused(finding="The key is gone.")._repr_html_()
    assert html.count("<tr>") == 3
    assert ">The key is gone.</pre><div>Another try" in html
    assert "The key" not in html.partition("</table>")[0]


def test_a_line_that_is_no_schedule_is_shown_as_it_is():
    assert "<pre" in refused(steps="In Redis\n\n    nothing")._repr_html_()


def test_calls_without_a_schedule_stay_as_they_are():
    html = refused(steps="In Redis at the start: nothing\n1. ada: get_user(1)")._repr_html_()
    assert "<table" not in html
    assert "1. ada: get_user(1)</pre>" in html


def test_a_pass_is_two_lines():
    """With nothing but where to look next."""
    passed = Outcome(True, "it kept its contract.", None, "00.1")
    assert str(passed).splitlines()[1] == 'Compare with the lab\'s own: solution("00.1")'
    assert "<pre" not in passed._repr_html_()


async def awaits(redis, key):
    return await redis.get(key)


def tells(redis, key):
    yield redis.get(key)


@pytest.mark.parametrize("answer", [awaits, tells])
def test_a_function_of_another_kind_is_not_judged(answer):
    """None of it would run, and the check would blame what it returns."""
    with pytest.raises(InvalidSettingError, match="Write a plain function") as caught:
        check("00.1", answer)
    assert answer.__name__ in caught.value.problem
