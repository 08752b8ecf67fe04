# Made from craft_client/aio by services/cli/sync_client.py: change it there, then run `make client`.
"""The client that waits."""
