"""The way back to a snapshot in PostgreSQL: an undo log, and a copy for when the tables changed.

Triggers log each changed row as it was and as it is; a function on the server takes the changes
back in reverse, in one round trip. DDL and TRUNCATE are not seen by row triggers: the catalog's
row versions tell of them, and the schema is then built anew from a copy.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from labsupport.errors import LabError

SETTLED = "WITH (vacuum_truncate = false)"
"""A table's setting: when the server tidies it up by itself, it keeps nobody waiting for a lock."""

# {0} the shop's schema, {1} the one beside it, {2} the setting of a table; what is logged is the table
# as text that SQL can use, the condition that finds the row `t` again, and the row before and after.
_MACHINERY = """
CREATE TABLE {1}.undo(
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tab TEXT, found TEXT, was TEXT, now TEXT) {2};
CREATE FUNCTION {1}.log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO {1}.undo(tab, found, now) VALUES (TG_ARGV[0], TG_ARGV[1], NEW::text);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO {1}.undo(tab, found, was) VALUES (TG_ARGV[0], TG_ARGV[1], OLD::text);
    ELSE
        INSERT INTO {1}.undo(tab, found, was, now)
        VALUES (TG_ARGV[0], TG_ARGV[1], OLD::text, NEW::text);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION {1}.replay() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    change RECORD;
BEGIN
    FOR change IN SELECT * FROM {1}.undo ORDER BY seq DESC LOOP
        IF change.now IS NOT NULL THEN
            EXECUTE format('DELETE FROM %1$s WHERE ctid ='
                ' (SELECT t.ctid FROM %1$s t, (SELECT ($1::%1$s).*) r WHERE %2$s LIMIT 1)',
                change.tab, change.found) USING change.now;
        END IF;
        IF change.was IS NOT NULL THEN
            EXECUTE format('INSERT INTO %1$s OVERRIDING SYSTEM VALUE SELECT ($1::%1$s).*',
                change.tab) USING change.was;
        END IF;
    END LOOP;
    DELETE FROM {1}.undo;  -- what the replay logged, too
END $$;
"""

# One text that is another after any DDL or TRUNCATE in the schema {0}.
_CATALOG = """
SELECT md5(concat(
    (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid)
     FROM pg_class WHERE relnamespace = '{0}'::regnamespace),
    (SELECT string_agg(a.xmin::text, ' ' ORDER BY attrelid, attnum) FROM pg_attribute a
     JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = '{0}'::regnamespace),
    (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid)
     FROM pg_constraint WHERE connamespace = '{0}'::regnamespace),
    (SELECT string_agg(oid || '.' || xmin, ' ' ORDER BY oid)
     FROM pg_proc WHERE pronamespace = '{0}'::regnamespace),
    (SELECT string_agg(t.oid || '.' || t.xmin, ' ' ORDER BY t.oid) FROM pg_trigger t
     JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = '{0}'::regnamespace)))
"""

# What a copy by LIKE ... INCLUDING ALL does not bring back.
_BEYOND_COPY = """
SELECT relname FROM pg_class c WHERE relnamespace = '{0}'::regnamespace
AND (relkind NOT IN ('r', 'i', 'S') OR relkind = 'S' AND NOT EXISTS
     (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'i'))
UNION SELECT proname FROM pg_proc WHERE pronamespace = '{0}'::regnamespace
UNION SELECT conname FROM pg_constraint
      WHERE connamespace = '{0}'::regnamespace AND contype = 'f'
UNION SELECT tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid
      WHERE relnamespace = '{0}'::regnamespace AND NOT tgisinternal
"""

# The tables, with the condition that finds the row `r` again as `t`: by the key, else by all of it.
_TABLES = """
SELECT quote_ident(relname), coalesce(
    (SELECT string_agg(format('t.%1$I = r.%1$I', attname), ' AND ')
     FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
     WHERE i.indrelid = c.oid AND i.indisprimary), 't::text = r::text')
FROM pg_class c WHERE relnamespace = '{0}'::regnamespace AND relkind = 'r' ORDER BY 1
"""


