"""Wrong answers to the exercises of lab 14, and what each must be refused for."""

import unicodedata
import zlib
from contextlib import suppress

from redis.exceptions import (
    AskError,
    ConnectionError,
    MovedError,
    RedisError,
    ResponseError,
    WatchError,
)

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

RESERVE = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 0 end
if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
redis.call('DECR', KEYS[1])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
"""


# 14.1


def stock(product):
    return f"stock:{{{product}}}"


@wrong("14.1", situation="On a cluster", because="must map to the same key slot")
def tag_of_the_user(redis, product, user):
    return redis.eval(RESERVE, 2, stock(product), f"reserved:{product}:{{{user}}}", user) == 1


@wrong("14.1", situation="On a cluster", because="must map to the same key slot")
def tag_at_the_wrong_place(redis, product, user):
    return redis.eval(RESERVE, 2, stock(product), f"{{reserved}}:{{{product}}}", user) == 1


@wrong("14.1", situation="On a cluster", because="must map to the same key slot")
def braces_twice(redis, product, user):
    return redis.eval(RESERVE, 2, stock(product), f"reserved:{{{{{product}}}}}", user) == 1


@wrong("14.1", situation="On a cluster", because="ResponseError")
def key_made_in_the_script(redis, product, user):
    script = RESERVE.replace("KEYS[2]", "'reserved:' .. ARGV[2]")
    return redis.eval(script, 1, stock(product), user, product) == 1


@wrong("14.1", situation="A client that crashes", because="is due")
def two_steps(redis, product, user):
    """A set of all products, in a slot of its own, and a script for the stock."""
    member = f"{product}:{user}"
    if not redis.sadd("{shop}:reserved", member):
        return False
    take = """
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    return redis.call('DECR', KEYS[1]) + 1
    """
    if redis.eval(take, 1, stock(product)):
        return True
    redis.srem("{shop}:reserved", member)
    return False


@wrong("14.1", situation="Several clients at once", because="No order of the calls gives that")
def looks_and_then_takes(redis, product, user):
    reserved = f"reserved:{{{product}}}"
    if redis.sismember(reserved, user) or int(redis.get(stock(product)) or 0) < 1:
        return False
    redis.pipeline(transaction=True).decr(stock(product)).sadd(reserved, user).execute()
    return True


@wrong("14.1", because="holds '-1'", sequential=True)
def forgets_who_has(redis, product, user):
    return redis.decr(stock(product)) >= 0


@wrong("14.1", because="stock:{kettle} holds '0'; '1' is due", sequential=True)
def takes_before_it_looks(redis, product, user):
    script = """
    if redis.call('DECR', KEYS[1]) < 0 then redis.call('INCR', KEYS[1]) return 0 end
    return redis.call('SADD', KEYS[2], ARGV[1])
    """
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.1", because="False; True is due", sequential=True)
def remembers_who_got_none(redis, product, user):
    script = """
    if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 0 end
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    return 1
    """
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.1", because="True; False is due", sequential=True)
def remembers_for_a_minute(redis, product, user):
    script = RESERVE.replace("return 1\n", "redis.call('EXPIRE', KEYS[2], 60) return 1\n")
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.1", because="must map to the same key slot")
def braces_of_the_user_first(redis, product, user):
    script = RESERVE.replace("SISMEMBER', KEYS[2], ARGV[1]", "EXISTS', KEYS[2]")
    script = script.replace("SADD', KEYS[2], ARGV[1]", "SET', KEYS[2], 1")
    return redis.eval(script, 2, stock(product), f"reserved:{user}:{{{product}}}") == 1


@wrong("14.1", because="True is due", sequential=True)
def looks_for_a_part_of_a_name(redis, product, user):
    script = RESERVE.replace(
        "redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1",
        "string.find(redis.call('GET', KEYS[2]) or '', ARGV[1], 1, true)",
    ).replace("SADD', KEYS[2], ARGV[1]", "APPEND', KEYS[2], ARGV[1] .. ','")
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.1", because="ResponseError", sequential=True)
def the_user_is_written_into_the_script(redis, product, user):
    script = RESERVE.replace("ARGV[1]", f"'{user}'")
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}") == 1


@wrong("14.1", because="False; True is due", sequential=True)
def a_key_that_may_be_the_stock(redis, product, user):
    script = RESERVE.replace("SISMEMBER', KEYS[2], ARGV[1]", "EXISTS', KEYS[2]")
    script = script.replace("SADD', KEYS[2], ARGV[1]", "SET', KEYS[2], 1")
    return redis.eval(script, 2, stock(product), f"{user}:{{{product}}}") == 1


@wrong("14.1", because="A client that is overtaken at every step")
def gives_up_when_it_is_busy(redis, product, user):
    reserved = f"reserved:{{{product}}}"
    with redis.pipeline(transaction=True) as pipe:
        for _ in range(5):
            with suppress(WatchError):
                pipe.watch(stock(product), reserved)
                if pipe.sismember(reserved, user) or int(pipe.get(stock(product)) or 0) < 1:
                    return False
                pipe.multi()
                pipe.decr(stock(product)).sadd(reserved, user).execute()
                return True
    return False


@wrong("14.1", because="True; False is due", sequential=True)
def remembers_for_a_month(redis, product, user):
    script = RESERVE.replace("return 1\n", "redis.call('EXPIRE', KEYS[2], 2592000) return 1\n")
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


# 14.2


def start(nodes):
    return next(iter(nodes.values()))


def there(nodes, error):
    return nodes[f"{error.host}:{error.port}"]


@wrong("14.2", situation="A slot that moves, asked at its old node", because="MovedError")
def no_asking(nodes, key):
    try:
        return start(nodes).get(key)
    except (MovedError, AskError) as error:
        return there(nodes, error).get(key)


@wrong("14.2", situation="A slot that moves, asked at its old node", because="is None, not")
def ask_means_nothing_there(nodes, key):
    try:
        return start(nodes).get(key)
    except MovedError as error:
        with suppress(AskError):
            return there(nodes, error).get(key)
    except AskError:
        return None


@wrong("14.2", situation="A slot that moves, asked at another node", because="AskError")
def one_redirection(nodes, key):
    client, asking = start(nodes), False
    try:
        return client.get(key)
    except (MovedError, AskError) as error:
        client, asking = there(nodes, error), isinstance(error, AskError)
    with client.pipeline(transaction=False) as pipe:
        if asking:
            pipe.execute_command("ASKING")
        return pipe.get(key).execute()[-1]


@wrong(
    "14.2", situation="A slot that moves, asked at its old node", because="more than 20 requests"
)
def back_and_forth(nodes, key, client=None):
    try:
        return (client or start(nodes)).get(key)
    except (MovedError, AskError) as error:
        return back_and_forth(nodes, key, there(nodes, error))


@wrong("14.2", situation="A settled cluster", because="ASKING was sent", sequential=True)
def asks_one_after_the_other(nodes, key):
    for client in nodes.values():
        with suppress(ResponseError), client.pipeline(transaction=False) as pipe:
            pipe.execute_command("ASKING")
            return pipe.get(key).execute()[-1]
    return None


@wrong("14.2", situation="A settled cluster", because="MovedError", sequential=True)
def asks_the_first_only(nodes, key):
    return start(nodes).get(key)


def going_on(nodes, key, client, error):
    """What a node says that a redirection leads to, and where the next one leads."""
    try:
        with client.pipeline(transaction=False) as pipe:
            if type(error) is AskError:
                pipe.execute_command("ASKING")
            return pipe.get(key).execute()[-1], None
    except AskError as next_one:
        return None, next_one


@wrong("14.2", situation="A slot that has moved on, since the ASK", because="MovedError")
def nothing_comes_after_an_ask(nodes, key):
    client = start(nodes)
    while True:
        try:
            return client.get(key)
        except MovedError as moved:
            client = there(nodes, moved)
        except AskError as ask:
            pipe = there(nodes, ask).pipeline(transaction=False)
            return pipe.execute_command("ASKING").get(key).execute()[1]


@wrong("14.2", situation="A settled cluster", because="CLUSTER was sent", sequential=True)
def looks_the_slot_up(nodes, key):
    start(nodes).cluster("KEYSLOT", key)
    value, error = going_on(nodes, key, start(nodes), None)
    while error is not None:
        value, error = going_on(nodes, key, there(nodes, error), error)
    return value


@wrong("14.2", situation="A settled cluster", because="is None, not ''", sequential=True)
def nothing_is_empty(nodes, key):
    value, error = going_on(nodes, key, start(nodes), None)
    while error is not None:
        value, error = going_on(nodes, key, there(nodes, error), error)
    return value or None


def following(nodes, key, client=None, *, limit=50, lookup=there, asks=None):
    """The solution, with parts that can be put wrong."""
    client, asking = client or start(nodes), False
    for _ in range(limit):
        try:
            with client.pipeline(transaction=False) as pipe:
                if asking:
                    pipe.execute_command("ASKING")
                return pipe.get(key).execute()[-1]
        except AskError as error:
            client = lookup(nodes, error)
            asking = not isinstance(error, MovedError) if asks is None else asks(error)
    raise RuntimeError(f"{key} moves too often")


@wrong("14.2", situation="A slot that moves, asked at its old node", because="more than 1 redir")
def asking_on_another_connection(nodes, key):
    client, asking = start(nodes), False
    for _ in range(8):
        try:
            if asking:
                client.execute_command("ASKING")
            return client.get(key)
        except AskError as error:
            client, asking = there(nodes, error), not isinstance(error, MovedError)
    return client.get(key)


@wrong("14.2", situation="A move that is called off", because="RuntimeError")
def asks_no_node_twice(nodes, key):
    asked = {start(nodes)}

    def lookup(nodes, error):
        client = there(nodes, error)
        if client in asked:
            raise RuntimeError("round and round")
        asked.add(client)
        return client

    return following(nodes, key, lookup=lookup)


@wrong("14.2", because="look for MovedError first")
def moved_is_an_ask_too(nodes, key):
    return following(nodes, key, asks=lambda error: True)


@wrong("14.2", situation="Many redirections", because="RuntimeError")
def follows_five(nodes, key):
    return following(nodes, key, limit=6)


@wrong("14.2", situation="A node that hangs up", because="was asked once more")
def whoever_answers(nodes, key):
    """Another node than the one that went away can only send back to it."""
    for client in nodes.values():
        with suppress(ConnectionError):
            return following(nodes, key, client)
    raise RuntimeError("nobody is there")


@wrong("14.2", situation="An error that is no redirection", because="the error is due")
def any_error_is_nothing(nodes, key):
    try:
        return following(nodes, key)
    except ResponseError:
        return None


@wrong("14.2", because="GET went to")
def by_the_port_alone(nodes, key):
    """Two hosts may have the same port."""
    ports = {address.partition(":")[2]: client for address, client in nodes.items()}
    return following(nodes, key, lookup=lambda nodes, error: ports[str(error.port)])


LEARNT = {}


@wrong("14.2", because="GET went to")
def remembers_who_had_it(nodes, key):
    """ "Ask the first one": the slot may have come back."""

    def lookup(nodes, error):
        LEARNT[key, *nodes] = there(nodes, error)
        return there(nodes, error)

    return following(nodes, key, LEARNT.get((key, *nodes)), lookup=lookup)


# 14.3


@wrong("14.3", situation="A replica that lags", because="it had 400 ms")
def waits_too_long(redis, key, order):
    return push(redis, key, order, ms=400) > 0


@wrong("14.3", situation="The same order twice", because="the list holds order-0")
def once_is_enough(redis, key, order):
    if redis.lpos(key, order) is not None:
        return redis.wait(1, 100) > 0
    return push(redis, key, order) > 0


def push(redis, key, order, copies=1, ms=100):
    pipe = redis.pipeline(transaction=False)
    return pipe.rpush(key, order).wait(copies, ms).execute()[1]


@wrong("14.3", situation="A replica that lags", because="was True, not False")
def does_not_look(redis, key, order):
    push(redis, key, order)
    return True


@wrong("14.3", situation="A replica that lags", because="was True, not False")
def waits_for_nobody(redis, key, order):
    return push(redis, key, order, copies=0) >= 0


@wrong("14.3", situation="A replica that lags", because="was True, not False")
def another_connection(redis, key, order):
    redis.rpush(key, order)
    return type(redis)(unix_socket_path=path(redis.connection_pool)).wait(1, 100) > 0


def path(pool):
    return pool.connection_kwargs["path"]


@wrong("14.3", situation="A replica that lags", because="was True, not False")
def before_it_writes(redis, key, order):
    copies = redis.wait(1, 100)
    redis.rpush(key, order)
    return copies >= 1


@wrong("14.3", situation="A replica that lags", because="did not come back")
def waits_for_ever(redis, key, order):
    redis = type(redis)(unix_socket_path=path(redis.connection_pool), socket_timeout=None)
    return push(redis, key, order, ms=0) >= 1


@wrong("14.3", situation="A replica that lags", because="the list holds")
def takes_it_back(redis, key, order):
    """The order is removed when it is not confirmed, though the replica may have it, or get it."""
    if push(redis, key, order):
        return True
    redis.lrem(key, -1, order)
    return False


@wrong("14.3", situation="A replica that keeps up", because="not True", sequential=True)
def says_how_many(redis, key, order):
    return push(redis, key, order)


@wrong("14.3", situation="A replica that lags", because="was True, not False")
def asks_whether_it_is_linked(redis, key, order):
    with suppress(RedisError):
        redis.rpush(key, order)
        return redis.info("replication")["connected_slaves"] >= 1
    return False


@wrong("14.3", situation="A replica that lags", because="was True, not False")
def another_connection_of_the_pool(redis, key, order):
    redis.rpush(key, order)
    return redis.wait(1, 100) >= 1


@wrong("14.3", situation="A key that holds no list", because="the order is nowhere")
def does_not_look_whether_it_was_put(redis, key, order):
    pipe = redis.pipeline(transaction=False).rpush(key, order).wait(1, 100)
    return pipe.execute(raise_on_error=False)[-1] >= 1


@wrong("14.3", situation="A replica that keeps up", because="was False, not True")
def waits_for_all(redis, key, order):
    replicas = max(1, redis.info("replication")["connected_slaves"])
    return push(redis, key, order, copies=replicas) >= replicas


@wrong("14.3", situation="A replica that lags", because="the list holds")
def keeps_a_thousand(redis, key, order):
    pipe = redis.pipeline(transaction=False).rpush(key, order).ltrim(key, -1000, -1)
    return pipe.wait(1, 100).execute()[-1] >= 1


@wrong("14.3", situation="Two replicas that keep up", because="WAIT said 2")
def exactly_one(redis, key, order):
    return push(redis, key, order) == 1


@wrong("14.3", situation="A replica that keeps up", because="MaxConnectionsError")
def keeps_its_connection(redis, key, order):
    """The pool of the others' connections gets none back."""
    pipe = redis.client()
    LEFT.append(pipe)
    pipe.rpush(key, order)
    return pipe.wait(1, 100) > 0


