"""`craft keys …`, `craft teams …`, `craft audit`, `craft queue`, `craft me`"""

from datetime import UTC, datetime
from typing import Annotated

import typer

from craft.contracts.public.accounts import Role, Scope
from craft_cli.session import Session, server_command
from craft_cli.tables import accounts
from craft_cli.tables import queue as queue_tables

app = typer.Typer()
keys = typer.Typer(no_args_is_help=True, help="The team's API keys.")
teams = typer.Typer(no_args_is_help=True, help="Teams, for operators of the installation.")
app.add_typer(keys, name="keys")
app.add_typer(teams, name="teams")


@server_command(keys, "create", example="craft keys create 'nightly runs' --role editor --expires-in-days 90")
def create_key(
    session: Session,
    name: Annotated[str, typer.Argument(help="The purpose of the key.", show_default=False)],
    *,
    role: Annotated[Role, typer.Option()] = Role.EDITOR,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="May be repeated; by default all scopes of the role.")
    ] = None,
    expires_in_days: Annotated[float | None, typer.Option(help="By default the key never expires.")] = None,
) -> None:
    """Make a key and print it; it cannot be shown again."""
    key = session.client.keys.create(name, role=role, scopes=scope or None, expires_in_days=expires_in_days)
    session.show(key, key.key)


@server_command(keys, "ls", example="craft keys ls")
def list_keys(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
) -> None:
    """List the team's keys, newest first, with revoked and expired ones."""
    page = session.client.keys.list(limit=limit, after=after)
    session.show(page, accounts.keys(page.data, now=datetime.now(UTC)))


@server_command(keys, "revoke", example="craft keys revoke ckey_01jgywz3x4v5q6r7s8t9vawbxc")
def revoke_key(session: Session, key_id: Annotated[str, typer.Argument(help="ckey_…", show_default=False)]) -> None:
    """Revoke a key: within five seconds it is refused everywhere."""
    view = session.client.keys.revoke(key_id)
    session.show(view, "revoked")


@server_command(teams, "set", example="craft teams set search --weight 2 --max-running-jobs 4")
def set_team(
    session: Session,
    name: Annotated[str, typer.Argument(show_default=False)],
    *,
    weight: Annotated[float, typer.Option(help="The team's share while several teams wait.")] = 1.0,
    max_running_jobs: Annotated[int | None, typer.Option(min=1, help="By default no limit.")] = None,
    gpu_seconds_per_day: Annotated[float | None, typer.Option(min=0, help="By default no limit.")] = None,
    gpu_seconds_per_job: Annotated[float | None, typer.Option(min=0, help="By default no limit.")] = None,
    max_unfinished_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that wait or run.")] = 1000,
) -> None:
    """Make a team, or replace all limits of a team."""
    view = session.client.teams.set(
        name,
        weight=weight,
        max_running_jobs=max_running_jobs,
        gpu_seconds_per_day=gpu_seconds_per_day,
        gpu_seconds_per_job=gpu_seconds_per_job,
        max_unfinished_jobs=max_unfinished_jobs,
    )
    session.show(view, accounts.teams([view]))


@server_command(teams, "ls", example="craft teams ls")
def list_teams(session: Session) -> None:
    """List all teams, with their limits and their use."""
    page = session.client.teams.list()
    session.show(page, accounts.teams(page.data))


@server_command(app, example="craft audit --subject cjob_01jgywz3x4v5q6r7s8t9vawbxc")
def audit(
    session: Session,
    *,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 100,
    after: Annotated[str | None, typer.Option(help="The last id of the page before.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only entries of this job, key or dataset.")] = None,
) -> None:
    """Show the team's audit log, newest first: who did what."""
    page = session.client.audit.list(limit=limit, after=after, subject=subject)
    session.show(page, accounts.audit(page.data))


@server_command(app, example="craft queue")
def queue(session: Session) -> None:
    """Show the unfinished jobs, the reason why each waits, and the jobs that use the devices."""
    view = session.client.queue()
    devices = [queue_tables.devices(view.devices, now=datetime.now(UTC))] if view.devices else []
    session.show(view, queue_tables.queue(view.data), *devices)


@server_command(app, example="craft me")
def me(session: Session) -> None:
    """Show your name, team and scopes, as the server knows them."""
    caller = session.client.me()
    scopes = ", ".join(scope.value for scope in caller.scopes)
    operator = " (operator)" if caller.operator else ""
    session.show(
        caller, f"{caller.actor}{operator} in team {caller.team} of {session.client.base_url}", f"may {scopes}"
    )
