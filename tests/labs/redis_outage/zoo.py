"""Wrong answers to the exercises of lab 13, and what each must be refused for."""

from contextlib import suppress

from redis.exceptions import (
    ConnectionError,
    OutOfMemoryError,
    RedisError,
    TimeoutError,
    WatchError,
)

from labsupport.labs.redis_outage.exercises import take_lock_solution
from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

DAY = 86_400


# 13.1: a visit counts once


@wrong("13.1", situation="One call after the other", because="2; 1 is due", sequential=True)
def note_after_all(redis, page, visit):
    redis.set(f"visit:{page}:{visit}", 1, nx=True, ex=DAY)
    return redis.incr(f"visits:{page}")


@wrong("13.1", situation="One call after the other", because="has no time to live", sequential=True)
def set_of_all_visits(redis, page, visit):
    script = """
    if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then return redis.call('INCR', KEYS[1]) end
    return tonumber(redis.call('GET', KEYS[1]))
    """
    return redis.eval(script, 2, f"visits:{page}", f"seen:{page}", visit)


@wrong("13.1", situation="One call after the other", because="is due", sequential=True)
def one_note_for_all_pages(redis, page, visit):
    script = """
    if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 86400) then return redis.call('INCR', KEYS[1]) end
    return tonumber(redis.call('GET', KEYS[1]) or 0)
    """
    return redis.eval(script, 2, f"visits:{page}", f"visit:{visit}")


@wrong("13.1", situation="One call after the other", because="is due", sequential=True)
def page_and_visit_run_together(redis, page, visit):
    script = """
    if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 86400) then return redis.call('INCR', KEYS[1]) end
    return tonumber(redis.call('GET', KEYS[1]) or 0)
    """
    return redis.eval(script, 2, f"visits:{page}", f"visit:{page}{visit}")


@wrong("13.1", situation="Several clients at once", because="No order of the calls gives that")
def note_then_count(redis, page, visit):
    if redis.set(f"visit:{page}:{visit}", 1, nx=True, ex=DAY):
        return redis.incr(f"visits:{page}")
    return int(redis.get(f"visits:{page}") or 0)


@wrong("13.1", situation="Several clients at once", because="No order of the calls gives that")
def look_then_both_in_multi(redis, page, visit):
    if redis.exists(f"visit:{page}:{visit}"):
        return int(redis.get(f"visits:{page}"))
    both = redis.pipeline(transaction=True).incr(f"visits:{page}")
    return both.set(f"visit:{page}:{visit}", 1, ex=DAY).execute()[0]


@wrong("13.1", situation="Several clients at once", because="No order of the calls gives that")
def count_then_take_back(redis, page, visit):
    number = redis.incr(f"visits:{page}")
    if not redis.set(f"visit:{page}:{visit}", 1, nx=True, ex=DAY):
        number = redis.decr(f"visits:{page}")
    return number


@wrong("13.1", because="has no time to live")
def ttl_in_a_second_step(redis, page, visit):
    script = """
    if redis.call('SETNX', KEYS[2], 1) == 1 then return redis.call('INCR', KEYS[1]) end
    return tonumber(redis.call('GET', KEYS[1]))
    """
    number = redis.eval(script, 2, f"visits:{page}", f"visit:{page}:{visit}")
    redis.expire(f"visit:{page}:{visit}", DAY)
    return number


# 13.2: a lock that can be asked for twice


@wrong("13.2", situation="One call after the other", because="True; False is due", sequential=True)
def whoever_asks_holds(redis, name, token, ms):
    return redis.set(f"lock:{name}", token, px=ms)


@wrong("13.2", situation="One call after the other", because="lives", sequential=True)
def with_the_time_that_it_had(redis, name, token, ms):
    return redis.set(f"lock:{name}", token, nx=True, px=ms, get=True) in (None, token)


