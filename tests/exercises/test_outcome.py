"""What becomes of an answer, as it is shown."""

from types import SimpleNamespace

from labsupport.exercises import Outcome

STEPS = "In Redis at the start: nothing\n\n    ada       bob\n 1  GET a\n 2            SET a <1>"


def refused(reason="Both got 1.", finding="Both got 1."):
    return Outcome(False, reason, SimpleNamespace(schedule=f"{STEPS}\n\n{finding}"), "00.1")


def test_a_finding_is_told_once():
    """The reason is at the top; the schedule does not end with it again."""
    assert str(refused()) == (
        f'✗ 00.1 not yet: Both got 1.\n\n{STEPS}\n\nAnother try, or a hint("00.1").'
    )
    assert str(refused(finding="The key is gone.")).count("The key is gone.") == 1


def test_columns_are_not_broken():
    """On a narrow page sentences are wrapped between words, and a schedule is scrolled."""
    html = refused()._repr_html_()
    sentence, rest = html.split("<pre ")
    assert sentence == '<div style="white-space:pre-line">✗ 00.1 not yet: Both got 1.</div>'
    assert "white-space:pre;" in rest
    assert 'tabindex="0"' in rest  # with the keyboard, too
    assert "SET a &lt;1&gt;</pre><div>Another try" in rest


def test_a_pass_is_two_lines():
    """With nothing but where to look next."""
    passed = Outcome(True, "it kept its contract.", None, "00.1")
    assert str(passed).splitlines()[1] == 'Compare with the lab\'s own: solution("00.1")'
    assert "<pre" not in passed._repr_html_()
