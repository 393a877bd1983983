"""Wrong answers to the exercises of lab 10, and why each is refused."""

import time

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

# 10.1


@wrong(
    "10.1",
    situation="A worker that may be killed",
    because="job-1 is never handled",
    schedule="LINDEX LMOVE LREM crash:RPUSH",
)
def done_before_it_is_done(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1) or redis.lmove("jobs", mine, "RIGHT", "LEFT")
    if job is not None and redis.lrem(mine, 1, job):
        try:
            handle(job)
        except Exception:
            redis.lpush(mine, job)
            raise
    return job


@wrong(
    "10.1",
    situation="A worker that may be killed",
    because="job-1 is never handled",
    schedule="LINDEX RPOP crash:LPUSH",
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
    situation="A worker that may be killed",
    because="job-1 is never handled",
)
def never_looks_back(redis, me, handle):
    job = redis.lmove("jobs", f"jobs:{me}", "RIGHT", "LEFT")
    if job is not None:
        handle(job)
        redis.lrem(f"jobs:{me}", 1, job)
    return job


@wrong("10.1", situation="Two workers at once", because="These were handled: job-1, job-1")
def looks_then_removes(redis, me, handle):
    job = redis.lindex("jobs", -1)
    if job is not None:
        handle(job)
        redis.lrem("jobs", -1, job)
    return job


@wrong("10.1", situation="Two workers at once", because="These were handled: job-1, job-1")
def one_list_for_all(redis, me, handle):
    job = redis.lindex("jobs:ada", -1) or redis.lmove("jobs", "jobs:ada", "RIGHT", "LEFT")
    if job is not None:
        handle(job)
        redis.lrem("jobs:ada", 1, job)
    return job


@wrong(
    "10.1",
    situation="A job that fails",
    because="The error did not reach the caller",
    sequential=True,
)
def swallows_the_error(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1) or redis.lmove("jobs", mine, "RIGHT", "LEFT")
    if job is not None:
        try:
            handle(job)
        except Exception:
            return None
        redis.lrem(mine, 1, job)
    return job


@wrong(
    "10.1",
    situation="Two jobs, one after the other",
    because="These were handled: job-2, job-1",
    sequential=True,
)
def the_newest_first(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1) or redis.lmove("jobs", mine, "LEFT", "LEFT")
    if job is not None:
        handle(job)
        redis.lrem(mine, 1, job)
    return job


@wrong(
    "10.1",
    situation="A job that fails",
    because="the lists hold nothing",
    sequential=True,
)
def removes_it_in_finally(redis, me, handle):
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1) or redis.lmove("jobs", mine, "RIGHT", "LEFT")
    if job is not None:
        try:
            handle(job)
        finally:
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
    situation="A first attempt, and a reaper that may be killed",
    because="job-1 is in no list(s)",
)
def pops_then_pushes(redis):
    found = 0
    for mine in of_the_dead(redis):
        while job := redis.lpop(mine):
            give_back(redis, job)
            found += 1
    return found


@wrong(
    "10.2",
    situation="A first attempt, and a reaper that may be killed",
    because="job-1 is in 2 list(s)",
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
    situation="A first attempt, and two reapers",
    because="jobs holds job-1, job-1",
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
    situation="A third attempt, and a reaper that may be killed",
    because="After one more reaper, dead holds nothing",
)
def counts_afterwards(redis):
    found = 0
    for mine in of_the_dead(redis):
        while job := redis.lmove(mine, "jobs", "LEFT", "RIGHT"):
            found += 1
            if redis.hincrby("attempts", job, 1) >= 3:
                redis.pipeline().lrem("jobs", 1, job).rpush("dead", job).execute()
    return found


@wrong(
    "10.2",
    situation="A first attempt, and two reapers",
    because="attempts says 2 for job-1, not 1",
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


@wrong("10.2", situation="A third attempt", because="jobs holds job-1", sequential=True)
def four_attempts(redis):
    return scripted(4, "redis.call('EXISTS', 'lease:' .. name) == 0")(redis)


@wrong("10.2", situation="A first attempt", because="who has a lease", sequential=True)
def takes_from_the_living(redis):
    return scripted(3, "true")(redis)


# 10.3


@wrong(
    "10.3",
    situation="A caller whose clock is fast",
    because="later holds nothing",
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
    situation="A caller that may be killed",
    because="is in 0 places",
    schedule="TIME ZRANGE ZREM crash:LPUSH",
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
    situation="A caller that may be killed",
    because="is in 2 places",
    schedule="TIME ZRANGE LPUSH crash:ZREM",
)
def pushes_then_removes(redis):
    due = due_jobs(redis)
    for job in due:
        redis.lpush("jobs", job)
        redis.zrem("later", job)
    return len(due)


@wrong("10.3", situation="Two callers at once", because="jobs holds due, due")
def in_a_transaction(redis):
    due = due_jobs(redis)
    for job in due:
        redis.pipeline().lpush("jobs", job).zrem("later", job).execute()
    return len(due)


@wrong("10.3", situation="Two callers at once", because="jobs holds due, due")
def pushes_all_at_once(redis):
    due = due_jobs(redis)
    if due:
        redis.pipeline().lpush("jobs", *due).zrem("later", *due).execute()
    return len(due)


@wrong(
    "10.3",
    situation="One job is due, another is not",
    because="later holds nothing",
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
    situation="One job is due, another is not",
    because="later holds due, in an hour",
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
