"""`craft completion`"""

from enum import StrEnum
from typing import Annotated

import typer
from typer._completion_shared import get_completion_script


class Shell(StrEnum):
    """Shells that complete the command's words."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(show_default=False)]) -> None:
    """Print a shell's completion script.

    bash: `source <(craft completion bash)` in ~/.bashrc; zsh: the same in ~/.zshrc, after compinit; fish:
    `craft completion fish > ~/.config/fish/completions/craft.fish`.
    """
    print(get_completion_script(prog_name="craft", complete_var="_CRAFT_COMPLETE", shell=shell.value))
