"""The experiment of lab 16: each part that is wrong breaks its own claim, and a fault left out tests none."""

import json
import threading
from contextlib import suppress

import pytest
from redis.exceptions import ResponseError, WatchError

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.labs.flash_sale import FlashSale, Leaders, table_of
from labsupport.labs.flash_sale.clients import DAN
from labsupport.labs.flash_sale.plan import FAULTS, plan_of
from labsupport.labs.flash_sale.shop import PARTS
from tests.labs.flash_sale.parts import FINAL, NAIVE, SHOWN

SIGNS = {"holds": "+", "broken": "x", "not exercised": "?"}
# sessions, catalogue, door, stock, replies, orders, mail, data
BREAKS = {
    "sessions": "x+++++++",
    "catalogue": "+x++++++",
    "door": "++x+++++",
    "stock": "+++xx+++",
    "orders": "+++++x++",
    "mail": "++++++x+",
    "data": "+++++x+x",  # the orders that waited are among what it forgets
}
UNTESTED = {
    "an eviction": "+?++++++",
    "a crowd at the door": "++?+++++",
    "a stopped process": "+++?++++",
    "a lost reply": "++++?+++",
    "a killed clerk": "?+++++++",
    "killed bookers": "+++++?++",
    "a mailer away": "++++++?+",
    "a restart": "+++++++?",
}


MOVED = {
    "customers": 160,
    "stock": 42,
    "seed": 7,
    "without": "an eviction",
    "pace_seconds": 0.05,
    "seconds": 2.0,
    "clients": 5,
    "processes": 2,
}


def run(shop, **knobs):
    settings = {"pace_seconds": 0.0, "customers": 120, "stock": 36, **knobs}
    return FlashSale(**settings).run(shop, live=False, name="shop")


def signs(result):
    return "".join(SIGNS[claim.status] for claim in result.verdict.claims)


class TestNaive:
    @pytest.mark.long
    @pytest.mark.parametrize("part", PARTS)
    def test_breaks_its_own_claim(self, part):
        """A shop that is final but for one part breaks that part's claims and no others."""
        shop = FINAL.but(**{part: getattr(NAIVE, part)})
        assert signs(run(shop)) == BREAKS[part]

    def test_all_break(self):
        found = run(NAIVE)
        assert signs(found) == "x" * 8
        assert found.numbers["held"] == 0
        assert found.figure.texts[0].get_text().startswith("8 of 8 claims are broken: ")
        assert not any(sign.isdigit() for sign in str(found.verdict))


class TestFinal:
    def test_all_hold(self):
        found = run(FINAL)
        assert signs(found) == "+" * 8
        assert found.numbers["sold"] == found.numbers["taken"] == 36
        assert found.numbers["trips_per_sale"] == 6

    @pytest.mark.long
    @pytest.mark.parametrize("fault", FAULTS)
    def test_without_a_fault(self, fault):
        """The claim of a fault that is left out is not exercised."""
        assert signs(run(FINAL, without=fault)) == UNTESTED[fault]

    @pytest.mark.long
    def test_a_kill_at_no_step(self):
        """A clerk that does not come to the step at which it is to be killed proves nothing."""

        def sign_in(redis, token, customer):
            if customer == DAN:
                threading.Event().wait()
            SHOWN.sign_in_whole(redis, token, customer)

        assert signs(run(FINAL.but(sessions=sign_in))) == UNTESTED["a killed clerk"]

    @pytest.mark.long
    def test_another_plan(self):
        assert signs(run(FINAL, seed=7, customers=200, stock=60, clients=5, processes=2)) == "+" * 8


