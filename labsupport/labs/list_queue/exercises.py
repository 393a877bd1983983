"""The exercises of lab 10: a job in sight, three attempts, and jobs for later."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.list_queue.checks import reap_many, release_many
from labsupport.labs.list_queue.contracts import Reap, ReleaseDue, WorkOnce

__all__ = ["EXERCISES"]


def work_once_stub(redis, me, handle):
    """Handle the oldest job of the list jobs; return it, or None when there is none.

    Until it was handled, a job is always in jobs or in jobs:{me}; afterwards in neither. What
    killed workers of the same name have left in jobs:{me} comes first. An error in handle reaches
    the caller, and the job stays in a list. Jobs are put with LPUSH, and may be any text;
    several workers do this at once, no two with the same name.
    """
    job = redis.rpop("jobs")
    if job is not None:
        handle(job)
    return job


def work_once_solution(redis, me, handle):
    """Handle the oldest job of the list jobs; return it, or None when there is none."""
    mine = f"jobs:{me}"
    job = redis.lindex(mine, -1)
    if job is None:
        job = redis.lmove("jobs", mine, "RIGHT", "LEFT")
    if job is not None:
        handle(job)
        redis.lrem(mine, -1, job)
    return job


def reap_stub(redis):
    """Give back the jobs of dead workers; return how many this call has moved.

    A worker of the set workers is dead when there is no key lease:{name}. Each job of its list
    jobs:{name} gets one more in the hash attempts, and goes to the right end of jobs; at three
    attempts it goes to the list dead instead. Reapers may meet and may be killed, and a worker
    may come back meanwhile: each job is in exactly one list at any time, and counted once.
    Nothing else changes.
    """
    found = 0
    for name in sorted(redis.smembers("workers")):
        if not redis.exists(f"lease:{name}"):
            while job := redis.lpop(f"jobs:{name}"):
                redis.rpush("jobs", job)
                found += 1
    return found


def reap_solution(redis):
    """Give back the jobs of dead workers; return how many this call has moved."""
    script = """
    -- KEYS: jobs, workers, attempts, dead; returns how many jobs were given back or given up.
    local found = 0
    for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
      local dead = redis.call('EXISTS', 'lease:' .. name) == 0
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


def release_due_stub(redis):
    """Move what is due from the sorted set later to the left end of the list jobs; return how many.

    A score is the time in ms since 1970 at which a job is due, by the server's clock. Several
    processes do this, and may be killed: each job is in exactly one of the two at any time.
    """
    due = redis.zrange("later", 0, -1)
    for job in due:
        redis.zrem("later", job)
        redis.lpush("jobs", job)
    return len(due)


def release_due_solution(redis):
    """Move what is due from the sorted set later to the left end of the list jobs; return how many."""
    script = """
    -- KEYS: later, jobs; returns how many jobs were moved.
    local now = redis.call('TIME')
    local ms = now[1] * 1000 + math.floor(now[2] / 1000)
    local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%d', ms), 'BYSCORE')
    for _, job in ipairs(due) do
      redis.call('LPUSH', KEYS[2], job)
      redis.call('ZREM', KEYS[1], job)
    end
    return #due
    """
    return redis.eval(script, 2, "later", "jobs")


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="10.1",
        title="Never let a job out of sight",
        stub=work_once_stub,
        solution=work_once_solution,
        hints=(
            "Between `RPOP` and the end of `handle` the job is only in the memory of a process. Which "
            "command takes it out of one list and puts it into another at the same time?",
            "`redis.lmove('jobs', f'jobs:{me}', 'RIGHT', 'LEFT')`, then `handle`, then `LREM`, in that "
            "order. And before you take a new job, look into `jobs:{me}`.",
            "`job = redis.lindex(mine, -1)`; if that `is None`, `job = redis.lmove('jobs', mine, "
            "'RIGHT', 'LEFT')`; if it isn't None now: `handle(job)`, `redis.lrem(mine, -1, job)`.",
        ),
        check=judged_by(WorkOnce()),
    ),
    Exercise(
        number="10.2",
        title="Three attempts, and then no more",
        stub=reap_stub,
        solution=reap_solution,
        hints=(
            "What if the reaper is killed between the `LPOP` and the `RPUSH`? And who counts?",
            "A reaper that takes several steps can be overtaken or killed between them. A script takes "
            "all of them as one step: `HINCRBY` gives the number of attempts, which "
            "decides where the job goes.",
            "For each name of `SMEMBERS`: if `EXISTS lease:name` is 0, `LPOP` its list until it is empty; "
            "`HINCRBY attempts job 1`; below 3 `RPUSH` to jobs, else to dead. All in one `EVAL`.",
        ),
        check=judged_by(Reap(), also=reap_many),
    ),
    Exercise(
        number="10.3",
        title="Not before its time, and not twice",
        stub=release_due_stub,
        solution=release_due_solution,
        hints=(
            "Two things are missing: the time, and that two processes may do this at once, or be killed "
            "in the middle of it. Whose clock counts?",
            "In a script, `redis.call('TIME')` gives the server's seconds and microseconds. "
            "`ZRANGE key -inf now BYSCORE` finds what is due.",
            "`local now = redis.call('TIME')`, ms is `now[1] * 1000 + math.floor(now[2] / 1000)`; "
            "`ZRANGE … BYSCORE` up to it; for each job `LPUSH` and `ZREM`; return `#due`. One `EVAL`.",
        ),
        check=judged_by(ReleaseDue(), also=release_many),
    ),
)
