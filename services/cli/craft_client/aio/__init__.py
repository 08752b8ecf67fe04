"""The client to `await`. `craft_client.sync` is made from this folder: `make client`."""
