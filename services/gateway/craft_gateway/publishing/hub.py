"""Publishes to a repository of a model hub. Only this file imports huggingface_hub's client."""

from contextlib import ExitStack

import httpx2
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils.tqdm import disable_progress_bars

from craft.contracts.public.publishing import HubTarget, PublishTarget
from craft.errors import CraftError, Internal, PublishingRefused, Unavailable
from craft.infra.settings.publishing import ModelHubSettings
from craft_gateway.publishing.package import AdapterPackage, Published

_LATER = frozenset({408, 409, 412, 425, 429})
"""Statuses that a later attempt may not meet. 409 and 412: another client committed at the same moment."""


class HubPublisher:
    """A `Publisher` to a hub. It makes one commit; the client omits files that the repository already has."""

    def __init__(self, settings: ModelHubSettings) -> None:
        disable_progress_bars()
        self._endpoint = settings.endpoint.rstrip("/")
        self._api = HfApi(endpoint=self._endpoint, token=settings.token.get_secret_value(), library_name="craft")

    def publish(self, package: AdapterPackage, target: PublishTarget) -> Published:
        """See `Publisher.publish`."""
        if not isinstance(target, HubTarget):
            raise Internal(f"A hub is no {target.kind}.")
        try:
            return self._publish(package, target)
        except Exception as error:
            known = _known_error(error)
            if known is None:
                raise
            raise known from error

    def _publish(self, package: AdapterPackage, target: HubTarget) -> Published:
        self._api.create_repo(target.repo, private=target.private, exist_ok=True)
        if target.private and not self._api.repo_info(target.repo).private:
            raise PublishingRefused(
                f"{target.repo} is public already.", hint='Make it private on the hub, or say "private": false.'
            )
        with ExitStack() as files:
            # Open files, not paths: the client sends open files over plain HTTPS, which any proxy lets through, instead
            # of by a second protocol of its own.
            operations = [
                CommitOperationAdd(path, files.enter_context(file.open("rb"))) for path, file in package.files.items()
            ]
            commit = self._api.create_commit(
                target.repo,
                [*operations, CommitOperationAdd("README.md", package.card.encode())],
                commit_message=target.commit_message or f"Adapter of {package.job_id} ({package.strategy.value})",
                commit_description=f"Digest {package.digest}.",
            )
        return Published(f"{self._endpoint}/{target.repo}", commit.oid)


def _known_error(error: Exception) -> CraftError | None:
    """Return the first known error in the chain, because the client wraps errors; it says whether to try again."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CraftError):
            return cause
        if isinstance(cause, HfHubHTTPError):
            return _response_error(cause)
        if isinstance(cause, httpx2.TransportError):
            return Unavailable(
                f"The hub does not answer: {type(cause).__name__} {cause}"[:500],
                hint="It is tried again automatically.",
            )
        if isinstance(cause, HFValidationError):
            return PublishingRefused(str(cause)[:500], hint="Choose another repository.")
        cause = cause.__cause__
    return None


def _response_error(error: HfHubHTTPError) -> CraftError:
    status = error.response.status_code
    message = f"The hub answers {status}: {error.server_message or ''}"[:500].rstrip(": ")
    if status >= 500 or status in _LATER:
        return Unavailable(message, hint="It is tried again automatically.")
    if status in {401, 403}:
        hint = "Have an operator set CRAFT_PUBLISHING__HUB__TOKEN to one that may write there; then publish again."
        return PublishingRefused(message, hint=hint)
    return PublishingRefused(message, hint="Correct what the hub reports; then publish again.")
