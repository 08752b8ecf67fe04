"""`craft keys …`, `craft teams …`, `craft audit`, `craft queue`, `craft me`."""

from typing import Annotated

import typer

from craft.contracts.public.accounts import AuditList, Role, Scope
from craft_cli.session import Session, remote
from craft_cli.tables import listings

keys = typer.Typer(no_args_is_help=True, help="The team's API keys.")
teams = typer.Typer(no_args_is_help=True, help="Teams, for operators of the installation.")


@remote(keys, "create", example="craft keys create 'nightly runs' --role editor --expires-in-days 90")
def create_key(
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.", show_default=False)],
    *,
    role: Annotated[Role, typer.Option()] = Role.EDITOR,
    scope: Annotated[list[Scope] | None, typer.Option(help="May be repeated; by default all of the role's.")] = None,
    expires_in_days: Annotated[float | None, typer.Option(help="By default it ends when it is revoked.")] = None,
) -> None:
    """Make a key and print it; it cannot be shown again."""
    made = session.client.keys.create(name, role=role, scopes=scope or None, expires_in_days=expires_in_days)
    session.show(made, made.key)


@remote(keys, "ls", example="craft keys ls")
def list_keys(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List the team's keys, newest first, revoked and expired ones too."""
    found = session.client.keys.list(limit=limit, after=after)
    session.show(found, listings.keys(found.data))


@remote(keys, "revoke", example="craft keys revoke ckey_01jgywz3x4v5q6r7s8t9vawbxc")
def revoke_key(session: Session, key_id: Annotated[str, typer.Argument(help="ckey_…", show_default=False)]) -> None:
    """Have a key open nothing any more, within five seconds."""
    view = session.client.keys.revoke(key_id)
    session.show(view, "revoked")


@remote(teams, "set", example="craft teams set search --weight 2 --max-running-jobs 4")
def set_team(
    session: Session,
    name: Annotated[str, typer.Argument(show_default=False)],
    *,
    weight: Annotated[float, typer.Option(help="Its share while several teams wait.")] = 1.0,
    max_running_jobs: Annotated[int | None, typer.Option(min=1, help="By default no limit.")] = None,
    gpu_seconds_per_day: Annotated[float | None, typer.Option(min=0, help="By default no limit.")] = None,
) -> None:
    """Make a team, or replace all that it may use."""
    view = session.client.teams.set(
        name, weight=weight, max_running_jobs=max_running_jobs, gpu_seconds_per_day=gpu_seconds_per_day
    )
    session.show(view, listings.teams([view]))


@remote(teams, "ls", example="craft teams ls")
def list_teams(session: Session) -> None:
    """List every team, what it may use and what it uses."""
    found = session.client.teams.list()
    session.show(found, listings.teams(found.data))


def add_to(app: typer.Typer) -> None:
    """Register the commands that stand alone."""
    app.add_typer(keys, name="keys")
    app.add_typer(teams, name="teams")
    remote(app, "audit", example="craft audit --subject cjob_01jgywz3x4v5q6r7s8t9vawbxc")(audit)
    remote(app, "queue", example="craft queue")(queue)
    remote(app, "me", example="craft me")(me)


def audit(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only of this job, key or dataset.")] = None,
) -> None:
    """Show who made what happen in the team, newest first."""
    found: AuditList = session.client.audit.list(limit=limit, after=after, subject=subject)
    session.show(found, listings.audit(found.data))


def queue(session: Session) -> None:
    """Show unfinished jobs, why each waits, and who holds the devices."""
    found = session.client.queue()
    session.show(found, listings.queue(found.data), *([listings.devices(found.devices)] if found.devices else []))


def me(session: Session) -> None:
    """Show who the server takes you for, in which team, and what you may do."""
    found = session.client.me()
    scopes = ", ".join(scope.value for scope in found.scopes)
    operator = " (operator)" if found.operator else ""
    session.show(found, f"{found.actor}{operator} in team {found.team} of {session.client.base_url}", f"may {scopes}")
