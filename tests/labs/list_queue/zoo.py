"""Wrong answers to the exercises of lab 10, and why each is refused."""

import time
from contextlib import suppress

from redis.exceptions import ConnectionError, ResponseError, WatchError

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

# 10.1


def take(redis, mine, source="jobs"):
    job = redis.lindex(mine, -1)
    return redis.lmove(source, mine, "RIGHT", "LEFT") if job is None else job


@wrong(
    "10.1",
    situation="A client that crashes",
    because="jobs and jobs:{me} holds []; ['a'] is due",
)
def done_before_it_is_done(redis, me, handle):
    mine = f"jobs:{me}"
    job = take(redis, mine)
    if job is not None and redis.lrem(mine, 1, job):
        try:
            handle(job)
        except Exception:
            redis.lpush(mine, job)
            raise
    return job


@wrong(
    "10.1",
    situation="A client that crashes",
    because="jobs and jobs:{me} holds []; ['a'] is due",
)
def two_steps_to_safety(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1)
    if job is None:
        job = redis.rpop("jobs")
        if job is None:
            return None
        redis.lpush(mine, job)
    handle(job)
    redis.lrem(mine, 1, job)
    return job


@wrong(
    "10.1",
    situation="One call after the other",
    because="ada was given None; 'a' (str) is due",
    sequential=True,
)
def never_looks_back(redis, me, handle):
    job = redis.lmove("jobs", f"jobs:{me}", "RIGHT", "LEFT")
    if job is not None:
        handle(job)
        redis.lrem(f"jobs:{me}", 1, job)
    return job


@wrong(
    "10.1",
    situation="Several clients at once",
    because="ada was given 'a' and bob was given 'a'. No order of the calls",
)
def looks_then_removes(redis, me, handle):
    mine = f"jobs:{me}"
    for name in (mine, "jobs"):
        job = redis.lindex(name, -1)
        if job is not None:
            handle(job)
            redis.lrem(name, -1, job)
            return job
    return None


@wrong(
    "10.1",
    situation="Several clients at once",
    because="ada was given 'a' and bob was given 'a'. No order of the calls",
)
def one_list_for_all(redis, me, handle):
    job = take(redis, "jobs:ada")
    if job is not None:
        handle(job)
        redis.lrem("jobs:ada", 1, job)
    return job


@wrong(
    "10.1",
    situation="One call after the other",
    because="ada was given None; a PrinterAwayError that reaches the caller is due",
    sequential=True,
)
def swallows_the_error(redis, me, handle):
    mine = f"jobs:{me}"
    job = take(redis, mine)
    if job is not None:
        try:
            handle(job)
        except Exception:
            return None
        redis.lrem(mine, 1, job)
    return job


@wrong(
    "10.1",
    situation="One call after the other",
    because="'0' is due",
    sequential=True,
)
def the_newest_first(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1)
    if job is None:
        job = redis.lmove("jobs", mine, "LEFT", "LEFT")
    if job is not None:
        handle(job)
        redis.lrem(mine, 1, job)
    return job


@wrong(
    "10.1",
    situation="One call after the other",
    because="jobs and jobs:{me} holds []; ['a'] is due",
    sequential=True,
)
def removes_it_in_finally(redis, me, handle):
    mine = f"jobs:{me}"
    job = take(redis, mine)
    if job is not None:
        try:
            handle(job)
        finally:
            redis.lrem(mine, 1, job)
    return job


@wrong(
    "10.1",
    situation="One call after the other",
    because="'' (str) is due",
    sequential=True,
)
def skips_an_empty_job(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1) or redis.lmove("jobs", mine, "RIGHT", "LEFT")
    if job is not None:
        handle(job)
        redis.lrem(mine, 1, job)
    return job


# 10.2: but for the last two, all are right as long as one reaper works, undisturbed


def give_back(redis, job):
    if redis.hincrby("attempts", job, 1) < 3:
        redis.rpush("jobs", job)
    else:
        redis.rpush("dead", job)


def of_the_dead(redis):
    names = sorted(redis.smembers("workers"))
    return [f"jobs:{name}" for name in names if not redis.exists(f"lease:{name}")]


