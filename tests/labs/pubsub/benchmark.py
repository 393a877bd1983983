"""What one message to five subscribers costs its sender, over each transport; medians, by turns."""

import statistics
import time

from labsupport.labs.pubsub import LostMessages
from labsupport.servers import start_server

NAMES = LostMessages.subscribers
TURNS, SENDS = 9, 1_000


def pubsub(redis, message):
    redis.publish("channel", message)


def sharded(redis, message):
    redis.spublish("channel", message)


def inboxes(redis, message):
    pipe = redis.pipeline()
    for name in NAMES:
        pipe.lpush(f"inbox:{name}", message)
    pipe.execute()


def stream(redis, message):
    redis.xadd("stream", {"text": message}, maxlen=100_000)


def notify(redis, message):
    redis.pipeline().xadd("log", {"text": message}).publish("news", "log").execute()


def subscribers(server, subscribe):
    """Five connections that are subscribed and confirmed, and read afterwards."""
    channels = [server.client().pubsub() for _ in NAMES]
    for channel in channels:
        getattr(channel, subscribe)("channel")
        channel.get_message(timeout=5)
    return channels


def drain(channels):
    for channel in channels:
        while channel.get_message(timeout=0.05) is not None:
            pass


def main():
    sends = (pubsub, sharded, inboxes, stream, notify)
    with start_server() as server:
        redis = server.client()
        channels = subscribers(server, "subscribe") + subscribers(server, "ssubscribe")
        rates = {send: [] for send in sends}
        for _ in range(TURNS):
            for send in sends:
                begin = time.perf_counter()
                for _ in range(SENDS):
                    send(redis, "." * 100)
                rates[send].append(SENDS / (time.perf_counter() - begin))
                drain(channels)
        base = statistics.median(rates[pubsub])
        for send in sends:
            before = redis.info("stats")["total_reads_processed"]
            send(redis, ".")
            trips = redis.info("stats")["total_reads_processed"] - before - 1
            rate = statistics.median(rates[send])
            print(
                f"{send.__name__:<10} {trips} round trip(s) {rate:>8,.0f} sends/s"
                f" {rate / base:>5.2f} of pubsub"
            )
        for channel in channels:
            channel.close()


if __name__ == "__main__":
    main()
