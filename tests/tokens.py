"""The tokens of processes that tests start."""

from pydantic import SecretStr

WORKER_TOKEN = SecretStr("the-workers-token-of-tests")
SERVICE_TOKEN = SecretStr("the-services-token-of-tests")
ENVIRONMENT = {
    "CRAFT_WORKER_TOKEN": WORKER_TOKEN.get_secret_value(),
    "CRAFT_SERVICE_TOKEN": SERVICE_TOKEN.get_secret_value(),
    "CRAFT_MODEL_SERVER_TOKEN": "the-model-servers-token-of-tests",
}
SERVICE_HEADERS = {"Authorization": f"Bearer {SERVICE_TOKEN.get_secret_value()}"}
