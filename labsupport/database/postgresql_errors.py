"""What PostgreSQL says when it refuses, in the lab's words."""

from sqlalchemy import make_url

from labsupport.database.statements import busy, refused
from labsupport.errors import DatabaseUnreachableError, LabError

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_LOCKED = {"55P03", "40P01", "40001"}  # lock not available, deadlock, serialization failure
_CONNECTION_GONE = ("08", "57P")
_CONSTRAINT = "23"


def explain(error: Exception, sql: str, lost: bool) -> LabError:
    """The error of a statement.

    Args:
        error: what the driver raised.
        sql: the statement.
        lost: whether the connection can no longer be used.
    """
    state = getattr(error, "sqlstate", None) or ""
    message = _first_line(error)
    if lost or state.startswith(_CONNECTION_GONE):
        return DatabaseUnreachableError(
            f"The connection to PostgreSQL is closed or was interrupted: {message}.",
            "Open the lab again, when the server is up.",
        )
    if state in _LOCKED:
        return busy(sql)
    return refused("PostgreSQL", sql, message, constraint=state.startswith(_CONSTRAINT))


def locate(url: str) -> str:
    """Who connects to where, without a secret and without what is new each time."""
    parsed = make_url(url)
    user = f"{parsed.username}@" if parsed.username else ""
    port = f":{parsed.port}" if parsed.port else ""
    host = parsed.host or parsed.query.get("host") or "localhost"
    return f"{user}{host}{port}/{parsed.database or ''}"


def explain_refusal(url: str, error: Exception) -> DatabaseUnreachableError:
    """The error of a connection that could not be made; without the password of `url`."""
    parsed = make_url(url)
    said = _first_line(getattr(error, "orig", error))
    for secret in (parsed.password, parsed.query.get("password")):
        if secret:  # no driver repeats it today
            said = said.replace(str(secret), "***")
    return DatabaseUnreachableError(
        f"PostgreSQL at {locate(url)} does not let the lab in: {said}.",
        "Check DATABASE_URL and that the server is up, or unset it to use SQLite.",
    )


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
