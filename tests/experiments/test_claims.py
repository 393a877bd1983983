"""Each claim of each experiment, with crafted numbers: it can hold, break, and say that it was idle."""

import math
import re
from collections import Counter, defaultdict

import pytest
from matplotlib.patches import Patch

from labsupport.charts import Chart
from labsupport.labs.cache_aside import ThunderingHerd
from labsupport.labs.cache_invalidation import StaleReads
from labsupport.labs.distributed_lock import LockRace
from labsupport.labs.list_queue import JobQueue
from labsupport.labs.pubsub import LostMessages
from labsupport.labs.redis_outage import Outage
from labsupport.labs.redlock import TwoHolders
from labsupport.labs.sessions import SessionLifetimes
from labsupport.labs.sliding_window import RateLimit
from labsupport.labs.start_here import LostUpdates
from labsupport.labs.token_bucket import BucketLimit
from labsupport.labs.write_behind import WriteBehindCrash
from labsupport.labs.write_through import WriteCost

PLURAL = re.compile(r"(?<!of )\b1 (?!(is|was|ms|comes|stays|waits|counts)\b)\w+s\b")

CRASH = {
    "acknowledged_before_the_kill": 400,
    "acknowledged": 600,
    "recovery_seen": 1,
    "persisted": 600,
}
LIMIT = {"most_asked": 40, "most_allowed": 20, "share_of_due": 1, "came_back": 1}
QUEUE = {
    "killed_with_a_job": 1,
    "killed_after": 1,
    "failed": 1,
    "poison_attempts": 3,
    "poison_given_up": 1,
}
LOCK = {"hit_a_holder": 1, "sold": 4, "free_again": 1} | {
    f"{fault}_met": 1 for fault in ("slow", "stopped", "kept", "killed")
}
# an experiment, the numbers of a run in which all its claims hold, and what breaks each one
CASES = {
    "LostUpdates": (
        LostUpdates(),
        {"at_the_same_time": 1},
        [{}, {"lost": 1}, {"without_own_number": 1}],
    ),
    "ThunderingHerd": (
        ThunderingHerd(clients=4),
        {
            "expiry_met": 1,
            "most_loads_at_once": 1,
            "clients_answered": 4,
            "answered_from_cache": 1,
            "loads_in_time": 1,
        },
        [{}, {"most_loads_at_once": 2}, {"never_answered": 1}, {"loads_in_vain": 9}],
    ),
    "WriteCost": (
        WriteCost(),
        {"all_written": 1, "all_followed": 1, "rows_nobody_reads": 1},
        [{"stuck": 1}, {"never_read_bytes": 1}],
    ),
    "WriteBehindCrash": (
        WriteBehindCrash(persistence="always"),
        CRASH,
        [{}, {"lost_by_the_kill": 1}, {"lost": 1}, {"counted_twice": 1}, {"went_back_by": 1}],
    ),
    "StaleReads": (
        StaleReads(),
        {"told_met": 1, "cut_met": 1, "ttl_met": 1},
        [{"not_told": 1}, {"late_after_cut": 1}, {"overdue_reads": 1}],
    ),
    "RateLimit": (
        RateLimit(),
        LIMIT,
        [{}, {"worst": 21}, {"share_of_due": 0.7}, {"sent_away_again": 1}],
    ),
    "BucketLimit": (
        BucketLimit(),
        LIMIT,
        [{}, {"worst": 21}, {"share_of_due": 0.7}, {"longest_wait_told_s": 60}],
    ),
    "LockRace": (
        LockRace(sell=print),
        LOCK,
        [
            {"slow_shared": 1},
            {"stopped_shared": 1},
            {"kept_shared": 1},
            {"free_again": 0},
            {"waiting_for_ever": 1},
            {"sold_twice": 1},
        ],
    ),
    "LockRace, chaos": (
        LockRace(sell=print, chaos=True),
        LOCK,
        [{"shared_holds": 1}, {"waiting_for_ever": 1}],
    ),
    "TwoHolders": (
        TwoHolders(),
        {"met": 1, "in_time": 1, "holders": 1, "sold": 1},
        [{"together": 1}, {"sold": 2}, {"holders": 0}],
    ),
    "LostMessages": (
        LostMessages(),
        {"over": 1} | {f"{who}_met": 1 for who in LostMessages.subscribers},
        [
            *({f"{who}_lost": 1} for who in LostMessages.subscribers),
            {"cut_lost": 1, "cut_error": 0},
            {"twice": 1},
        ],
    ),
    "JobQueue": (
        JobQueue(put=print, effect=print),
        QUEUE,
        [{"lost": 1}, {"stuck": 1}, {"ended": 1}, {"poison_attempts": 4}, {"counted_twice": 1}],
    ),
    "SessionLifetimes": (
        SessionLifetimes(),
        {"held_requests": 1, "logins": 1, "killed_logins": 1}
        | {f"asked_{kind}": 1 for kind in ("out", "idle", "old", "within")},
        [
            {"back_after_logout": 1},
            {"for_ever": 1},
            {"let_in_idle": 1},
            {"let_in_old": 1},
            {"turned_away": 1},
        ],
    ),
}
# where nothing is measured as something else than 0
NO_CALLS = {"most_allowed": 20, "share_of_due": math.nan}
EMPTY = {"RateLimit": NO_CALLS, "BucketLimit": NO_CALLS}
# what keeps a fault from its claim: experiment, number, and the places of the claims
DISARMED = [
    ("LostUpdates", "at_the_same_time", {0, 1, 2}),
    ("ThunderingHerd", "expiry_met", {0, 1, 3}),
    ("ThunderingHerd", "answered_from_cache", {3}),
    ("ThunderingHerd", "clients_answered", {2}),
    ("WriteCost", "all_followed", {0, 1}),
    ("WriteCost", "rows_nobody_reads", {1}),
    ("WriteBehindCrash", "acknowledged_before_the_kill", {0, 1, 2, 3, 4}),
    ("WriteBehindCrash", "recovery_seen", {1, 2}),
    ("StaleReads", "told_met", {0}),
    ("StaleReads", "cut_met", {1}),
    ("StaleReads", "ttl_met", {2}),
    ("RateLimit", "most_asked", {0, 1, 2}),
    ("BucketLimit", "came_back", {3}),
    ("LockRace", "slow_met", {0}),
    ("LockRace", "stopped_met", {1}),
    ("LockRace", "kept_met", {2}),
    ("LockRace", "killed_met", {3}),
    ("LockRace", "hit_a_holder", {4, 5}),
    ("LockRace", "sold", {5}),
    ("LockRace, chaos", "hit_a_holder", {0, 1}),
    ("TwoHolders", "met", {0, 1, 2}),
    ("TwoHolders", "sold", {1}),
    ("LostMessages", "over", {0, 1, 2, 3, 4, 5, 6}),
    ("LostMessages", "killed_met", {1, 6}),
    ("LostMessages", "cut_met", {2, 5}),
    ("LostMessages", "slow_met", {3, 5}),
    ("JobQueue", "killed_with_a_job", {0, 1}),
    ("JobQueue", "failed", {2}),
    ("JobQueue", "poison_attempts", {3}),
    ("JobQueue", "killed_after", {4}),
    ("SessionLifetimes", "held_requests", {0, 1}),
    ("SessionLifetimes", "killed_logins", {1}),
    ("SessionLifetimes", "asked_idle", {2}),
    ("SessionLifetimes", "asked_old", {3}),
    ("SessionLifetimes", "asked_within", {4}),
]


