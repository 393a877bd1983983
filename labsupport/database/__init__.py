"""The source of truth behind the cache: a small shop, in SQLite or in your PostgreSQL."""

from labsupport.database.session import Database
from labsupport.database.shop import BESTSELLERS, open_shop

__all__ = ["BESTSELLERS", "Database", "open_shop"]
