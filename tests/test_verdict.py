"""Claims and verdicts."""

import itertools

import pytest

from labsupport.charts.style import luminance
from labsupport.verdict import _LOOK, Claim, Verdict, row, status_of


@pytest.mark.parametrize(
    ("statuses", "overall"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "broken"], "broken"),
        (["holds", "not exercised"], "not exercised"),
        (["not exercised", "broken"], "broken"),
        ([], "not exercised"),
    ],
)
def test_status_of_all(statuses, overall):
    """One broken claim breaks the verdict; one that was not put to the test keeps it from holding."""
    assert Verdict(Claim("c", status) for status in statuses).status == overall


def test_text_is_the_claims_without_the_numbers():
    """The text that CI compares has the sign, the status and the claim, and no measured detail."""
    verdict = Verdict([Claim("nothing is lost", "holds", detail="0 of 1,037")])
    assert str(verdict) == repr(verdict) == "✓ holds          nothing is lost"
    assert "1,037" not in verdict._repr_html_()


def test_html_escapes_what_a_claim_says():
    """A claim with angle brackets is shown as it is."""
    html = Verdict([Claim("a < b & c", "broken")])._repr_html_()
    assert "a &lt; b &amp; c" in html


def test_code_in_a_sentence_is_shown_as_such():
    """A sentence of a docstring is quoted in a reason; no reader sees its backticks on a page."""
    assert "fewer than <code>limit</code>" in row("broken", "not yet", "fewer than `limit`")


def test_the_same_claims_are_equal_whatever_was_measured():
    """The detail is no part of a claim's identity."""
    assert Claim("c", "holds", "1") == Claim("c", "holds", "2")
    assert Claim("c", "holds") != Claim("c", "broken")


def test_what_broke_is_broken_in_any_case():
    """A claim breaks also in a run that never met the fault; it holds only in one that did."""
    assert status_of(True) == "holds"
    assert status_of(False) == "not exercised"
    assert status_of(True, broken=True) == status_of(False, broken=True) == "broken"


def test_a_long_claim_goes_on_below_its_own_text():
    """Badge and text are two boxes: on a narrow page the second line does not begin below the badge."""
    html = Verdict([Claim("a claim", "holds")])._repr_html_()
    assert "display:flex" in html
    assert html.endswith(">a claim</span></div>")


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_badges_are_read_and_told_apart_without_colour():
    """Text has 4.5 : 1 on its badge; any two badges differ in lightness, too, on a grey printer."""
    for _, text, background in _LOOK.values():
        assert contrast(text, background) >= 4.5
    for one, other in itertools.combinations(_LOOK.values(), 2):
        assert contrast(one[2], other[2]) >= 2.9
