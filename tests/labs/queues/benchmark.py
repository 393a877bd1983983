"""Queues of labs 10 and 11 beside the libraries: round trips, speed, and a worker killed with -9.

A library's worker runs in a process of its own with its defaults, one job at a time. Speeds are
medians of turns. arq is not among them: its current version asks for a redis-py below 6.
"""

import asyncio
import contextlib
import logging
import statistics
import sys
import time
import types
import warnings
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import ResponseError

from labsupport.servers import connect_client, start_server, with_database
from labsupport.workers import WorkerPool

JOBS, TURNS = 60, 3
REAP = """
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local gone = redis.call('EXISTS', 'lease:' .. name) == 0
  local job = gone and redis.call('LPOP', 'jobs:' .. name)
  while job do
    local again = redis.call('HINCRBY', KEYS[3], job, 1) < 3
    redis.call('RPUSH', again and KEYS[1] or KEYS[4], job)
    job = redis.call('LPOP', 'jobs:' .. name)
  end
end
"""


def binary(url):
    return Redis.from_url(url)


class List:
    def put(self, url, jobs):
        redis = connect_client(url)
        for job in jobs:
            redis.lpush("jobs", job)

    def work(self, url, me, handle):
        redis = connect_client(url)
        redis.sadd("workers", me)
        while True:
            redis.eval(REAP, 4, "jobs", "workers", "attempts", "dead")
            redis.set(f"lease:{me}", 1, px=200)
            job = redis.blmove("jobs", f"jobs:{me}", 0.05, "RIGHT", "LEFT")
            if job is not None:
                handle(job)
                redis.pipeline().lrem(f"jobs:{me}", 1, job).hdel("attempts", job).execute()


class Stream:
    def put(self, url, jobs):
        redis = connect_client(url)
        for job in jobs:
            redis.xadd("jobs", {"job": job})

    def work(self, url, me, handle):
        redis = connect_client(url)
        with contextlib.suppress(ResponseError):
            redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
        while True:
            entries = redis.xautoclaim("jobs", "mailers", me, 200, count=1)[1]
            if not entries:
                reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1, block=50)
                entries = reply[0][1] if reply else []
            for entry, fields in entries:
                handle(fields["job"])
                redis.xack("jobs", "mailers", entry)


class Rq:
    def put(self, url, jobs):
        import rq

        queue = rq.Queue("jobs", connection=binary(url))
        for job in jobs:
            queue.enqueue("shop.handle", job, job_id=job)

    def work(self, url, me, handle):
        import rq
        from rq.timeouts import TimerDeathPenalty

        class InAThread(rq.SimpleWorker):
            death_penalty_class = TimerDeathPenalty

            def _install_signal_handlers(self):
                """Only a process's main thread may."""

        sys.modules["shop"] = types.SimpleNamespace(handle=handle)
        InAThread(["jobs"], connection=binary(url), name=me).work(logging_level="CRITICAL")


class Taskiq:
    """With the group at 0, since it would skip all jobs that are put before."""

    def _broker(self, url, **options):
        from taskiq_redis import RedisStreamBroker

        return RedisStreamBroker(url, consumer_id="0", **options)

    def put(self, url, jobs):
        async def kick():
            broker = self._broker(url)
            task = broker.register_task(lambda job: None, task_name="handle")
            for job in jobs:
                await task.kiq(job)
            await broker.shutdown()

        asyncio.run(kick())

    def work(self, url, me, handle):
        from taskiq.api import run_receiver_task

        async def live():
            broker = self._broker(url, consumer_name=me)
            broker.register_task(lambda job: handle(job), task_name="handle")
            await broker.startup()
            await run_receiver_task(broker, sync_workers=1, max_async_tasks=1)

        logging.getLogger("taskiq").setLevel("CRITICAL")
        asyncio.run(live())


class Celery:
    def _app(self, url):
        import celery

        parts = urlsplit(url)
        app = celery.Celery(
            broker=f"redis+socket://{parts.path}", set_as_current=False, fixups=[], task_cls=None
        )
        app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
        return app

    def put(self, url, jobs):
        with self._app(url) as app:
            for job in jobs:
                app.send_task("handle", [job], task_id=job, ignore_result=True)

    def work(self, url, me, handle):
        app = self._app(url)

        def handle_job(job):
            handle(job)

        app.task(handle_job, name="handle")
        logging.disable(logging.CRITICAL)
        warnings.simplefilter("ignore")
        app.Worker(
            pool="solo", hostname=me, loglevel="CRITICAL", without_gossip=True, quiet=True
        ).start()


