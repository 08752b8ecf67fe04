# Generated from craft_client/aio by craft_client/_generate_sync.py: change it there, then run `make client`.
"""The synchronous client."""