LEFT = []


# 14.1: names that are alike, and yet two


def known_as(redis, product, name):
    return redis.eval(RESERVE, 2, stock(product), f"reserved:{{{product}}}", name) == 1


@wrong("14.1", situation="One call after the other", because="False; True is due", sequential=True)
def a_bit_for_each_user(redis, product, user):
    script = RESERVE.replace("SISMEMBER", "GETBIT").replace("SADD", "SETBIT")
    script = script.replace("ARGV[1])\nreturn", "ARGV[1], 1)\nreturn")
    bit = zlib.crc32(user.encode()) % 65_536
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", bit) == 1


@wrong("14.1", situation="One call after the other", because="False; True is due", sequential=True)
def names_without_their_accents(redis, product, user):
    return known_as(redis, product, user.encode("ascii", "ignore"))


@wrong("14.1", situation="One call after the other", because="False; True is due", sequential=True)
def one_name_however_it_is_typed(redis, product, user):
    return known_as(redis, product, unicodedata.normalize("NFC", user))


@wrong("14.1", situation="One call after the other", because="False; True is due", sequential=True)
def the_beginning_of_a_long_name(redis, product, user):
    return known_as(redis, product, user[:32])


@wrong("14.1", situation="One call after the other", because="False; True is due", sequential=True)
def no_name_is_nobody(redis, product, user):
    return bool(user) and known_as(redis, product, user)


