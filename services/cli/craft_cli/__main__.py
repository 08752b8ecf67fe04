"""`python -m craft_cli` is `craft`."""

from craft_cli.main import main

main()