class TestPanel:
    """Sliders, Run, Stop and Compare over the sale; `said` is what stands below the chart."""

    @pytest.fixture
    def panel(self, monkeypatch):
        panel = FlashSale(customers=120, stock=36).panel(naive=NAIVE, final=FINAL)
        panel.said = []
        monkeypatch.setattr(panel, "_say", panel.said.append)
        return panel

    @staticmethod
    def move(panel, **values):
        for name, value in values.items():
            panel._knobs[name].value = value
            assert panel._knobs[name].value == value, "beyond its slider"

    @pytest.mark.long
    def test_every_knob_counts_and_two_runs_compare(self, panel):
        assert list(panel._knobs) == list(MOVED)
        self.move(panel, **MOVED)
        for name in ("final", "naive"):
            panel._choice.value = name
            panel._run.click()
            panel._thread.join()
        assert list(panel.results) == ["naive", "final"]
        assert signs(panel.results["final"]) == UNTESTED["an eviction"]
        assert panel.results["final"].numbers["sold"] == 42
        assert panel._ran == FlashSale(**MOVED)
        panel._both.click()
        assert panel.said[-2] == "Drawing …"
        assert "naive breaks claims, final breaks none" in panel.said[-1]
        assert panel._place.alt.value.startswith("Claims broken: ")

    def test_stop_in_the_middle(self, panel, monkeypatch):
        drawn = threading.Event()
        put = panel._place.put
        monkeypatch.setattr(panel._place, "put", lambda picture: (put(picture), drawn.set()))
        self.move(panel, pace_seconds=0.25)
        panel._run.click()
        drawn.wait()
        panel._halt.click()
        panel._thread.join()
        assert panel.said[-1] == "Stopped."
        assert panel._place.alt.value == "naive was stopped."
        assert panel.results == {}
        assert panel._halt.disabled

    def test_too_large_a_stock_is_refused(self, panel):
        """Two sliders that do not go together: it says so, and Run stays."""
        self.move(panel, stock=90)
        panel._run.click()
        assert not panel.running
        assert "Make customers at least twice the stock." in panel.said[-1]
        assert not panel._run.disabled


@pytest.mark.long
class TestMutants:
    """A final part with one thing changed is seen to break."""

    def test_a_second_look_is_no_lock(self):
        def read(redis, key, load):
            if (page := redis.get(key)) is None and (page := redis.get(key)) is None:
                redis.set(key, page := load(), ex=60)
            return page

        assert signs(run(FINAL.but(catalogue=read))) == BREAKS["catalogue"]

    def test_a_limit_without_an_end(self):
        """INCR, then EXPIRE: nobody too many, but a killed clerk locks a customer out."""

        def admit(redis, customer):
            calls = redis.incr(f"calls:{customer}")
            redis.expire(f"calls:{customer}", 60)
            return calls <= 3

        assert signs(run(FINAL.but(door=admit))) == BREAKS["door"]

    def test_a_door_without_a_limit(self):
        shop = FINAL.but(door=lambda redis, customer: True)
        assert signs(run(shop, without="a crowd at the door")) == BREAKS["door"]

    def test_a_door_that_is_shut(self):
        assert signs(run(FINAL.but(door=lambda redis, customer: False)))[2:4] == "xx"

    def test_a_stock_that_watches(self):
        """WATCH, GET, MULTI: never too many, but a reply of EXEC that is lost costs a piece."""

        def reserve(redis, customer):
            with redis.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch("stock")
                        if int(pipe.get("stock")) < 1:
                            return False
                        pipe.multi()
                        pipe.decr("stock").execute()
                    except WatchError:
                        continue
                    return True

        assert signs(run(FINAL.but(stock=reserve))) == "++++x+++"

    def test_an_order_acknowledged_too_early(self):
        def work(redis, db, me, running):
            with suppress(ResponseError):
                redis.xgroup_create("orders", "bookers", id="0", mkstream=True)
            while running():
                new = redis.xreadgroup(
                    "bookers", me, {"orders": ">"}, count=1, block=50, noack=True
                )
                for _, fields in new[0][1] if new else []:
                    book(db, int(fields["customer"]))

        book = SHOWN.book  # what a worker is sent must not name this module
        assert signs(run(FINAL.but(orders=(SHOWN.place_in_stream, work)))) == BREAKS["orders"]

    def test_an_order_booked_twice(self):
        """Without a key of its own a row is written again by whoever takes the entry over."""

        def book_again(db, customer):
            db.execute(f"INSERT INTO orders {row}", user=customer)

        row = SHOWN.ROW
        names = {**vars(SHOWN), "book": book_again}
        work = type(SHOWN.work_in_group)(SHOWN.work_in_group.__code__, names, "work")
        found = run(FINAL.but(orders=(SHOWN.place_in_stream, work)))
        assert signs(found) == BREAKS["orders"]
        assert found.numbers["doubled"] > 0
        assert found.numbers["lost"] == 0

    def test_mail_from_now_on(self):
        def mail(redis, send, running):
            last = "$"
            while running():
                for _, entries in redis.xread({"mail": last}, block=50) or []:
                    for entry, fields in entries:
                        send(fields["customer"])
                        last = entry

        assert signs(run(FINAL.but(mail=(SHOWN.confirm_in_stream, mail)))) == BREAKS["mail"]


