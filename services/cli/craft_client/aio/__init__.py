"""The asynchronous client. `make client` generates `craft_client.sync` from this folder."""