class Undo:
    """A snapshot of one schema.

    Args:
        run: runs a statement outside a transaction and returns its rows.
        schema: the shop's schema; a second one, named *_saved, holds the copy and the log.
    """

    def __init__(self, run: Callable[[str], list[tuple[Any, ...]]], schema: str) -> None:
        self._run = run
        self._schema = schema
        self._saved = f"{schema}_saved"
        self._tables: list[tuple[str, str]] = []
        self._beyond: list[str] = []  # what only its maker could make again
        self._catalog = ""
        self._counters = ""

    def snapshot(self) -> None:
        """Keep the present state."""
        self.forget()
        self._tables = [(name, found) for name, found in self._ask(_TABLES)]
        self._beyond = [name for (name,) in self._ask(_BEYOND_COPY)]
        with self._together():
            self._run(f"CREATE SCHEMA {self._saved}")
            self._run(_MACHINERY.format(self._schema, self._saved, SETTLED))
            for table, _ in self._tables:
                self._copy(table, self._schema, self._saved)
            self._watch()
        self._counters = self._count()
        self._catalog = self._ask(_CATALOG)[0][0]

    def restore(self) -> None:
        """Go back to it."""
        if self._ask(_CATALOG)[0][0] == self._catalog:
            # Counters move on even when the INSERT that used them was rolled back.
            self._run(f"SELECT {self._saved}.replay(){self._counters}")
            return
        if self._beyond:
            raise LabError(
                "A table was changed after the snapshot, and the lab cannot make anew what was"
                f" there before: {', '.join(self._beyond)}.",
                "Open the lab again, and create such objects after the snapshot, or not at all.",
            )
        with self._together():
            objects = self._ask("SELECT obj_description('{0}'::regnamespace, 'pg_namespace')")
            self._run(f"DROP SCHEMA {self._schema} CASCADE")
            self._run(f"CREATE SCHEMA {self._schema}")
            self._run(f"COMMENT ON SCHEMA {self._schema} IS '{objects[0][0]}'")
            for table, _ in self._tables:
                self._copy(table, self._saved, self._schema)
            self._run(f"DELETE FROM {self._saved}.undo")
            self._watch()
            self._run(f"SELECT 1{self._counters}")
        self._catalog = self._ask(_CATALOG)[0][0]

    def forget(self) -> None:
        """Drop it; the triggers go with the function that they call."""
        self._run(f"DROP SCHEMA IF EXISTS {self._saved} CASCADE")

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self._run(sql.format(self._schema, self._saved))

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Make the statements of a block one transaction."""
        self._run("BEGIN")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")

    def _copy(self, table: str, source: str, target: str) -> None:
        self._run(f"CREATE TABLE {target}.{table} (LIKE {source}.{table} INCLUDING ALL) {SETTLED}")
        self._run(
            f"INSERT INTO {target}.{table} OVERRIDING SYSTEM VALUE SELECT * FROM {source}.{table}"
        )

    def _watch(self) -> None:
        for table, found in self._tables:
            self._run(
                f"CREATE TRIGGER labsupport_undo AFTER INSERT OR UPDATE OR DELETE ON"
                f" {self._schema}.{table} FOR EACH ROW EXECUTE FUNCTION"
                f" {self._saved}.log($${self._schema}.{table}$$, $${found}$$)"
            )

    def _count(self) -> str:
        """Calls of setval, as more columns of a SELECT, that set all counters as they are now."""
        sequences = self._ask(
            "SELECT format('%I.%I', schemaname, sequencename) FROM pg_sequences"
            " WHERE schemaname = '{0}'"
        )
        counters = ""
        for (name,) in sequences:
            last, called = self._run(f"SELECT last_value, is_called FROM {name}")[0]
            counters += f", setval('{name}', {last}, {called})"
        return counters
