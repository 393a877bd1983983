"""12 Sessions: a session that comes back after the logout."""

from labsupport.labs.sessions.session_lifetimes import SessionLifetimes

__all__ = ["SessionLifetimes"]
