"""Turns what a library raises while it loads a model into our errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from craft.errors import CraftError, Internal, ModelRejected
from craft.infra.process.error_mapping import error_of
from craft.infra.process.server_paths import without_paths

_MAX_REASON_LENGTH = 500


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Inside the block a library loads the model called `name`, whose files decide what it raises.

    Raises ModelRejected with the library's words; a lack of memory or of space stays what it is.
    """
    try:
        yield
    except CraftError:
        raise
    except Exception as error:  # libraries raise exceptions of any kind for files that they do not understand
        if type(error_of(error)) is not Internal:
            raise
        reason = " ".join(without_paths(str(error)).split())[:_MAX_REASON_LENGTH]
        raise ModelRejected(
            f"{name} cannot be loaded: {reason or type(error).__name__}",
            hint="Put a whole checkpoint of a model that transformers knows into the model's folder: "
            "`craft models fetch` does.",
            param="base_model",
        ) from error
