"""The one error tree. Each class has an HTTP status, a code, a fault (user or system) and says if a retry may help.

CraftError
├── UserError                      the caller can correct it                           fault=user
│   ├── HeaderRepeated             400 header_repeated      (a header that may come once came twice)
│   ├── RequestInvalid             422 request_invalid
│   │   ├── DatasetInvalid         422 dataset_invalid      (carries row errors)
│   │   ├── HostUnknown            422 request_invalid      (a host name of the user has no address)
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
│   ├── RateLimited                429 rate_limited         retryable (says when to try again)
│   ├── QuotaExceeded              429 quota_exceeded       (a limit of the caller's team)
│   ├── TooFewKnown                422 too_few_known
│   ├── TooFewUnknown              422 too_few_unknown
│   ├── RehearsalTooShort          422 rehearsal_too_short
│   ├── RepliesUnusable            422 replies_unusable     (a stage stopped early; carries findings)
│   └── TuningUnusable             422 tuning_unusable
└── SystemFault                    a fault of this system or its machines              fault=system
    ├── Internal                   500 internal
    │   └── MissingStates          500 internal             (a join lost a question)
    ├── ArtifactDamaged            410 artifact_damaged     (stored bytes are not the ones that were written)
    ├── AdapterUnservable          500 adapter_unservable
    ├── PublishingRefused          502 publishing_refused   (a registry or hub refuses; only people can correct it)
    ├── ServerUnsuitable           502 server_unsuitable    (a vLLM of the team's own would give other numbers)
    ├── DiskFull                   507 disk_full            retryable
    ├── HostOutOfMemory            503 host_oom             retryable
    │   └── HostTooSmall           503 host_oom             (a training row alone does not fit: it never will here)
    ├── GpuOutOfMemory             503 gpu_oom              retryable
    │   └── GpuTooSmall            503 gpu_oom              (as above)
    ├── DeviceFailed               503 device_failed        retryable
    ├── DeploymentChanged          503 deployment_changed   retryable (a worker computes otherwise than was agreed)
    ├── Unavailable                503 unavailable          retryable
    │   └── DeviceBusy             503 device_busy          retryable
    ├── StageTimeout               504 timeout              retryable
    ├── WorkerLost                 500 worker_lost          retryable
    └── LeaseLost                  409 lease_lost           (an old fencing token: stop and change nothing)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Fault(StrEnum):
    """The side that can correct an error: USER, the caller; SYSTEM, the people who run the system."""

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


class Severity(StrEnum):
    """ERROR stops the work unless the caller accepts it by its code; WARNING stays on record only."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class FindingDetail:
    """Something noticed that could make a result wrong. `count` rows or replies have it.

    `lines` are the first ten lines with it, from 1; `examples` at most three excerpts of at most 120 characters.
    `accepted` is true for an error that the caller accepted, which is a warning from then on.
    """

    code: str
    severity: Severity
    message: str
    hint: str | None = None
    field: str | None = None
    count: int = 1
    lines: tuple[int, ...] = ()
    examples: tuple[str, ...] = ()
    accepted: bool = False


class CraftError(Exception):
    """The base of all our errors.

    `hint` says what to do next; `param` names the field to change; `headers` are HTTP headers of the answer;
    `findings` are the error findings that stopped the work, and the warnings beside them.
    """

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
        headers: Mapping[str, str] | None = None,
        findings: Sequence[FindingDetail] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.param = param
        self.details = tuple(details)
        self.headers = dict(headers or {})
        self.findings = tuple(findings)


class UserError(CraftError):
    """The caller can correct it."""

    status = 400
    code = "bad_request"
    fault = Fault.USER


class HeaderRepeated(UserError):
    """A header came more than once, and two programs could go by different ones."""

    code = "header_repeated"


class RequestInvalid(UserError):
    """The request does not have the documented form."""

    status = 422
    code = "request_invalid"


class DatasetInvalid(RequestInvalid):
    """Rows of a dataset cannot be used. `details` has up to 100 of them; `error_counts` counts all by kind.

    `findings` are the errors that need an `accept`, and the warnings beside them.
    """

    code = "dataset_invalid"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        param: str | None = None,
        details: Sequence[ErrorDetail] = (),
        error_counts: Mapping[str, int] | None = None,
        findings: Sequence[FindingDetail] = (),
    ) -> None:
        super().__init__(message, hint=hint, param=param, details=details, findings=findings)
        self.error_counts = dict(error_counts or {})


class HostUnknown(RequestInvalid):
    """The host in a URL has no address."""


class IdempotencyConflict(RequestInvalid):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_conflict"