@wrong("13.2", situation="Several clients at once", because="lives")
def renewed_in_a_second_step(redis, name, token, ms):
    before = redis.set(f"lock:{name}", token, nx=True, px=ms, get=True)
    if before == token:
        redis.pexpire(f"lock:{name}", ms)
    return before is None or before == token


@wrong("13.2", situation="A reply that is lost", because="False; True is due")
def released_before_it_is_taken(redis, name, token, ms):
    script = """
    if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 1 end
    return 0
    """
    if redis.eval(script, 1, f"lock:{name}", token, ms):
        return True
    return redis.set(f"lock:{name}", token, nx=True, px=ms) is not None


@wrong("13.2", situation="Several clients at once", because="No order of the calls gives that")
def look_then_take(redis, name, token, ms):
    if redis.get(f"lock:{name}") not in (None, token):
        return False
    redis.set(f"lock:{name}", token, px=ms)
    return True


@wrong("13.2", situation="Several clients at once", because="lives for 90 s; 20 s is due")
def time_in_a_second_step(redis, name, token, ms):
    script = """
    local holder = redis.call('GET', KEYS[1])
    if holder and holder ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1])
    return 1
    """
    taken = redis.eval(script, 1, f"lock:{name}", token) == 1
    if taken:
        redis.pexpire(f"lock:{name}", ms)
    return taken


# 13.3: a page that doesn't need Redis


def _page(errors, *, load_in_try=False, whole=False):
    def get_page(redis, key, load, kept):
        page = None
        try:
            page = redis.get(key)
            if page is None and load_in_try:
                page = load(key)
        except errors:
            pass
        try:
            kept[key] = load(key) if page is None else page
        except Exception:
            if key not in kept:
                raise
            return kept[key]
        if page is None:
            with suppress(errors):
                redis.set(key, kept[key], ex=60)
        return kept[key]

    return get_page


AWAY = (ConnectionError, TimeoutError)


@wrong("13.3", situation="Redis is there", because="'' is due", sequential=True)
def an_empty_page_is_no_page(redis, key, load, kept):
    return _page(AWAY)(_Without(redis), key, load, kept)


class _Without:
    """A client that takes an empty page for none."""

    def __init__(self, redis):
        self._redis = redis

    def __getattr__(self, name):
        return getattr(self._redis, name)

    def get(self, key):
        return self._redis.get(key) or None


@wrong("13.3", situation="A caller that crashes", because="stays for ever")
def end_in_a_second_step(redis, key, load, kept):
    class Slow(_Without):
        def get(self, key):
            return redis.get(key)

        def set(self, key, page, ex):
            redis.set(key, page)
            redis.expire(key, ex)

    return _page(AWAY, whole=True)(Slow(redis), key, load, kept)


@wrong("13.3", situation="Redis is stopped", because="TimeoutError")
def connection_errors_only(redis, key, load, kept):
    return _page(ConnectionError)(redis, key, load, kept)


@wrong("13.3", situation="Redis is busy", because="BUSY")
def no_busy_server(redis, key, load, kept):
    return _page(AWAY)(redis, key, load, kept)


@wrong("13.3", situation="A key of another type", because="a ResponseError", sequential=True)
def hides_bugs(redis, key, load, kept):
    return _page(RedisError)(redis, key, load, kept)


@wrong("13.3", situation="Redis is there", because="page:7 is None in Redis", sequential=True)
def caches_nothing_that_it_loads(redis, key, load, kept):
    try:
        return _page(AWAY, load_in_try=True)(redis, key, load, kept)
    except Exception:
        return _page(AWAY)(redis, key, load, kept)


@wrong("13.3", situation="Redis is full", because="OutOfMemoryError")
def full_is_forgotten(redis, key, load, kept):
    try:
        page = redis.get(key)
    except AWAY:
        page = None
    except RedisError as error:
        if not str(error).startswith("BUSY"):
            raise
        page = None
    fresh = page is None
    if fresh:
        try:
            page = load(key)
        except Exception:
            if key not in kept:
                raise
            return kept[key]
    kept[key] = page
    if fresh:
        try:
            redis.set(key, page, ex=60)
        except AWAY:
            pass
        except RedisError as error:
            if not str(error).startswith("BUSY"):
                raise
    return page


