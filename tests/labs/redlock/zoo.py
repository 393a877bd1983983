"""Wrong answers to the exercises of lab 08, and what each must be refused for."""

import secrets
import time
from contextlib import suppress

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

FREE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
STOCK = "SELECT stock FROM products WHERE id = 1"
CLAIM = "UPDATE products SET claimed_by = :token WHERE id = 1"
WRITE = "UPDATE products SET stock = :new WHERE id = 1"


@wrong("08.1", situation="One call after the other", because="node1:lock:kettle holds")
def votes_that_come_too_late_stay():
    def acquire(nodes, key, ttl):
        token, start = secrets.token_urlsafe(), time.monotonic()
        votes = sum(bool(vote(node, key, token, ttl)) for node in nodes)
        if votes <= len(nodes) // 2:
            give_back(nodes, key, token)
            return None
        validity = validity_left(ttl, start)
        return (token, validity) if validity > 0 else None

    return acquire, give_back


# 08.1: a Redlock with one part replaced by a wrong one


def vote(node, key, token, ttl):
    return node.set(key, token, nx=True, px=int(ttl * 1000))


def give_back(nodes, key, token):
    for node in nodes:
        node.eval(FREE, 1, key, token)


def validity_left(ttl, start):
    return ttl - (time.monotonic() - start) - 0.01 * ttl - 0.002


def redlock(
    *,
    vote=vote,
    quorum=lambda count: count // 2 + 1,
    left=validity_left,
    release=give_back,
    clean=give_back,
    token=secrets.token_urlsafe,
):
    def acquire(nodes, key, ttl):
        mine, start = token(), time.monotonic()
        votes = sum(bool(vote(node, key, mine, ttl)) for node in nodes)
        validity = left(ttl, start)
        if votes >= quorum(len(nodes)) and validity > 0:
            return mine, validity
        clean(nodes, key, mine)
        return None

    return acquire, release


