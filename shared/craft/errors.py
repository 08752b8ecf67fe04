"""The one error tree. Each class knows its HTTP status, its code, whose fault it is and whether a retry may help.

CraftError
├── UserError                      the caller can mend it                              fault=user
│   ├── RequestInvalid             422 request_invalid
│   │   ├── DatasetInvalid         422 dataset_invalid      (carries row errors)
│   │   ├── HostUnknown            422 request_invalid      (a name that the user gave resolves to nothing)
│   │   ├── IdempotencyConflict    422 idempotency_conflict
│   │   └── ModelRejected          422 model_unsupported
│   ├── ModelNotFound              422 model_not_found
│   ├── ModelGated                 422 model_gated
│   ├── ContextTooLong             422 context_too_long
│   ├── Unauthenticated            401 unauthorized
│   ├── Forbidden                  403 forbidden
│   ├── NotFound                   404 not_found
│   ├── Conflict                   409 conflict
│   ├── PayloadTooLarge            413 payload_too_large
│   ├── RangeNotSatisfiable        416 range_not_satisfiable
│   ├── RateLimited                429 rate_limited         retryable (carries when to try again)
│   ├── TooFewKnown                422 too_few_known
│   ├── TooFewUnknown              422 too_few_unknown
│   └── RehearsalTooShort          422 rehearsal_too_short
└── SystemError_                   ours or the machine's                               fault=system
    ├── Internal                   500 internal
    │   └── MissingStates          500 internal             (a join lost a question)
    ├── AdapterUnservable          500 adapter_unservable
    ├── PublishingRefused          502 publishing_refused   (a registry or hub says no; only people can mend it)
    ├── DiskFull                   507 disk_full            retryable
    ├── HostOutOfMemory            503 host_oom             retryable
    ├── GpuOutOfMemory             503 gpu_oom              retryable
    ├── Unavailable                503 unavailable          retryable
    │   └── DeviceBusy             503 device_busy          retryable
    ├── StageTimeout               504 timeout              retryable
    ├── WorkerLost                 500 worker_lost          retryable
    └── LeaseLost                  409 lease_lost           (an old fencing token: stop, change nothing)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """Who can mend an error: the caller, or the people who run the system."""

    USER = "user"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One place in the caller's input that is wrong.

    `line` counts from 1; `excerpt` is at most 120 characters of the offending value.
    """

    message: str
    field: str | None = None
    line: int | None = None
    excerpt: str | None = None


class CraftError(Exception):
    """Base of all errors that carry a code. `hint` says what to do next; `param` names the field to change."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = Fault.SYSTEM
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        details: Sequence[ErrorDetail] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.details = tuple(details)


class UserError(CraftError):
    """The caller can mend it."""

    status = 400
    code = "bad_request"
    fault = Fault.USER


class RequestInvalid(UserError):
    """The request does not have the documented form."""

    status = 422
    code = "request_invalid"


class DatasetInvalid(RequestInvalid):
    """Rows of a dataset cannot be used; `details` holds up to 100 of them, `error_counts` all by kind."""

    code = "dataset_invalid"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        details: Sequence[ErrorDetail] = (),
        error_counts: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, param=param, details=details)
        self.error_counts = dict(error_counts or {})


class HostUnknown(RequestInvalid):
    """The host that a URL names has no address."""


class IdempotencyConflict(RequestInvalid):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_conflict"


class ModelRejected(RequestInvalid):
    """The model folder is not something we load (pickled weights, remote code, unknown architecture)."""

    code = "model_unsupported"


class ModelNotFound(UserError):
    """No such model here."""

    status = 422
    code = "model_not_found"


class ModelGated(UserError):
    """The hub asks for a licence click or a token."""

    status = 422
    code = "model_gated"


class ContextTooLong(UserError):
    """A prompt is longer than the model's context."""

    status = 422
    code = "context_too_long"


class Unauthenticated(UserError):
    """No valid key or token came with the request."""

    status = 401
    code = "unauthorized"


class Forbidden(UserError):
    """The key or token is valid, and does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(UserError):
    """No such resource (or it belongs to another team, which is told the same)."""

    status = 404
    code = "not_found"


class Conflict(UserError):
    """The resource's state does not allow this."""

    status = 409
    code = "conflict"


class PayloadTooLarge(UserError):
    """The body is larger than the server takes."""

    status = 413
    code = "payload_too_large"


class RangeNotSatisfiable(UserError):
    """The file has no such part; `size` is how many bytes it has."""

    status = 416
    code = "range_not_satisfiable"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        details: Sequence[ErrorDetail] = (),
        size: int = 0,
    ) -> None:
        super().__init__(message, hint=hint, param=param, details=details)
        self.size = size


class RateLimited(UserError):
    """Too many requests with one key."""

    status = 429
    code = "rate_limited"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        details: Sequence[ErrorDetail] = (),
        retry_after_seconds: int = 1,
    ) -> None:
        super().__init__(message, hint=hint, param=param, details=details)
        self.retry_after_seconds = retry_after_seconds


class TooFewKnown(UserError):
    """The model knows too few of the questions for the set that was asked for."""

    status = 422
    code = "too_few_known"


class TooFewUnknown(UserError):
    """The model fails too few of the questions for the set that was asked for."""

    status = 422
    code = "too_few_unknown"


class RehearsalTooShort(UserError):
    """Rehearsal made fewer optimiser steps than the minimum, so the flow would be noise."""

    status = 422
    code = "rehearsal_too_short"


class SystemError_(CraftError):  # noqa: N801 - SystemError is Python's own
    """Ours or the machine's to mend."""


class Internal(SystemError_):
    """A defect of this system."""


class MissingStates(Internal):
    """Two tables that must hold the same questions do not."""


class AdapterUnservable(SystemError_):
    """The adapter does not answer in the serving engine as it did in training."""

    code = "adapter_unservable"


class PublishingRefused(SystemError_):
    """The place to publish to does not take it: credentials, rights or settings are missing or wrong."""

    status = 502
    code = "publishing_refused"


class DiskFull(SystemError_):
    """No space left where the artifact was being written."""

    status = 507
    code = "disk_full"
    retryable = True


class HostOutOfMemory(SystemError_):
    """The machine's memory ran out."""

    status = 503
    code = "host_oom"
    retryable = True


class GpuOutOfMemory(SystemError_):
    """The accelerator's memory ran out."""

    status = 503
    code = "gpu_oom"
    retryable = True


class Unavailable(SystemError_):
    """A part of the system does not answer just now."""

    status = 503
    code = "unavailable"
    retryable = True


class DeviceBusy(Unavailable):
    """The accelerator, or the server on it, is needed by somebody else just now."""

    code = "device_busy"


class StageTimeout(SystemError_):
    """A stage ran past its deadline."""

    status = 504
    code = "timeout"
    retryable = True


class WorkerLost(SystemError_):
    """The process that did the stage died."""

    code = "worker_lost"
    retryable = True


class LeaseLost(SystemError_):
    """The fencing token is old: somebody else does this stage now."""

    status = 409
    code = "lease_lost"