@wrong("13.3", situation="Redis is killed", because="'an old page'; 'page:7, load 1' is due")
def old_page_first(redis, key, load, kept):
    try:
        page = redis.get(key)
    except RedisError as error:
        if not isinstance(error, AWAY) and not str(error).startswith("BUSY"):
            raise
        return kept.get(key) or load(key)
    if page is None:
        return _page(AWAY)(redis, key, load, kept)
    kept[key] = page
    return page


@wrong("13.1", situation="One call after the other", because="3; 2 is due", sequential=True)
def a_set_that_ends_with_its_first_day(redis, page, visit):
    script = """
    if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
      redis.call('EXPIRE', KEYS[1], 86400, 'NX')
      return redis.call('INCR', KEYS[2])
    end
    return tonumber(redis.call('GET', KEYS[2]))
    """
    return redis.eval(script, 2, f"counted:{page}", f"visits:{page}", visit)


@wrong("13.2", situation="Several clients at once", because="No order of the calls gives that")
def refused_by_a_lock_that_has_just_ended(redis, name, token, ms):
    key = f"lock:{name}"
    if redis.set(key, token, nx=True, px=ms):
        return True
    renew = """
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
    """
    return redis.eval(renew, 1, key, token, ms) == 1


@wrong("13.1", because="A client that is overtaken at every step")
def gives_a_busy_page_up(redis, page, visit):
    mark, count = f"visit:{page}:{visit}", f"visits:{page}"
    with redis.pipeline() as pipe:
        for _ in range(5):
            with suppress(WatchError):
                pipe.watch(mark, count)
                known = pipe.exists(mark)
                number = int(pipe.get(count) or 0)
                if known:
                    return number
                pipe.multi()
                pipe.set(mark, 1, ex=86_400).incr(count)
                return pipe.execute()[1]
    return number


def _away(error):
    return isinstance(error, (*AWAY, OutOfMemoryError)) or str(error).startswith("BUSY ")


def _asked(command, *args, away=_away, **options):
    try:
        return command(*args, **options)
    except RedisError as error:
        if not away(error):
            raise


def _in_steps(redis, key, load, kept, *, read=None, make=None, write=None):
    """The solution, with a step that is put wrong."""
    page = _asked(read or redis.get, key)
    if page is None:
        try:
            page = (make or load)(key)
        except Exception:
            if key not in kept:
                raise
            return kept[key]
        _asked(write or redis.set, key, page, ex=60)
    kept[key] = page
    return page


@wrong(
    "13.3", situation="Redis is there", because="does not end when it would have", sequential=True
)
def each_reader_has_it_live_longer(redis, key, load, kept):
    return _in_steps(redis, key, load, kept, read=lambda key: redis.getex(key, ex=60))


@wrong("13.3", situation="Redis is there", because="lives 45 s; 60 s is due", sequential=True)
def ends_too_soon(redis, key, load, kept):
    return _in_steps(
        redis, key, load, kept, write=lambda key, page, ex: redis.set(key, page, ex=45)
    )


@wrong("13.3", situation="Redis is there", because="page:7 is None in Redis", sequential=True)
def caches_no_empty_page(redis, key, load, kept):
    def write(key, page, ex):
        if page:
            redis.set(key, page, ex=ex)

    return _in_steps(redis, key, load, kept, write=write)


@wrong("13.3", situation="Redis is there", because="DataError", sequential=True)
def takes_an_error_of_load_for_one_of_redis(redis, key, load, kept):
    return _in_steps(redis, key, load, kept, make=lambda key: _asked(load, key))


@wrong(
    "13.3", situation="Redis is there", because="a DatabaseAwayError that reaches", sequential=True
)
def any_page_is_better_than_none(redis, key, load, kept):
    try:
        return _in_steps(redis, key, load, kept)
    except Exception as error:
        if isinstance(error, RedisError) or not kept:
            raise
        return next(iter(kept.values()))