class TestShop:
    def test_wrong_parameters(self):
        with pytest.raises(InvalidSettingError, match="redis, customer"):
            FINAL.but(door=lambda redis: True)

    def test_one_function_of_two(self):
        with pytest.raises(InvalidSettingError, match="orders"):
            FINAL.but(orders=SHOWN.place)

    @pytest.mark.parametrize("data", ["yes", {"port": "6379"}])
    def test_other_settings(self, data):
        with pytest.raises(InvalidSettingError, match="appendonly"):
            FINAL.but(data=data)

    def test_a_setting_that_redis_refuses(self):
        with pytest.raises(InvalidSettingError, match="appendonly"):
            run(FINAL.but(data={"appendonly": "perhaps"}))

    def test_a_part_that_raises(self):
        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            run(FINAL.but(stock=lambda redis, customer: 1 / 0))

    def test_too_few_customers(self):
        with pytest.raises(InvalidSettingError, match="twice"):
            FlashSale(customers=60, stock=90)


def test_the_plan_is_the_same_for_all():
    """Everybody comes once, in one burst, and the seed decides the rest."""
    plan = plan_of(300, 90, 12, 16)
    assert plan == plan_of(300, 90, 12, 16) != plan_of(300, 90, 12, 17)
    everybody = [who for client in plan for burst in client for who, _ in burst]
    assert len(everybody) == len({*everybody}) == 300
    assert sum(len(client[0]) + len(client[1]) for client in plan) < 90


@pytest.fixture(scope="module")
def results():
    return run(NAIVE), run(FINAL)


class TestScore:
    @pytest.mark.long
    def test_table(self, results):
        found = table_of(*results)
        assert list(found["shop"]) == ["✓"] * 8 + ["8", "6"]  # of two of the same name the last

    @pytest.mark.parametrize(
        "text", [None, "", "{", "[1]", '{"ada": 7}', '{"ada": [7]}', '{"ada": ["x", 1]}']
    )
    def test_leaders(self, results, text, tmp_path, monkeypatch):
        """The best run of a name stays; a damaged file is an empty board."""
        monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / ".progress.json"))
        path = tmp_path / ".flash_sale.json"
        if text is not None:
            path.write_text(text)
        naive, final = results
        Leaders().enter(naive, "bob")
        Leaders().enter(final, "ada")
        Leaders().enter(naive, "ada")
        board = Leaders().board
        assert list(board["name"]) == ["ada", "bob"]
        assert list(board["claims held"]) == [8, 0]
        assert json.loads(path.read_text())["ada"] == [8, 6]

    def test_a_folder_that_cannot_be_written(self, results, tmp_path, monkeypatch):
        monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "nowhere" / ".progress.json"))
        assert list(Leaders().enter(results[1], "ada")["name"]) == ["ada"]