def statuses(experiment, numbers):
    return [claim.status for claim in experiment.judge(defaultdict(float, numbers))]


@pytest.mark.parametrize("name", CASES)
class TestEachClaim:
    def test_can_hold(self, name):
        """Where every fault hit and did no harm, all claims hold."""
        experiment, good, _ = CASES[name]
        assert set(statuses(experiment, good)) == {"holds"}

    def test_says_that_nothing_happened(self, name):
        """An empty run holds nothing and breaks nothing."""
        experiment, *_ = CASES[name]
        assert set(statuses(experiment, EMPTY.get(name, {}))) == {"not exercised"}

    def test_can_break(self, name):
        """Each claim has something that breaks it, but for those that only say that the fault hit."""
        experiment, good, faults = CASES[name]
        assert len(faults) == len(experiment.claims)
        for place, fault in enumerate(faults):
            found = statuses(experiment, good | fault)[place]
            assert found == ("broken" if fault else "holds"), (place, fault)
            if not fault:
                assert experiment.claims[place].broken is None

    def test_claims_about_the_end(self, name):
        """A run that was cut short says nothing of how it would have ended."""
        experiment, good, faults = CASES[name]
        for place, (rule, fault) in enumerate(zip(experiment.claims, faults, strict=True)):
            found = statuses(experiment, good | fault | {"cut_short": 1})
            assert (found[place] == "not exercised") == rule.final, fault

    def test_a_finding_for_each_run(self, name):
        """Whatever happened, the chart has a title, and says if it was cut short."""
        experiment, good, faults = CASES[name]
        for numbers in (good, {}, *(good | fault for fault in faults)):
            assert experiment.find(defaultdict(float, numbers))
        assert experiment.find(defaultdict(float, good, cut_short=1)).startswith("Cut short: ")


