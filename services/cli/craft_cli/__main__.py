"""`python -m craft_cli` runs the command `craft`."""

from craft_cli.main import main

main()
