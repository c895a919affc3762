"""Where Optuna keeps the trials of a sweep: addresses of databases, and what goes wrong there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

# Of PostgreSQL that which is installed is taken, whatever SQLAlchemy's own choice is.
_MODULES = {"postgresql": ("psycopg", "psycopg2")}
_PACKAGES = {
    "postgresql": "'fathomx[postgresql]'",
    "postgresql+psycopg2": "psycopg2-binary",
    "mysql": "mysqlclient",
}
# A server that is not there may take minutes to say nothing.
_SECONDS_TO_CONNECT = 10
_LONGEST_REASON = 300

# What is said of a reason that has such words in it.
_REMEDIES = (
    ("password", "put the password of this user into ~/.pgpass or PGPASSWORD"),
    ("does not exist", "make it with createdb or createuser, or give another address"),
    ("permission denied", "let this user make tables there (GRANT CREATE ON SCHEMA public)"),
    (
        "connect",
        "see that the server runs, and that it may be reached from this machine at this address",
    ),
)


def without_password(address: str) -> str:
    """An address as it may be shown."""
    import sqlalchemy

    try:
        return sqlalchemy.engine.make_url(address).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return address


def opened(address: str) -> Any:
    """Optuna's storage at an address; its tables are made if they are not there.

    Raises `ValueError` if the driver is not installed, or nothing can be reached there.
    """
    import optuna
    import sqlalchemy

    url, kind = _with_driver(address)
    options: dict[str, Any] = {}
    if not kind.startswith("sqlite"):
        # A server allows some hundred connections, and workers need theirs once per epoch.
        options["poolclass"] = sqlalchemy.pool.NullPool
    if kind.startswith("postgresql"):
        options["connect_args"] = {"connect_timeout": _SECONDS_TO_CONNECT}
    try:
        return optuna.storages.get_storage(optuna.storages.RDBStorage(url, options))
    except ImportError:
        package = _PACKAGES.get(kind) or _PACKAGES.get(kind.partition("+")[0])
        raise ValueError(
            f"the storage {without_password(address)!r} needs a driver that is not installed: pip "
            f"install {package or f'the driver of {kind}'}; or leave it out, for a file in the "
            "folder."
        ) from None
    # Every database has errors of its own.
    except Exception as error:
        reason = _reason(error)
        remedy = _remedy(reason, "give an address such as sqlite:///sweep.db, or leave it out")
        raise ValueError(
            f"the storage {without_password(address)!r} cannot be reached ({reason}); {remedy}."
        ) from None


@contextlib.contextmanager
def kept_in(address: str | None, folder: Any) -> Iterator[None]:
    """What a database does not do while a sweep goes on is a `ConnectionError` of one sentence."""
    import optuna
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        shown = "in the folder" if address is None else repr(without_password(address))
        reason = _reason(error.__cause__ or error)
        raise ConnectionError(
            f"the storage {shown} does not answer any more ({reason}); when it does, go on with: "
            f"fathomx sweep --resume {folder}"
        ) from error


def _with_driver(address: str) -> tuple[str, str]:
    """An address for SQLAlchemy, and what kind of database it names."""
    kind, separator, rest = address.partition("://")
    # As PostgreSQL's own programs take it.
    kind = "postgresql" if kind == "postgres" else kind
    known = _MODULES.get(kind, ())
    installed = next((name for name in known if find_spec(name) is not None), None)
    return f"{kind}{'+' + installed if installed else ''}{separator}{rest}", kind


def _reason(error: BaseException) -> str:
    """The database's own words, in one line."""
    own = str(getattr(error, "orig", None) or error)
    return " ".join(own.split())[:_LONGEST_REASON].rstrip(".") or type(error).__name__


def _remedy(reason: str, usual: str) -> str:
    return next((remedy for words, remedy in _REMEDIES if words in reason.lower()), usual)
