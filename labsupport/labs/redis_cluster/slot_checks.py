"""How answers to exercise 14.1 are put to the test: on one server in every order, then on a cluster."""

from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require
from labsupport.labs.redis_cluster.cluster_of_checks import cluster_for_commands

__all__ = ["check_reserve"]

_PRODUCTS = ("kettle", "lamp", "chair", "desk", "mug", "rug")


def check_reserve(answer: Answer) -> Outcome:
    found = put_through(_trials(answer))
    if not found.passed:
        return found
    wrong = _on_cluster(answer)
    if wrong:
        return Outcome(False, f"On a cluster: {wrong}", wrong)
    return Outcome(True, f"{found.reason[:-1]}, and a cluster of three primaries.", found.evidence)


def _trials(answer: Answer) -> tuple[Trial, ...]:
    def user(name: str, *products: str) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            for product in products:
                redis.rpush("told", f"{name} {product} {answer(redis, product, name)}")

        return client

    def stock(number: int) -> ClientFunction:
        return lambda redis, db: redis.mset({"stock:{kettle}": number, "stock:{lamp}": 1})

    def told(redis: Any) -> list[str]:
        return sorted(redis.lrange("told", 0, -1))

    def in_turn(redis: Any, db: Any) -> bool:
        """a piece is reserved once for each user, as long as there is one"""
        wanted = ["ada kettle True", "ada kettle False", "ada lamp True"]
        answers = redis.lrange("told", 0, -1)
        words = f"The answers were {', '.join(answers)}; {', '.join(wanted)} are due."
        require(answers == wanted, words)
        left = redis.mget("stock:{kettle}", "stock:{lamp}")
        require(left == ["1", "0"], f"The stocks are {left[0]} and {left[1]}, not 1 and 0.")
        later = [_asked(answer, redis, product, "bob") for product in ("lamp", "chair")]
        require(later == [False, False], f"With nothing left, bob was told {later[0]}, {later[1]}.")
        redis.set("stock:{lamp}", 1)
        told = _asked(answer, redis, "lamp", "bob")
        require(told is True, f"There is a lamp again; bob, who got none, was told {told}.")
        ends = [key for key in redis.keys("*") if redis.ttl(key) >= 0]
        require(not ends, f"{' and '.join(ends)} ends: who has reserved is forgotten.")
        return True

    def one_each(redis: Any, db: Any) -> bool:
        """what is reserved is what the stock has lost"""
        sold = sum(text.endswith("True") for text in told(redis))
        left = redis.get("stock:{kettle}")
        require((sold, left) == (1, "0"), f"{sold} were told True, and the stock is {left}.")
        return True

    def once(redis: Any, db: Any) -> bool:
        """a user who asks twice at once gets one piece"""
        answers, left = told(redis), redis.get("stock:{kettle}")
        require(answers == ["ada kettle False", "ada kettle True"], f"ada was told {answers}.")
        require(left == "1", f"The stock is {left}, not 1.")
        return True

    def again(redis: Any, db: Any) -> bool:
        """after a crash and another try, the user has one piece"""
        _asked(answer, redis, "kettle", "ada")
        left = redis.get("stock:{kettle}")
        require(left == "1", f"The stock is {left}, not 1.")
        require(_asked(answer, redis, "kettle", "ada") is False, "ada was told True once more.")
        return True

    rivals = {"ada": user("ada", "kettle"), "bob": user("bob", "kettle")}
    twice = {"ada": user("ada", "kettle"), "her other tab": user("ada", "kettle")}
    alone = {"ada": user("ada", "kettle", "kettle", "lamp")}
    return (
        Trial("One user", alone, stock(2), in_turn),
        Trial("Two users, one piece", rivals, stock(1), one_each, prune=True, sample=500),
        Trial("One user in two tabs", twice, stock(2), once, prune=True, sample=500),
        Trial("A crash", {"ada": user("ada", "kettle")}, stock(2), again, crashes=True),
    )


def _asked(answer: Answer, redis: Any, product: str, user: str) -> Any:
    """What the answer returns afterwards; its error is the answer's, and not the invariant's."""
    try:
        return answer(redis, product, user)
    except RedisError as error:
        require(
            False, f"For {user} and a {product} it raised {type(error).__name__}: {_plain(error)}"
        )


def _on_cluster(answer: Answer) -> str:
    """What is wrong with an answer on a cluster; "" if nothing is."""
    with cluster_for_commands() as redis:
        for product in _PRODUCTS:
            redis.set(f"stock:{{{product}}}", 1)
        for product in _PRODUCTS:
            try:
                told = answer(redis, product, "ada"), answer(redis, product, "bob")
            except (RedisError, RedisClusterException) as error:
                return f"{type(error).__name__}: {_plain(error)}"
            if told != (True, False):
                return f"of one {product}, ada and bob were told {told[0]} and {told[1]}."
        if any(redis.get(f"stock:{{{product}}}") != "0" for product in _PRODUCTS):
            return "a stock is not 0, after its one piece was reserved."
    return ""


def _plain(error: Exception) -> str:
    """The error without what differs from run to run."""
    return str(error).partition(" script: ")[0].rstrip(".") + "."