class ModelRejected(RequestInvalid):
    """The model folder cannot be loaded: pickled weights, remote code or an unknown architecture."""

    code = "model_unsupported"


class ModelNotFound(UserError):
    """This installation has no such model."""

    status = 422
    code = "model_not_found"


class ModelGated(UserError):
    """The hub asks for a token, or for consent to a licence."""

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
    """The key or token is valid, but does not allow this."""

    status = 403
    code = "forbidden"


class NotFound(UserError):
    """There is no such resource, or it belongs to another team."""

    status = 404
    code = "not_found"


class Conflict(UserError):
    """The resource's state does not allow this."""

    status = 409
    code = "conflict"


class PayloadTooLarge(UserError):
    """The body is larger than the server accepts."""

    status = 413
    code = "payload_too_large"


class RangeNotSatisfiable(UserError):
    """The file has no such part."""

    status = 416
    code = "range_not_satisfiable"


class RateLimited(UserError):
    """Too many requests with one key."""

    status = 429
    code = "rate_limited"
    retryable = True


class QuotaExceeded(UserError):
    """A limit of the caller's team is reached. An operator can raise it."""

    status = 429
    code = "quota_exceeded"


class TooFewKnown(UserError):
    """The model knows too few of the questions for the set that was asked for."""

    status = 422
    code = "too_few_known"


class TooFewUnknown(UserError):
    """The model fails too few of the questions for the set that was asked for."""

    status = 422
    code = "too_few_unknown"


class RehearsalTooShort(UserError):
    """Rehearsal made fewer optimiser steps than the minimum, so its flow would be noise."""

    status = 422
    code = "rehearsal_too_short"


class RepliesUnusable(UserError):
    """A model's replies make every later number nonsense: cut, thought, empty, all alike, or never right."""

    status = 422
    code = "replies_unusable"


class TuningUnusable(UserError):
    """Training gave no usable adapter: its loss is no number, there was nothing to learn, or it changes no reply."""

    status = 422
    code = "tuning_unusable"


class SystemFault(CraftError):
    """A fault of this system or of its machines."""


class Internal(SystemFault):
    """A defect of this system."""


class MissingStates(Internal):
    """Two tables lack questions of one another, although they must have the same."""


class ArtifactDamaged(SystemFault):
    """Stored bytes are not the ones that were written, or are gone: they are not used, and must be made again."""

    status = 410
    code = "artifact_damaged"


class AdapterUnservable(SystemFault):
    """The adapter answers differently in the serving engine than in training."""

    code = "adapter_unservable"


class PublishingRefused(SystemFault):
    """The publishing target refuses: credentials, rights or settings are missing or wrong."""

    status = 502
    code = "publishing_refused"


class ServerUnsuitable(SystemFault):
    """A vLLM server that people run is set up so that a stage's numbers would be others. The hint names the option."""

    status = 502
    code = "server_unsuitable"


class DiskFull(SystemFault):
    """The disk is full where the artifact was written."""

    status = 507
    code = "disk_full"
    retryable = True


class HostOutOfMemory(SystemFault):
    """The machine's memory ran out."""

    status = 503
    code = "host_oom"
    retryable = True


class GpuOutOfMemory(SystemFault):
    """The accelerator's memory ran out."""

    status = 503
    code = "gpu_oom"
    retryable = True


class HostTooSmall(HostOutOfMemory):
    """One training row alone needs more than the machine's memory: another attempt would end in the same way."""

    retryable = False


class GpuTooSmall(GpuOutOfMemory):
    """One training row alone needs more than the accelerator's memory: another attempt would end in the same way."""

    retryable = False


class DeviceFailed(SystemFault):
    """The accelerator, its driver or its libraries failed: work on it gives no result, or a wrong one."""

    status = 503
    code = "device_failed"
    retryable = True


class DeploymentChanged(SystemFault):
    """This worker's versions, device or settings are not those with which the job was accepted."""

    status = 503
    code = "deployment_changed"
    retryable = True


class Unavailable(SystemFault):
    """A part of the system does not answer at the moment."""

    status = 503
    code = "unavailable"
    retryable = True


class DeviceBusy(Unavailable):
    """Another process uses the accelerator, or the server on it, at the moment."""

    code = "device_busy"


class StageTimeout(SystemFault):
    """A stage ran longer than its time limit."""

    status = 504
    code = "timeout"
    retryable = True


class WorkerLost(SystemFault):
    """The process that ran the stage died."""

    code = "worker_lost"
    retryable = True


class LeaseLost(SystemFault):
    """The fencing token is old: another worker has the stage."""

    status = 409
    code = "lease_lost"