class Dramatiq:
    def _broker(self, url):
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker

        broker = RedisBroker(client=binary(url))
        dramatiq.set_broker(broker)
        return broker

    def _actor(self, broker, handle):
        import dramatiq

        return dramatiq.actor(handle, broker=broker, actor_name="handle")

    def put(self, url, jobs):
        actor = self._actor(self._broker(url), lambda job: None)
        for job in jobs:
            actor.send(job)

    def work(self, url, me, handle):
        import dramatiq

        broker = self._broker(url)
        self._actor(broker, lambda job: handle(job))
        logging.disable(logging.CRITICAL)
        dramatiq.Worker(broker, worker_threads=1).start()
        time.sleep(3600)


def serve(client, queue, url):
    """Be a worker; jobs are counted out of its sight, and one of them never ends."""
    notes = connect_client(with_database(url, 1))

    def handle(job):
        notes.rpush("begun", job)
        if job == "job-last":
            time.sleep(3600)  # it is killed meanwhile
        notes.incr("done")

    queue.work(url, f"worker-{client.number}", handle)


def everything(url):
    """The keys that mention the job that never ended."""
    redis = binary(url)
    found = []
    for key in redis.scan_iter():
        if b"job-last" in key + (redis.dump(key) or b"") or b"job-last" in _text(redis, key):
            found.append(key.decode(errors="replace").partition("job-last")[0])
    return found


def _text(redis, key):
    readers = {
        b"list": lambda: redis.lrange(key, 0, -1),
        b"hash": lambda: redis.hgetall(key),
        b"zset": lambda: redis.zrange(key, 0, -1),
        b"stream": lambda: redis.xrange(key),
        b"set": lambda: redis.smembers(key),
    }
    return repr(readers.get(redis.type(key), lambda: redis.get(key))()).encode()


def measure(queue):
    with start_server() as server, WorkerPool() as pool:
        notes = connect_client(with_database(server.url, 1))
        queue.put(server.url, [f"job-{number}" for number in range(JOBS)])
        info = server.client()
        pool.start(serve, queue, server.url)
        pool.wait(lambda: int(notes.get("done") or 0) >= 1, seconds=20)
        start, first = time.perf_counter(), int(notes.get("done"))
        before = info.info("commandstats"), info.info("stats")["total_reads_processed"]
        polls = 0
        while int(notes.get("done")) < JOBS and time.perf_counter() - start < 30:
            polls += 1
            time.sleep(0.002)
        seconds = time.perf_counter() - start
        reads = info.info("stats")["total_reads_processed"] - before[1] - polls - 2
        rest = int(notes.get("done")) - first
        return reads / max(rest, 1) - 2, rest / seconds  # two are our own notes


def kill(queue):
    with start_server() as server, WorkerPool() as pool:
        notes = connect_client(with_database(server.url, 1))
        queue.put(server.url, ["job-last"])
        worker = pool.start(serve, queue, server.url)
        pool.wait(lambda: notes.llen("begun") == 1, seconds=20)
        worker.kill()
        where = everything(server.url)
        pool.start(serve, queue, server.url)
        again = pool.wait(lambda: notes.llen("begun") == 2, seconds=3)
        return ("begun again within 3 s" if again else "not begun again within 3 s"), where


if __name__ == "__main__":
    queues = [List(), Stream(), Rq(), Taskiq(), Celery(), Dramatiq()]
    found = {type(queue).__name__: [] for queue in queues}
    for _ in range(TURNS):
        for queue in queues:
            found[type(queue).__name__].append(measure(queue))
    for queue in queues:
        name = type(queue).__name__
        trips, speed = (statistics.median(column) for column in zip(*found[name], strict=True))
        print(f"{name:<10} {trips:>6.1f} round trips a job {speed:>8,.0f} jobs/s")
    print("after kill -9 in the middle of a job:")
    for queue in queues:
        outcome, where = kill(queue)
        kept = ", ".join(where) or "nowhere: it is lost"
        print(f"{type(queue).__name__:<10} {outcome}; it is in {kept}")