@wrong("13.3", situation="A user who may not write", because="a ResponseError that reaches")
def a_bug_is_a_key_of_another_type(redis, key, load, kept):
    def write(key, page, ex):
        with suppress(RedisError):
            redis.set(key, page, ex=ex)

    return _in_steps(redis, key, load, kept, write=write)


@wrong("13.3", situation="Redis comes back while load runs", because="the page was not cached")
def once_away_is_away(redis, key, load, kept):
    seen = []

    def read(key):
        page = redis.get(key)
        seen.append(key)
        return page

    def write(key, page, ex):
        if seen:
            redis.set(key, page, ex=ex)

    return _in_steps(redis, key, load, kept, read=read, write=write)


@wrong("13.3", situation="Redis has become a replica", because="ReadOnlyError")
def a_replica_is_forgotten(redis, key, load, kept):
    return _in_steps(redis, key, load, kept)


# what is alike, and yet not the same


def counted(redis, page, visit, note):
    script = """
    if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 86400) then return redis.call('INCR', KEYS[1]) end
    return tonumber(redis.call('GET', KEYS[1]))
    """
    return redis.eval(script, 2, f"visits:{page}", f"visit:{page}:{note}")


@wrong("13.1", situation="One call after the other", because="is due", sequential=True)
def capital_letters_or_not(redis, page, visit):
    return counted(redis, page, visit, visit.lower())


def locked(redis, name, token, ms, same="holder == ARGV[1]"):
    script = f"""
    local holder = redis.call('GET', KEYS[1])
    if holder and not ({same}) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
    """
    return redis.eval(script, 1, f"lock:{name}", token, ms) == 1


@wrong("13.2", situation="One call after the other", because="True; False is due", sequential=True)
def a_part_of_the_token_is_enough(redis, name, token, ms):
    return locked(redis, name, token, ms, "holder:find(ARGV[1], 1, true)")


@wrong("13.2", situation="One call after the other", because="True; False is due", sequential=True)
def the_beginning_of_the_token_is_enough(redis, name, token, ms):
    return locked(redis, name, token, ms, "holder:sub(1, #ARGV[1]) == ARGV[1]")


@wrong("13.2", situation="One call after the other", because="True; False is due", sequential=True)
def tokens_are_numbers(redis, name, token, ms):
    number = "(tonumber(holder) or holder) == (tonumber(ARGV[1]) or ARGV[1])"
    return locked(redis, name, token, ms, number)


@wrong("13.2", situation="One call after the other", because="True; False is due", sequential=True)
def tokens_in_capital_letters_or_not(redis, name, token, ms):
    return locked(redis, name, token, ms, "holder:lower() == ARGV[1]:lower()")


@wrong("13.2", situation="One call after the other", because="True; False is due", sequential=True)
def tokens_without_their_blanks(redis, name, token, ms):
    return locked(redis, name, token.strip(), ms)


@wrong("13.3", situation="Redis is there", because="is due", sequential=True)
def pages_without_their_blanks(redis, key, load, kept):
    return _in_steps(redis, key, lambda key: load(key).strip(), kept)


