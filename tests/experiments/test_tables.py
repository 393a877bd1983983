"""The tables of an experiment: what becomes of a claim, a finding and a comparison."""

import math
from types import SimpleNamespace

import pytest

from labsupport.charts.style import FIXED
from labsupport.experiments import Contrast, Finding, Rule


class TestRule:
    RULE = Rule(text="No job is lost", met=("killed", "jobs"), broken=("lost", "stuck"))

    @pytest.mark.parametrize(
        ("numbers", "status"),
        [
            ({"killed": 1, "jobs": 9, "lost": 0, "stuck": 0}, "holds"),
            ({"killed": 0, "jobs": 9, "lost": 0, "stuck": 0}, "not exercised"),
            ({"killed": 1, "jobs": 0, "lost": 0, "stuck": 0}, "not exercised"),
            ({"killed": 1, "jobs": 9, "lost": 0, "stuck": 2}, "broken"),
            ({"killed": 0, "jobs": 9, "lost": -1, "stuck": 0}, "broken"),
        ],
    )
    def test_status(self, numbers, status):
        """All that it was met by must be there; any that breaks it does, met or not."""
        assert self.RULE.judge(numbers).status == status

    def test_functions(self):
        """Where a number is not simply there or not, a function decides."""
        rule = Rule(text="At most two", met=lambda n: n["seen"] > 5, broken=lambda n: n["many"] > 2)
        assert [
            rule.judge({"seen": seen, "many": many}).status
            for seen, many in [(6, 2), (6, 3), (5, 2), (5, 3)]
        ] == ["holds", "broken", "not exercised", "broken"]

    @pytest.mark.parametrize("stuck", [0, 3])
    def test_a_run_that_was_cut_short(self, stuck):
        """A claim about the end is neither held nor broken by a run that did not come to it."""
        numbers = {"killed": 1, "jobs": 9, "lost": 0, "stuck": stuck, "cut_short": 1}
        final = Rule(text="", met="killed", broken="stuck", final=True)
        assert final.judge(numbers).status == "not exercised"
        assert self.RULE.judge(numbers).status == ("broken" if stuck else "holds")

    def test_detail(self):
        """Numbers are whole and have commas, unless the template says otherwise."""
        rule = Rule(text="", met="a", detail="{a} of {b}, {b:.1f}, {c}")
        found = rule.judge({"a": 1234.6, "b": 2.25, "c": math.nan}).detail
        assert found == "1,235 of 2, 2.2, nan"

    @pytest.mark.parametrize(
        ("seconds", "said"),
        [(0, "0 ms"), (0.0004, "0.4 ms"), (0.054, "54 ms"), (0.74, "740 ms"), (1.84, "1.8 s")],
    )
    def test_times(self, seconds, said):
        """A time has the unit in which people say it, and no decimals that say nothing."""
        rule = Rule(text="", met="n", detail="{n:s}, {ms:ms}")
        assert rule.judge({"n": seconds, "ms": 1000 * seconds}).detail.replace(
            "\N{NO-BREAK SPACE}", " "
        ) == (f"{said}, {said}")

    def test_minus(self):
        """What is less than 0 has a minus sign, not a hyphen."""
        assert (
            Rule(text="", met="n", detail="{n}, {n:.1f}").judge({"n": -41}).detail == "−41, −41.0"
        )

    @pytest.mark.parametrize(
        ("number", "said"),
        [(0, "0 jobs are"), (1, "1 job is"), (1.4, "1 job is"), (2000, "2,000 jobs are")],
    )
    def test_plurals(self, number, said):
        """A word goes with the number that is shown before it."""
        rule = Rule(text="", met="n", detail="{n:job|jobs} {n:~is|are}")
        assert rule.judge({"n": number}).detail == said


class TestFinding:
    def test_first_that_applies(self):
        """A table is read from the top; without a condition a finding always applies."""
        findings = [Finding("{lost} lost", "lost"), Finding("all there")]
        said = [
            next(one for one in findings if one.applies(n)).say(n)
            for n in ({"lost": 3}, {"lost": 0})
        ]
        assert said == ["3 lost", "all there"]


def results(*numbers, met=1):
    return [
        SimpleNamespace(name=f"v{place}", numbers={"bad": number, "met": met}, lacking="")
        for place, number in enumerate(numbers)
    ]


class TestContrast:
    NONE = Contrast(text="{first} {other}", number="bad", met="met", title="Bad: {each}")
    FIFTH = Contrast(text="{first} {other}", number="bad", met="met", title="", times=5)

    @pytest.mark.parametrize(
        ("first", "other", "none", "fifth"),
        [
            (40, 0, "holds", "holds"),
            (40, 8, "broken", "holds"),
            (40, 9, "broken", "broken"),
            (0, 0, "broken", "broken"),
            (0, 40, "broken", "broken"),
            (40, math.nan, "not exercised", "not exercised"),
            (math.nan, 0, "not exercised", "not exercised"),
        ],
    )
    def test_status(self, first, other, none, fifth):
        """The first must have some, and the other none or so many times less."""
        found = [
            contrast.compare(results(first, other))[1][0].status
            for contrast in (self.NONE, self.FIFTH)
        ]
        assert found == [none, fifth]

    def test_both_must_have_met_it(self):
        """If the fault missed one of the two, there is nothing to compare."""
        for first, second in [(0, 1), (1, 0), (0, 0)]:
            pair = results(40, met=first) + results(0, met=second)
            assert self.NONE.compare(pair)[1][0].status == "not exercised"

    def test_titles(self):
        """Each with its number, in one line; or the first against the worst of the others."""
        runs = results(1200, 3, 7)
        parts = [f"v0{FIXED}1,200", f"v1{FIXED}3", f"v2{FIXED}7"]
        assert self.NONE.compare(runs)[0] == f"Bad: {', '.join(parts)}"
        title = "{worst} with {first}, {most} with {rest}; {each}"
        against = Contrast(text="", number="bad", met="met", title=title, each="{bad:.1f}")
        assert against.compare(runs)[0] == "1,200 with v0, 7 with the other 2; 1200.0, 3.0, 7.0"
        assert against.compare(runs[:2])[0].startswith("1,200 with v0, 3 with v1;")

    def test_a_comma_in_a_name(self):
        """It is none between two runs."""
        runs = results(1200, 3)
        runs[1].name = "v1, AOF always"
        assert self.NONE.compare(runs)[0] == f"Bad: v0{FIXED}1,200; v1, AOF always{FIXED}3"

    def test_texts_and_evidence(self):
        """A claim for each but the first; the numbers stand beside it, not in it."""
        _, claims = self.NONE.compare(results(1200, 3, 0))
        assert [claim.text for claim in claims] == ["v0 v1", "v0 v2"]
        assert claims[0].detail == "3 against 1,200"
