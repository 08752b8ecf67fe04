"""`craft completion`"""

from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script

app = typer.Typer()


class Shell(StrEnum):
    """The shells for which there is a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command(epilog="Example: `craft completion bash`")
def completion(shell: Annotated[Shell, typer.Argument(show_default=False)]) -> None:
    """Print a shell's completion script.

    bash: `source <(craft completion bash)` in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit; fish:
    `craft completion fish > ~/.config/fish/completions/craft.fish`.
    """
    print(get_completion_script(prog_name="craft", complete_var="_CRAFT_COMPLETE", shell=shell.value))