REMEMBER = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[1]) then return redis.call('INCR', KEYS[1]) end
return tonumber(redis.call('GET', KEYS[1]))
"""


@wrong("13.1", situation="One call after the other", because="2; 1 is due", sequential=True)
def remembers_for_half_a_day(redis, page, visit):
    return redis.eval(REMEMBER, 2, f"visits:{page}", f"visit:{page}:{visit}", DAY // 2)


@wrong("13.1", situation="One call after the other", because="604,800 s", sequential=True)
def remembers_for_a_week(redis, page, visit):
    return redis.eval(REMEMBER, 2, f"visits:{page}", f"visit:{page}:{visit}", 7 * DAY)


@wrong("13.1", situation="3,000 calls that differ, and the first again", because="is due")
def counts_by_hyperloglog(redis, page, visit):
    script = """
    local new = redis.call('PFADD', KEYS[2], ARGV[1])
    redis.call('EXPIRE', KEYS[2], 86400)
    return tonumber(new == 1 and redis.call('INCR', KEYS[1]) or redis.call('GET', KEYS[1]))
    """
    return redis.eval(script, 2, f"visits:{page}", f"seen:{page}", visit)


AWAY_ONCE = []


@wrong("13.3", because="'cached by another' is due")
def never_asks_again_once_it_was_away(redis, key, load, kept):
    def read(key):
        if AWAY_ONCE:
            return None
        try:
            return redis.get(key)
        except AWAY as error:
            AWAY_ONCE.append(error)
            raise

    return _in_steps(redis, key, load, kept, read=read)


@wrong("13.2", because="ada was given True; False is due", sequential=True)
def a_lock_without_a_ttl_is_free(redis, name, token, ms):
    script = """
    local held = redis.call('GET', KEYS[1])
    if held and held ~= ARGV[1] and redis.call('PTTL', KEYS[1]) ~= -1 then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
    """
    return redis.eval(script, 1, f"lock:{name}", token, ms) == 1


@wrong("13.3", situation="1,000 pages", because="of 1,000 pages, 100 are kept", sequential=True)
def keeps_a_hundred_pages(redis, key, load, kept):
    page = _in_steps(redis, key, load, kept)
    if len(kept) > 100:
        del kept[next(iter(kept))]
    return page


ONCE = """
if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 86400) then return redis.call('INCR', KEYS[1]) end
return tonumber(redis.call('GET', KEYS[1]))
"""
MINE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if not holder then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
"""


@wrong("13.1", because="ada was given 1; 2 is due", sequential=True)
def knows_the_beginning_of_a_visit(redis, page, visit):
    return redis.eval(ONCE, 2, f"visits:{page}", f"visit:{page}:{visit[:16]}")


@wrong("13.1", because="call 3,001 was given 3001; 3,000 is due", sequential=True)
def remembers_a_thousand_visits(redis, page, visit):
    script = """
    if not redis.call('LPOS', KEYS[2], ARGV[1]) then
      redis.call('INCR', KEYS[1])
      redis.call('LPUSH', KEYS[2], ARGV[1])
      redis.call('LTRIM', KEYS[2], 0, 999)
    end
    redis.call('EXPIRE', KEYS[2], 86400)
    return tonumber(redis.call('GET', KEYS[1]))
    """
    return redis.eval(script, 2, f"visits:{page}", f"seen:{page}", visit)


@wrong("13.2", because="has no time to live; 90 s is due", sequential=True)
def prolongs_what_has_a_ttl(redis, name, token, ms):
    script = f"{MINE} redis.call('PEXPIRE', KEYS[1], ARGV[2], 'XX') return 1"
    return redis.eval(script, 1, f"lock:{name}", token, ms) == 1


@wrong("13.2", because="ada was given False; True is due", sequential=True)
def locks_without_their_blanks(redis, name, token, ms):
    script = f"{MINE} redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 1"
    return redis.eval(script, 1, f"lock:{name.strip()}", token, ms) == 1


@wrong("13.3", situation="Redis is there", because="lives 61 s; 60 s is due", sequential=True)
def ends_a_second_too_late(redis, key, load, kept):
    return _in_steps(
        redis, key, load, kept, write=lambda key, page, ex: redis.set(key, page, ex=61)
    )


@wrong("13.2", because="ada was given False; True is due", sequential=True)
def lock_names_of_32_characters(redis, name, token, ms):
    return take_lock_solution(redis, name[:32], token, ms)


@wrong("13.2", because="lives for 3,600 s; 900,000 s is due", sequential=True)
def locks_for_an_hour_at_the_most(redis, name, token, ms):
    return take_lock_solution(redis, name, token, min(ms, 3_600_000))
