"""A lock by name that lasts until the transaction ends."""

from sqlalchemy import text
from sqlmodel import Session


def lock_key(session: Session, name: str) -> None:
    """Let nobody else who asks for the same name go on before this transaction has ended.

    On SQLite a transaction that writes has the whole database for itself already. Take several in sorted order.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})