@wrong("14.1", because="False when none is left", sequential=True)
def no_stock_is_an_error(redis, product, user):
    script = RESERVE.replace(" or 0", "")
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.3", situation="A replica that lags", because="the list holds")
def orders_without_their_blanks(redis, key, order):
    return push(redis, key, order.strip()) >= 1


@wrong("14.1", because="ada was given True; False is due", sequential=True)
def forgets_from_the_second_on(redis, product, user):
    """The TTL comes before the set is there: the first call gives it none."""
    script = "redis.call('EXPIRE', KEYS[2], 3600)\n" + RESERVE
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.1", because="ada was given True; False is due", sequential=True)
def sells_while_it_is_not_nothing(redis, product, user):
    script = RESERVE.replace("< 1", "== 0")
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.2", situation="A settled cluster", because=", not ' the value of", sequential=True)
def values_without_their_blanks(nodes, key):
    client, asking = start(nodes), False
    while True:
        try:
            with client.pipeline(transaction=False) as pipe:
                if asking:
                    pipe.execute_command("ASKING")
                value = pipe.get(key).execute()[-1]
                return value and value.strip()
        except AskError as error:
            client, asking = there(nodes, error), type(error) is AskError


@wrong("14.1", because="3,000 users and stock for all", sequential=True)
def counts_by_hyperloglog(redis, product, user):
    script = """
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    if redis.call('PFADD', KEYS[2], ARGV[1]) == 1 then return 1 + redis.call('DECR', KEYS[1]) * 0 end
    return 0
    """
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1


@wrong("14.1", because="3,000 users and stock for all", sequential=True)
def remembers_the_newest_thousand(redis, product, user):
    script = """
    if redis.call('LPOS', KEYS[2], ARGV[1]) then return 0 end
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('LPUSH', KEYS[2], ARGV[1])
    redis.call('LTRIM', KEYS[2], 0, 999)
    return 1
    """
    return redis.eval(script, 2, stock(product), f"reserved:{{{product}}}", user) == 1