@pytest.mark.parametrize("name", CASES)
def test_one_is_not_several(name):
    """Where each number is 1, no evidence and no finding says "1 stops"."""
    experiment, _, faults = CASES[name]
    ones = defaultdict(lambda: 1.0, experiment._knobs())
    told = [claim.detail for claim in experiment.judge(ones)]
    told += [experiment.find(defaultdict(float, dict.fromkeys(fault, 1.0))) for fault in faults]
    assert [text for text in told if PLURAL.search(text)] == []


@pytest.mark.parametrize(("name", "number", "places"), DISARMED)
def test_a_fault_that_did_not_hit(name, number, places):
    """Without the fault a claim was not exercised, and no other claim is touched."""
    experiment, good, _ = CASES[name]
    found = statuses(experiment, good | {number: 0})
    assert {place for place, status in enumerate(found) if status == "not exercised"} == places
    assert "broken" not in found


def test_kill_minus_nine_spares_what_the_system_has():
    """With a sync every second nothing is proven by a kill that took nothing; a loss is a loss."""
    each_second = WriteBehindCrash(persistence="everysec")
    assert statuses(each_second, CRASH) == ["holds", *["not exercised"] * 2, "holds", "holds"]
    found = statuses(each_second, CRASH | {"lost_by_the_kill": 9, "lost": 9})
    assert found == ["holds", "broken", "broken", "holds", "holds"]


def test_nobody_got_the_lock():
    """Where nobody has the lock, nobody is alone with it, and nothing can be sold twice."""
    found = statuses(TwoHolders(down=3), {"met": 1, "in_time": 1})
    assert found == ["not exercised", "not exercised", "broken"]


def test_loads_that_outlast_the_ttl_refute_no_filling():
    """On a machine that is so slow, what was filled expires before anybody can read it."""
    numbers = Counter(
        {"expiry_met": 1, "answered_from_cache": 1, "loads_in_vain": 99, "clients": 4}
    )
    assert ThunderingHerd(clients=4).claims[3].judge(numbers).status == "not exercised"
    numbers["loads_in_time"] = 1
    assert ThunderingHerd(clients=4).claims[3].judge(numbers).status == "broken"


DOWN = {"all_struck": 1, "touched": 9, "back_in_use": 6}


@pytest.mark.parametrize(
    ("experiment", "numbers", "said"),
    [
        (Outage(), DOWN | {"knocks": 9, "due": 60, "served": 1}, "1 of 60 pages is served"),
        (Outage(), DOWN | {"knocks": 9, "due": 60}, "0 of 60 pages are served"),
        (Outage(), DOWN | {"due": 1}, "0 pages are served where 1 is due"),
        (Outage(), DOWN | {"due": 2, "served": 1}, "1 page is served where 2 are due"),
        (
            LockRace(sell=print),
            {"sold_twice": 1, "sold": 2, "left_the_stock": 1},
            "2 are sold, 1 leaves the stock",
        ),
        (LockRace(sell=print), {"sold": 1}, "1 is sold, and as many leave the stock"),
        (LockRace(sell=print), {"waiting_for_ever": 1}, "1 of 5 waits for ever"),
        (RateLimit(), LIMIT | {"share_of_due": 0, "admitted": 1, "due": 2}, "where 2 are due"),
        (RateLimit(), LIMIT | {"share_of_due": 0, "due": 1}, "0 calls get in where 1 is due"),
    ],
)
def test_one_is_no_plural(experiment, numbers, said):
    """The words beside 0, 1 and 2 are those that go with them."""
    assert experiment.find(defaultdict(int, numbers)).endswith(said)


@pytest.mark.parametrize(("poison", "said"), [(0, "0 poison jobs"), (1, "1 poison job")])
def test_poison_is_counted_in_jobs(poison, said):
    """Also where there is none."""
    assert JobQueue(put=print, effect=print, poison=poison).conditions.endswith(said)


@pytest.mark.parametrize("case", CASES)
def test_areas_of_a_plot_differ_in_greys(case):
    """No two areas of a plot have the same hatch: between them only the colour would tell."""
    plots = CASES[case][0].plots()
    Chart(plots, seconds=1, title="", subtitle="")
    for plot in plots:
        areas = [one.sign for one in plot.key_ahead() if isinstance(one.sign, Patch)]
        assert len({area.get_hatch() for area in areas}) == len(areas), plot.label