@wrong(
    "10.2",
    situation="Several clients at once",
    because="ada was given 1 and bob was given ['a']. No order of the calls",
)
def pops_then_pushes(redis):
    found = 0
    for mine in of_the_dead(redis):
        while (job := redis.lpop(mine)) is not None:
            give_back(redis, job)
            found += 1
    return found


@wrong(
    "10.2",
    situation="Several clients at once",
    because="ada was given 1 and bob was given 1. No order of the calls",
)
def pushes_then_pops(redis):
    found = 0
    for mine in of_the_dead(redis):
        for job in redis.lrange(mine, 0, -1):
            give_back(redis, job)
            redis.lrem(mine, 1, job)
            found += 1
    return found


@wrong(
    "10.2",
    situation="Several clients at once",
    because="ada was given 1 and bob was given 1. No order of the calls",
)
def all_in_one_transaction(redis):
    found = 0
    for mine in of_the_dead(redis):
        for job in redis.lrange(mine, 0, -1):
            again = int(redis.hget("attempts", job) or 0) + 1 < 3
            pipe = redis.pipeline().lrem(mine, 1, job).hincrby("attempts", job, 1)
            pipe.rpush("jobs" if again else "dead", job).execute()
            found += 1
    return found


@wrong(
    "10.2",
    situation="Several clients at once",
    because="ada was given 1 and bob was given ['a']. No order of the calls",
)
def counts_afterwards(redis):
    found = 0
    for mine in of_the_dead(redis):
        while (job := redis.lmove(mine, "jobs", "LEFT", "RIGHT")) is not None:
            found += 1
            if redis.hincrby("attempts", job, 1) >= 3:
                redis.pipeline().lrem("jobs", 1, job).rpush("dead", job).execute()
    return found


@wrong(
    "10.2",
    situation="Several clients at once",
    because="attempts holds {'a': '2'}; {'a': '1'} is due",
)
def counts_first(redis):
    found = 0
    for mine in of_the_dead(redis):
        for job in redis.lrange(mine, 0, -1):
            target = "jobs" if redis.hincrby("attempts", job, 1) < 3 else "dead"
            script = (
                "if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then "
                "redis.call('RPUSH', KEYS[2], ARGV[1]) return 1 end return 0"
            )
            found += redis.eval(script, 2, mine, target, job)
    return found


def scripted(most, test):
    script = f"""
    local found = 0
    for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
      local dead = {test}
      local job = dead and redis.call('LPOP', 'jobs:' .. name)
      while job do
        local again = redis.call('HINCRBY', KEYS[3], job, 1) < {most}
        redis.call('RPUSH', again and KEYS[1] or KEYS[4], job)
        found, job = found + 1, redis.call('LPOP', 'jobs:' .. name)
      end
    end
    return found
    """
    return lambda redis: redis.eval(script, 4, "jobs", "workers", "attempts", "dead")


@wrong(
    "10.2",
    situation="Several clients at once",
    because="['0'] is due",
)
def four_attempts(redis):
    return scripted(4, "redis.call('EXISTS', 'lease:' .. name) == 0")(redis)


@wrong(
    "10.2",
    situation="One call after the other",
    because="ada was given 1; 0 is due",
    sequential=True,
)
def takes_from_the_living(redis):
    return scripted(3, "true")(redis)


@wrong(
    "10.2",
    situation="Several clients at once",
    because="No order of the calls",
)
def looks_at_the_lease_before(redis):
    script = """
    local job = redis.call('LPOP', KEYS[1])
    if not job then return 0 end
    local again = redis.call('HINCRBY', KEYS[2], job, 1) < 3
    return redis.call('RPUSH', again and KEYS[3] or KEYS[4], job) and 1
    """
    found = 0
    for mine in of_the_dead(redis):
        while redis.eval(script, 4, mine, "attempts", "jobs", "dead"):
            found += 1
    return found


# 10.3


@wrong(
    "10.3",
    situation="A caller whose clock is 7,200 s ahead",
    because="ada was given 1; 0 is due",
)
def by_the_callers_clock(redis):
    script = """
    local due = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[1], 'BYSCORE')
    for _, job in ipairs(due) do
      redis.call('LPUSH', KEYS[2], job)
      redis.call('ZREM', KEYS[1], job)
    end
    return #due
    """
    return redis.eval(script, 2, "later", "jobs", int(time.time() * 1000))