@wrong(
    "08.1", situation="One call after the other", because="(tuple); None is due", sequential=True
)
def half_is_a_majority():
    return redlock(quorum=lambda count: (count + 1) // 2)


@wrong(
    "08.1", situation="One call after the other", because="(tuple); None is due", sequential=True
)
def one_vote_less_than_half():
    return redlock(quorum=lambda count: count // 2)


@wrong("08.1", situation="One call after the other", because="nothing is due", sequential=True)
def keeps_its_votes_when_it_loses():
    return redlock(clean=lambda nodes, key, token: None)


@wrong("08.1", situation="Votes given back too late", because="nobody frees the lock of another")
def frees_its_votes_whoever_has_them_now():
    def acquire(nodes, key, ttl):
        mine, start = secrets.token_urlsafe(), time.monotonic()
        votes = [node for node in nodes if vote(node, key, mine, ttl)]
        validity = validity_left(ttl, start)
        if 2 * len(votes) > len(nodes) and validity > 0:
            return mine, validity
        for node in votes:
            node.delete(key)
        return None

    return acquire, give_back


@wrong("08.1", situation="One call after the other", because="bob's", sequential=True)
def frees_all_votes_when_it_loses():
    return redlock(clean=lambda nodes, key, token: [node.delete(key) for node in nodes])


@wrong(
    "08.1",
    situation="One call after the other",
    because="9.898); (a new token 1, 6.898)",
    sequential=True,
)
def never_looks_at_the_clock():
    return redlock(left=lambda ttl, start: ttl - 0.01 * ttl - 0.002)


@wrong(
    "08.1",
    situation="One call after the other",
    because="10); (a new token 1, 9.898)",
    sequential=True,
)
def knows_no_drift():
    return redlock(left=lambda ttl, start: ttl - (time.monotonic() - start))


@wrong("08.1", situation="One call after the other", because="invalid expire time", sequential=True)
def knows_whole_seconds_only():
    _, release = redlock()

    def acquire(nodes, key, ttl):
        token, start = secrets.token_urlsafe(), time.monotonic()
        votes = [node.set(key, token, nx=True, ex=int(ttl)) for node in nodes]
        if sum(map(bool, votes)) > len(nodes) // 2 and validity_left(ttl, start) > 0:
            return token, validity_left(ttl, start)
        release(nodes, key, token)
        return None

    return acquire, release


@wrong(
    "08.1", situation="One call after the other", because="a new token 1 is due", sequential=True
)
def frees_without_a_look():
    return redlock(release=lambda nodes, key, token: [node.delete(key) for node in nodes])


@wrong("08.1", situation="One call after the other", because="nothing is due", sequential=True)
def frees_until_a_majority_is_free():
    def release(nodes, key, token):
        freed = 0
        for node in nodes:
            freed += node.eval(FREE, 1, key, token)
            if freed > len(nodes) // 2:
                return

    return redlock(release=release)


@wrong("08.1", situation="One call after the other", because="nothing is due", sequential=True)
def stops_at_the_first_node_that_is_not_its_own():
    def release(nodes, key, token):
        return all(node.eval(FREE, 1, key, token) for node in nodes)

    return redlock(release=release)


@wrong(
    "08.1",
    situation="A release that comes too late",
    because="his key is gone",
    schedule="GET PEXPIRE SET DEL",
)
def looks_and_then_frees():
    def release(nodes, key, token):
        for node in nodes:
            if node.get(key) == token:
                node.delete(key)

    return redlock(release=release)


@wrong("08.1", situation="A crash", because="has no TTL", schedule="SET crash:PEXPIRE")
def expires_it_afterwards():
    def vote(node, key, token, ttl):
        return node.set(key, token, nx=True) and node.pexpire(key, int(ttl * 1000))

    return redlock(vote=vote)


@wrong("08.1", situation="Two clients and 3 nodes", because="Both have the lock")
def looks_and_then_votes():
    def vote(node, key, token, ttl):
        return not node.exists(key) and node.set(key, token, px=int(ttl * 1000))

    return redlock(vote=vote)


@wrong("08.1", situation="One call after the other", because="is due", sequential=True)
def token_of_the_host():
    return redlock(token=lambda: "web-1")


@wrong("08.1", situation="One call after the other", because="nothing is due", sequential=True)
def frees_a_majority_only():
    return redlock(
        release=lambda nodes, key, token: give_back(nodes[: len(nodes) // 2 + 1], key, token)
    )


@wrong("08.1", situation="Another's lock on node 2 of 3", because="Asked twice for a vote: node2")
def asks_again_who_refused():
    script = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') and 1 or 0"

    def vote(node, key, token, ttl):
        return any(node.eval(script, 1, key, token, int(ttl * 1000)) for _ in "12")

    return redlock(vote=vote)


@wrong(
    "08.1",
    situation="Another's lock on nodes 1 and 3 of 3",
    because="Asked twice for a vote: node1",
)
def has_a_second_round():
    once, release = redlock()

    def acquire(nodes, key, ttl):
        return once(nodes, key, ttl) or once(nodes, key, ttl)

    return acquire, release


# 08.2: over real servers


def clients(urls, **options):
    once = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 0.05, "socket_connect_timeout": 0.05}
    return [redis.Redis.from_url(url, decode_responses=True, **(once | options)) for url in urls]


def lock_on(nodes, *, errors=redis.RedisError, quorum=None, everywhere=True, cleans=True, new=None):
    def take(key, ttl):
        token, votes, mine[:] = (new or secrets.token_urlsafe)(), 0, []
        start = time.monotonic()
        for node in nodes:
            with suppress(errors):
                if vote(node, key, token, ttl):
                    votes += 1
                    mine.append(node)
        if votes >= (quorum or len(nodes) // 2 + 1) and validity_left(ttl, start) > 0:
            return token
        if cleans:
            free(key, token)
        return None

    def free(key, token):
        for node in nodes if everywhere else mine:
            with suppress(errors):
                node.eval(FREE, 1, key, token)

    mine = []
    return take, free


HANG, DEAD = "Two of five servers hang", "Two of five servers dead"


@wrong("08.2", situation="Five servers", because="a majority is alive", sequential=True)
def never_gets_it(urls):
    return (lambda key, ttl: None), (lambda key, token: None)


@wrong("08.2", situation="Five servers", because="has another token", sequential=True)
def frees_whatever_is_there(urls):
    take, _ = lock_on(clients(urls))
    nodes = clients(urls)

    def free(key, token):
        for node in nodes:
            with suppress(redis.RedisError):
                node.delete(key)

    return take, free


@wrong("08.2", situation="Five servers", because="does not end when its ttl", sequential=True)
def has_no_ttl(urls):
    once, free = lock_on(clients(urls))

    def take(key, ttl):
        token = once(key, ttl)
        for node in clients(urls):
            with suppress(redis.RedisError):
                node.persist(key)
        return token

    return take, free


@wrong("08.2", situation="Five servers", because="does not end when its ttl", sequential=True)
def lives_for_five_seconds_more(urls):
    take, free = lock_on(clients(urls))
    return (lambda key, ttl: take(key, ttl + 5)), free


@wrong("08.2", situation="Five servers", because="does not end when its ttl", sequential=True)
def lives_for_a_tenth(urls):
    take, free = lock_on(clients(urls))
    return (lambda key, ttl: take(key, ttl / 10)), free


@wrong("08.2", situation=HANG, because="did not come back before its ttl")
def waits_for_ever(urls):
    return lock_on(clients(urls, socket_timeout=None))


@wrong("08.2", situation=HANG, because="did not come back before its ttl")
def waits_too_long(urls):
    return lock_on(clients(urls, socket_timeout=1.0))


@wrong("08.2", situation=HANG, because="did not come back before its ttl of 0.9 s")
def has_half_a_second_for_each(urls):
    return lock_on(clients(urls, socket_timeout=0.5))


@wrong("08.2", situation=HANG, because="did not come back before its ttl")
def tries_ten_times(urls):
    return lock_on(clients(urls, socket_timeout=0.2, retry=Retry(NoBackoff(), 10)))


@wrong("08.2", situation="A lock that another has", because="though the lock is not free")
def takes_what_another_has(urls):
    nodes = clients(urls)
    once, free = lock_on(nodes)

    def take(key, ttl):
        for node in nodes:
            with suppress(redis.RedisError):
                node.delete(key)
        return once(key, ttl)

    return take, free


@wrong(
    "08.2", situation=f"{HANG} for longer than the ttl", because="after its ttl of 0.01 s was over"
)
def does_not_look_at_the_time(urls):
    nodes = clients(urls)
    _, free = lock_on(nodes)

    def take(key, ttl):
        token, votes = secrets.token_urlsafe(), 0
        for node in nodes:
            with suppress(redis.RedisError):
                votes += bool(vote(node, key, token, ttl))
        if votes > len(nodes) // 2:
            return token
        free(key, token)
        return None

    return take, free


@wrong("08.2", situation=HANG, because="still has the lock")
def frees_where_it_was_told_yes(urls):
    return lock_on(clients(urls), everywhere=False)


@wrong("08.2", situation=HANG, because="returned None, though a majority is alive")
def needs_all_five(urls):
    return lock_on(clients(urls), quorum=5)


@wrong("08.2", situation=DEAD, because="ConnectionError was raised")
def knows_only_timeouts(urls):
    return lock_on(clients(urls), errors=redis.TimeoutError)


@wrong("08.2", situation="Three of five servers dead", because="though there is no majority")
def a_majority_of_those_who_answer(urls):
    return lock_on(clients(urls), quorum=2)


@wrong(
    "08.2",
    situation="Three of five servers dead from the start",
    because="though there is no majority",
)
def knows_those_that_were_there_at_the_start(urls):
    def there(node):
        with suppress(redis.RedisError):
            return node.ping()

    nodes = [node for node in clients(urls) if there(node)]
    return lock_on(nodes, quorum=len(nodes) // 2 + 1)


@wrong("08.2", situation="Three of five servers dead", because="still has the lock")
def keeps_the_votes_of_a_lost_election(urls):
    return lock_on(clients(urls), cleans=False)


ENDS = "The lock ends while it is freed"


@wrong("08.2", situation=ENDS, because="has another token")
def looks_and_deletes_the_next_one(urls):
    nodes = clients(urls)

    def free(key, token):
        for node in nodes:
            with suppress(redis.RedisError):
                if node.get(key) == token:
                    node.delete(key)

    return lock_on(nodes)[0], free


@wrong("08.2", situation=ENDS, because="has another token")
def looks_everywhere_and_lets_all_end(urls):
    nodes = clients(urls)

    def free(key, token):
        mine = []
        for node in nodes:
            with suppress(redis.RedisError):
                if node.get(key) != token:
                    continue
            mine.append(node)
        for node in mine:
            with suppress(redis.RedisError):
                node.pexpire(key, 0)

    return lock_on(nodes)[0], free


@wrong(
    "08.2",
    situation="The lock ends while a server loses a command",
    because="has another token",
)
def deletes_where_it_could_not_compare(urls):
    nodes = clients(urls)

    def free(key, token):
        for node in nodes:
            try:
                node.eval(FREE, 1, key, token)
            except redis.RedisError:
                with suppress(redis.RedisError):
                    node.delete(key)

    return lock_on(nodes)[0], free


# 08.3: all of them change the stock rightly when nobody else holds the lock


@wrong("08.3", situation="Several clients at once", because="stock holds '88'; '93' is due")
def claims_and_never_compares(db, token, compute):
    db.execute(CLAIM, token=token)
    stock = db.fetch_one(STOCK)["stock"]
    db.execute(WRITE, new=compute(stock))
    return True


@wrong("08.3", situation="One call after the other", because="False; True is due", sequential=True)
def nothing_to_change_in_an_empty_stock(db, token, compute):
    db.execute(CLAIM, token=token)
    stock = db.fetch_one(STOCK)["stock"]
    if not stock:
        return False
    return db.execute(f"{WRITE} AND claimed_by = :by", new=compute(stock), by=token) == 1


@wrong("08.3", situation="Several clients at once", because="stock holds '88'; '93' is due")
def reads_before_it_claims(db, token, compute):
    stock = db.fetch_one(STOCK)["stock"]
    db.execute(CLAIM, token=token)
    return db.execute(f"{WRITE} AND claimed_by = :by", new=compute(stock), by=token) == 1


@wrong("08.3", situation="Several clients at once", because="stock holds '88'; '93' is due")
def looks_at_its_claim_and_then_writes(db, token, compute):
    db.execute(CLAIM, token=token)
    stock = db.fetch_one(STOCK)["stock"]
    if db.fetch_one("SELECT claimed_by FROM products WHERE id = 1")["claimed_by"] != token:
        return False
    db.execute(WRITE, new=compute(stock))
    return True


@wrong("08.3", situation="Several clients at once", because="stock holds '94'; '93' is due")
def takes_random_tokens_for_an_order(db, token, compute):
    """A fence compares with >=; that takes numbers that grow."""
    db.execute(CLAIM, token=token)
    stock = db.fetch_one(STOCK)["stock"]
    return db.execute(f"{WRITE} AND claimed_by <= :by", new=compute(stock), by=token) == 1


@wrong("08.3", situation="Several clients at once", because="stock holds '94'; '93' is due")
def reports_what_was_refused(db, token, compute):
    db.execute(CLAIM, token=token)
    stock = db.fetch_one(STOCK)["stock"]
    db.execute(f"{WRITE} AND claimed_by = :by", new=compute(stock), by=token)
    return True


@wrong("08.3", situation="One call after the other", because="False; True is due", sequential=True)
def first_come_only_served(db, token, compute):
    db.execute(f"{CLAIM} AND claimed_by IS NULL", token=token)
    stock = db.fetch_one(STOCK)["stock"]
    return db.execute(f"{WRITE} AND claimed_by = :by", new=compute(stock), by=token) == 1


@wrong("08.3", situation="One call after the other", because="False; True is due", sequential=True)
def clears_its_claim_at_the_end(db, token, compute):
    db.execute(f"{CLAIM} AND claimed_by IS NULL", token=token)
    stock = db.fetch_one(STOCK)["stock"]
    update = "UPDATE products SET stock = :new, claimed_by = NULL WHERE id = 1 AND claimed_by = :by"
    return db.execute(update, new=compute(stock), by=token) == 1


@wrong(
    "08.1", situation="One call after the other", because="None; (a new token 1", sequential=True
)
def needs_every_vote():
    return redlock(quorum=lambda count: count)


@wrong("08.3", situation="One call after the other", because="False; True is due", sequential=True)
def takes_nothing_left_for_a_refusal(db, token, change):
    db.execute(CLAIM, token=token)
    new = change(db.fetch_one(STOCK)["stock"])
    update = f"{WRITE} AND claimed_by = :token"
    return bool(new) and db.execute(update, new=new, token=token) == 1


@wrong("08.3", situation="Several clients at once", because="is due")
def adds_the_difference(db, token, compute):
    """Right for what is sold, and not for what ends at 0."""
    stock = db.fetch_one(STOCK)["stock"]
    update = "UPDATE products SET stock = stock + :change WHERE id = 1"
    return db.execute(update, change=compute(stock) - stock) == 1


@wrong("08.3", situation="Several clients at once", because="is due")
def a_token_that_begins_like_it(db, token, compute):
    db.execute(CLAIM, token=f"{token}@7")
    stock = db.fetch_one(STOCK)["stock"]
    return db.execute(f"{WRITE} AND claimed_by LIKE :by", new=compute(stock), by=f"{token}%") == 1


def claimed_as(name, db, compute):
    """Right, but for the name that is left."""
    db.execute("UPDATE products SET claimed_by = :name WHERE id = 1", name=name)
    stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
    sql = "UPDATE products SET stock = :new WHERE id = 1 AND claimed_by = :name"
    return db.execute(sql, new=compute(stock), name=name) == 1


@wrong("08.3", situation="Several clients at once", because="stock holds '88'; '93' is due")
def leaves_small_letters(db, token, compute):
    return claimed_as(token.lower(), db, compute)


@wrong("08.3", situation="Several clients at once", because="stock holds '88'; '93' is due")
def leaves_the_beginning_of_the_token(db, token, compute):
    return claimed_as(token[:8], db, compute)


@wrong("08.3", situation="Several clients at once", because="stock holds")
def leaves_the_end_of_the_token(db, token, compute):
    return claimed_as(token[1:], db, compute)


@wrong("08.1", situation="Two clients and 3 nodes", because="keeps its majority")
def four_digits_for_a_token():
    return redlock(token=lambda: secrets.token_hex(2))


@wrong("08.2", situation="One of three servers dead", because="though a majority is alive")
def three_are_a_majority(urls):
    return lock_on(clients(urls), quorum=3)


@wrong("08.2", situation="Two of four servers dead", because="though there is no majority")
def half_of_the_servers_is_a_majority(urls):
    return lock_on(clients(urls), quorum=(len(urls) + 1) // 2)


@wrong("08.2", situation="Two of five servers hang until", because="TimeoutError was raised")
def frees_what_does_not_hang(urls):
    """A server that is dead is no error, and one that hangs is."""
    take, _ = lock_on(clients(urls))
    nodes = clients(urls)

    def free(key, token):
        for node in nodes:
            with suppress(redis.ConnectionError):
                give_back([node], key, token)

    return take, free


@wrong(
    "08.1", situation="One call after the other", because="(tuple); None is due", sequential=True
)
def three_votes_are_always_enough():
    return redlock(quorum=lambda count: min(3, count // 2 + 1))


@wrong("08.3", because="the new stock of product 2 holds", sequential=True)
def writes_into_every_row(db, token, compute):
    db.execute("UPDATE products SET claimed_by = :token", token=token)
    stock = db.fetch_one(STOCK)["stock"]
    sql = "UPDATE products SET stock = :new WHERE claimed_by = :token"
    return db.execute(sql, new=compute(stock), token=token) > 0


@wrong("08.2", situation="1,000 locks, one after the other", because="have the same token")
def one_token_for_all(urls):
    return lock_on(clients(urls), new=lambda: "mine")