def due_jobs(redis):
    seconds, micros = redis.time()
    return redis.zrange("later", "-inf", seconds * 1000 + micros // 1000, byscore=True)


@wrong(
    "10.3",
    situation="A client that crashes",
    because="later holds",
)
def removes_then_pushes(redis):
    moved = 0
    for job in due_jobs(redis):
        if redis.zrem("later", job):
            redis.lpush("jobs", job)
            moved += 1
    return moved


@wrong(
    "10.3",
    situation="Several clients at once",
    because="ada was given 2 and bob was given 1. No order of the calls",
)
def pushes_then_removes(redis):
    due = due_jobs(redis)
    for job in due:
        redis.lpush("jobs", job)
        redis.zrem("later", job)
    return len(due)


@wrong(
    "10.3",
    situation="Several clients at once",
    because="ada was given 2 and bob was given 1. No order of the calls",
)
def in_a_transaction(redis):
    due = due_jobs(redis)
    for job in due:
        redis.pipeline().lpush("jobs", job).zrem("later", job).execute()
    return len(due)


@wrong(
    "10.3",
    situation="Several clients at once",
    because="ada was given 2 and bob was given 2. No order of the calls",
)
def pushes_all_at_once(redis):
    due = due_jobs(redis)
    if due:
        redis.pipeline().lpush("jobs", *due).zrem("later", *due).execute()
    return len(due)


@wrong(
    "10.3",
    situation="One call after the other",
    because="ada was given 1; 0 is due",
    sequential=True,
)
def the_first_of_them(redis):
    moved = 0
    while popped := redis.zpopmin("later"):
        redis.lpush("jobs", popped[0][0])
        moved += 1
    return moved


@wrong(
    "10.3",
    situation="One call after the other",
    because="ada was given 0; 1 is due",
    sequential=True,
)
def in_seconds(redis):
    script = """
    local due = redis.call('ZRANGE', KEYS[1], '-inf', redis.call('TIME')[1], 'BYSCORE')
    for _, job in ipairs(due) do
      redis.call('LPUSH', KEYS[2], job)
      redis.call('ZREM', KEYS[1], job)
    end
    return #due
    """
    return redis.eval(script, 2, "later", "jobs")


RELEASE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', %s)
for _, job in ipairs(due) do
  redis.call('ZREM', KEYS[1], job)
  redis.call('LPUSH', KEYS[2], job)
end
return #due
"""


@wrong("10.3", situation="One call after the other", because="150 is due", sequential=True)
def a_hundred_and_no_more(redis):
    return redis.eval(RELEASE % "now, 'LIMIT', 0, 100", 2, "later", "jobs")


@wrong("10.3", situation="One call after the other", because="0; 1 is due", sequential=True)
def what_is_due_now_is_late(redis):
    return redis.eval(RELEASE % "'(' .. now", 2, "later", "jobs")


@wrong("10.3", situation="One call after the other", because="0; 1 is due", sequential=True)
def knows_whole_seconds_only(redis):
    return redis.eval(RELEASE % "time[1] * 1000", 2, "later", "jobs")


@wrong("10.2", because="10,000 jobs at once", sequential=True)
def moves_all_of_them_in_one_call(redis):
    script = """
    local moved = 0
    for _, name in ipairs(redis.call('SMEMBERS', 'workers')) do
      if redis.call('EXISTS', 'lease:' .. name) == 0 then
        local back, dead = {}, {}
        for _, job in ipairs(redis.call('LRANGE', 'jobs:' .. name, 0, -1)) do
          local again = redis.call('HINCRBY', 'attempts', job, 1) < 3
          table.insert(again and back or dead, job)
          moved = moved + 1
        end
        if #back > 0 then redis.call('RPUSH', 'jobs', unpack(back)) end
        if #dead > 0 then redis.call('RPUSH', 'dead', unpack(dead)) end
        redis.call('DEL', 'jobs:' .. name)
      end
    end
    return moved
    """
    return redis.eval(script, 0)


@wrong("10.2", because="ada was given 1; 0 is due", sequential=True)
def takes_a_lease_without_a_ttl_for_none(redis):
    script = """
    local moved = 0
    for _, name in ipairs(redis.call('SMEMBERS', 'workers')) do
      while redis.call('TTL', 'lease:' .. name) < 0 do
        local job = redis.call('LPOP', 'jobs:' .. name)
        if not job then break end
        local again = redis.call('HINCRBY', 'attempts', job, 1) < 3
        redis.call('RPUSH', again and 'jobs' or 'dead', job)
        moved = moved + 1
      end
    end
    return moved
    """
    return redis.eval(script, 0)


@wrong("10.3", because="10,000 jobs at once", sequential=True)
def pushes_all_of_them_in_one_call(redis):
    script = """
    local now = redis.call('TIME')
    local ms = now[1] * 1000 + math.floor(now[2] / 1000)
    local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', ms), 'BYSCORE')
    if #due == 0 then return 0 end
    redis.call('ZREM', KEYS[1], unpack(due))
    redis.call('LPUSH', KEYS[2], unpack(due))
    return #due
    """
    return redis.eval(script, 2, "later", "jobs")


@wrong("10.3", situation="A client that is overtaken at every step", because="was given 0")
def gives_up_among_planners(redis):
    """Who plans something for later touches what is watched."""
    for _ in range(5):
        with redis.pipeline() as pipe, suppress(WatchError):
            pipe.watch("later")
            seconds, micros = pipe.time()
            due = pipe.zrange("later", "-inf", seconds * 1000 + micros // 1000, byscore=True)
            if due:
                pipe.multi()
                pipe.zrem("later", *due).lpush("jobs", *due).execute()
            return len(due)
    return 0


@wrong("10.1", because="was given None", sequential=True)
def takes_an_error_of_the_handler_for_its_own(redis, me, handle):
    """A handler that uses Redis may raise what a race would."""
    mine = f"jobs:{me}"
    with suppress(ResponseError, WatchError):
        job = take(redis, mine)
        if job is not None:
            handle(job)
            redis.lrem(mine, 1, job)
        return job
    return None


@wrong("10.2", because="is due")
def reads_attempts_unwatched(redis):
    """Two dead workers have the same job: both reapers read one attempt, and two are added."""
    found = 0
    for name in sorted(redis.smembers("workers")):
        while True:
            with redis.pipeline() as pipe, suppress(WatchError):
                pipe.watch(f"lease:{name}", f"jobs:{name}")
                job = pipe.lindex(f"jobs:{name}", 0)
                if job is None or pipe.exists(f"lease:{name}"):
                    break
                last = int(pipe.hget("attempts", job) or 0) >= 2
                pipe.multi()
                pipe.hincrby("attempts", job, 1)
                pipe.lmove(f"jobs:{name}", "dead" if last else "jobs", "LEFT", "RIGHT").execute()
                found += 1
    return found


@wrong(
    "10.1",
    situation="One call after the other",
    because="holds ['b', 'c']; ['a', 'c'] is due",
    sequential=True,
)
def removes_another_job_than_it_has_handled(redis, me, handle):
    """Two that were killed have left a job each."""
    mine = f"jobs:{me}"
    job = redis.lindex(mine, 0)
    if job is None:
        job = redis.lmove("jobs", mine, "RIGHT", "LEFT")
    if job is not None:
        handle(job)
        redis.rpop(mine)
    return job


def work(redis, mine, handle):
    job = take(redis, mine)
    if job is not None:
        handle(job)
        redis.lrem(mine, -1, job)
    return job


@wrong(
    "10.1",
    situation="One call after the other",
    because="Ada B was given None; 'a' (str) is due",
    sequential=True,
)
def knows_names_in_small_letters(redis, me, handle):
    return work(redis, f"jobs:{me.lower()}", handle)


@wrong(
    "10.1",
    situation="One call after the other",
    because="ada was given 'a'; ' a\\n' is due",
    sequential=True,
)
def returns_it_without_its_blanks(redis, me, handle):
    job = work(redis, f"jobs:{me}", handle)
    return job and job.strip()


@wrong(
    "10.1",
    situation="One call after the other",
    because="the list of what was handled holds ['a']; [' a\\n'] is due",
    sequential=True,
)
def handles_it_without_its_blanks(redis, me, handle):
    return work(redis, f"jobs:{me}", lambda job: handle(job.strip()))


@wrong(
    "10.1",
    situation="One call after the other",
    because="for ever. The contract: “return it, or None when there is none”",
    sequential=True,
)
def waits_for_a_job_for_ever(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1)
    if job is None:
        job = redis.blmove("jobs", mine, 0, "RIGHT", "LEFT")
    handle(job)
    redis.rpop(mine)
    return job


REAP = """
local moved = 0
for _, name in ipairs(redis.call('SMEMBERS', 'workers')) do
  while redis.call('EXISTS', 'lease:' .. name) == 0 do
    local job = redis.call('LPOP', 'jobs:' .. name)
    if not job then break end
    local over = redis.call('HINCRBY', 'attempts', %s, 1) %s 3
    redis.call('RPUSH', over and 'dead' or 'jobs', job)
    moved = moved + 1
  end
end
return moved
"""


@wrong(
    "10.2",
    situation="One call after the other",
    because="dead holds []; ['a'] is due",
    sequential=True,
)
def tries_again_after_a_fourth_attempt(redis):
    return redis.eval(REAP % ("job", "=="), 0)


@wrong(
    "10.2",
    situation="One call after the other",
    because="attempts holds {'7': '2'}; {'07': '1', '7': '1'} is due",
    sequential=True,
)
def counts_7_and_07_as_one_job(redis):
    return redis.eval(REAP % ("tonumber(job) or job", ">="), 0)


@wrong(
    "10.2",
    situation="One call after the other",
    because="attempts holds {'A': '1', 'a': '2'}",
    sequential=True,
)
def counts_a_job_without_its_blanks(redis):
    return redis.eval(REAP % ("string.match(job, '^%s*(.-)%s*$')", ">="), 0)


@wrong(
    "10.3",
    situation="One call after the other",
    because="jobs holds ['a', 'a']; [' a', 'a'] is due",
    sequential=True,
)
def moves_it_without_its_blanks(redis):
    script = RELEASE % "now"
    return redis.eval(
        script.replace("2], job", "2], string.match(job, '^%s*(.-)%s*$')"), 2, "later", "jobs"
    )


@wrong("10.1", because="a PrinterAwayError that reaches the caller is due", sequential=True)
def tries_it_twice(redis, me, handle):
    def twice(job):
        try:
            handle(job)
        except Exception:
            handle(job)

    return work(redis, f"jobs:{me}", twice)


DEAD_OR_BACK = """
local moved = 0
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
while true do
  local job = redis.call('RPOP', KEYS[1])
  if not job then return moved end
  if redis.call('HINCRBY', 'attempts', job, 1) < 3 then redis.call('RPUSH', 'jobs', job)
  else %s end
  moved = moved + 1
end
"""


def reaped(redis, dead):
    script = redis.register_script(DEAD_OR_BACK % dead)
    names = sorted(redis.smembers("workers"))
    return sum(script(keys=[f"jobs:{name}", f"lease:{name}"]) for name in names)


@wrong("10.2", because="dead holds", sequential=True)
def is_dead_once(redis):
    return reaped(redis, "redis.call('LREM', 'dead', 0, job) redis.call('LPUSH', 'dead', job)")


@wrong("10.2", because="dead holds", sequential=True)
def remembers_a_hundred_dead(redis):
    return reaped(redis, "redis.call('LPUSH', 'dead', job) redis.call('LTRIM', 'dead', 0, 99)")


@wrong("10.3", because="jobs holds ['q']; ['q', 'q'] is due", sequential=True)
def what_waits_already_is_not_put_again(redis):
    script = """
    local now = redis.call('TIME')
    local ms = now[1] * 1000 + math.floor(now[2] / 1000)
    local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', ms), 'BYSCORE')
    for _, job in ipairs(due) do
      redis.call('ZREM', KEYS[1], job)
      redis.call('LREM', KEYS[2], 0, job)
      redis.call('LPUSH', KEYS[2], job)
    end
    return #due
    """
    return redis.eval(script, 2, "later", "jobs")


@wrong("10.2", because="10,000 jobs at once", sequential=True)
def looks_at_some_workers(redis):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local jobs = redis.call('LRANGE', KEYS[2], 0, -1)
    redis.call('DEL', KEYS[2])
    for _, job in ipairs(jobs) do
      local again = redis.call('HINCRBY', KEYS[5], job, 1) < 3
      redis.call('RPUSH', again and KEYS[3] or KEYS[4], job)
    end
    return #jobs
    """
    names = redis.sscan("workers", count=100)[1]
    ends = "jobs", "dead", "attempts"
    return sum(redis.eval(script, 5, f"lease:{name}", f"jobs:{name}", *ends) for name in names)


@wrong("10.2", because="ada was given 0; 1 is due", sequential=True)
def takes_a_name_for_a_pattern(redis):
    script = """
    local found = 0
    for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
      local dead = #redis.call('KEYS', 'lease:' .. name) == 0
      local job = dead and redis.call('LPOP', 'jobs:' .. name)
      while job do
        local again = redis.call('HINCRBY', KEYS[3], job, 1) < 3
        redis.call('RPUSH', again and KEYS[1] or KEYS[4], job)
        found, job = found + 1, redis.call('LPOP', 'jobs:' .. name)
      end
    end
    return found
    """
    return redis.eval(script, 4, "jobs", "workers", "attempts", "dead")


@wrong("10.2", because="ada was given 2; 1 is due", sequential=True)
def takes_the_lists_that_match(redis):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local found, job = 0, redis.call('LPOP', KEYS[2])
    while job do
      local again = redis.call('HINCRBY', KEYS[5], job, 1) < 3
      redis.call('RPUSH', again and KEYS[3] or KEYS[4], job)
      found, job = found + 1, redis.call('LPOP', KEYS[2])
    end
    return found
    """
    ends = "jobs", "dead", "attempts"
    return sum(
        redis.eval(script, 5, f"lease:{name}", key, *ends)
        for name in redis.smembers("workers")
        for key in redis.keys(f"jobs:{name}")
    )


@wrong("10.1", because="a ConnectionError that reaches the caller is due", sequential=True)
def takes_a_lost_connection_for_its_own(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1)
    if job is None:
        job = redis.lmove("jobs", mine, "RIGHT", "LEFT")
    if job is not None:
        try:
            handle(job)
        except ConnectionError:
            return None
        redis.lrem(mine, -1, job)
    return job


@wrong("10.2", situation="A client that is overtaken at every step", because="one gives ada 1")
def leaves_a_worker_after_five_tries(redis):
    """Whoever puts a job into the list is in the way."""
    found = 0
    for name in redis.smembers("workers"):
        for _ in range(5):
            with redis.pipeline() as pipe, suppress(WatchError):
                pipe.watch(f"lease:{name}", f"jobs:{name}", "attempts", "jobs")
                jobs = pipe.lrange(f"jobs:{name}", 0, -1)
                if pipe.exists(f"lease:{name}") or not jobs:
                    break
                before = {job: int(pipe.hget("attempts", job) or 0) for job in jobs}
                pipe.multi()
                pipe.delete(f"jobs:{name}")
                for job in jobs:
                    before[job] += 1
                    pipe.hincrby("attempts", job, 1)
                    pipe.rpush("jobs" if before[job] < 3 else "dead", job)
                pipe.execute()
                found += len(jobs)
                break
    return found


@wrong("10.1", because="a PrinterAwayError that reaches the caller is due", sequential=True)
def swallows_a_value_error(redis, me, handle):
    with suppress(ValueError):
        return work(redis, f"jobs:{me}", handle)


@wrong("10.2", because="ada was given 1; 0 is due", sequential=True)
def knows_who_is_about_to_die(redis):
    """A lease may still be renewed in its last half second."""
    script = """
    local found, left = 0, redis.call('PTTL', KEYS[1])
    local job = (left == -2 or (0 <= left and left < 500)) and redis.call('LPOP', KEYS[2])
    while job do
      local again = redis.call('HINCRBY', KEYS[5], job, 1) < 3
      redis.call('RPUSH', again and KEYS[3] or KEYS[4], job)
      found, job = found + 1, redis.call('LPOP', KEYS[2])
    end
    return found
    """
    ends = "jobs", "dead", "attempts"
    names = redis.smembers("workers")
    return sum(redis.eval(script, 5, f"lease:{name}", f"jobs:{name}", *ends) for name in names)


@wrong("10.3", because="ada was given 2; 1 is due", sequential=True)
def a_millisecond_too_early(redis):
    return redis.eval(RELEASE % "now + 1", 2, "later", "jobs")
