"""The Celery application that services and coordinator share: it carries hints, never truth (reliability of a message
is worth nothing here, because the database says what is to be done and a lost hint is sent again).
"""

from typing import Any

from celery import Celery
from kombu import Queue
from kombu.exceptions import ChannelError, OperationalError
from redis.exceptions import RedisError

from craft.contracts.stages.kinds import Service
from craft.errors import Unavailable
from craft.infra.broker.transport import use_dispatch_transport
from craft.infra.settings.settings import Settings

TASK_NAME = "craft.stage"
_SOCKET_TIMEOUT_SECONDS = 10
_CONNECT_TIMEOUT_SECONDS = 3


def celery_app(settings: Settings) -> Celery:
    """A Celery application with the four queues declared. It connects when first used, not here."""
    use_dispatch_transport()
    app = Celery("craft", broker=settings.resolved_broker_url, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            # With early acknowledgement nothing waits for redelivery; a short timeout only repeats messages.
            "visibility_timeout": 86_400,
            # What a killed worker had not acknowledged is looked for seldom: the outbox sends it again. The throttle's
            # default is every tenth time.
            "unacked_restore_interval": 30,
            "unacked_restore_throttle": 1,
            # Without it a frozen server hangs a publish for ever.
            "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
            # A server that is away: whoever sends holds up the outbox's other rows.
            "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            # A worker's connection idles for hours; without it a firewall may forget it and nobody hears.
            "socket_keepalive": True,
            # How long a worker may wait on a connection that is dead although it is open.
            "health_check_interval": 25,
            # A server may be shared with others.
            "global_keyprefix": "craft:",
        },
        # A worker outlives its broker: it waits for it at the start and whenever it goes away.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # The lease in the database is what protects work; late acknowledgement runs long stages several times.
        task_acks_late=False,
        # One stage at a time: a message taken ahead waits behind a stage of hours while another worker idles.
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        # Results go to the coordinator; a result backend would be a second truth.
        result_backend=None,
        task_ignore_result=True,
        # Nothing but JSON is read from a queue that others may write to.
        task_serializer="json",
        accept_content=["json"],
        # A misspelt queue is an error at the sender, not a queue that nobody reads.
        task_create_missing_queues=False,
        task_queues=[Queue(service.value, routing_key=service.value) for service in Service],
        # Every hint names its queue; Celery's own default would be one that is not declared.
        task_default_queue=Service.DATASETS.value,
        # Cancelling goes through the lease; remote control and events only cost connections.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        # Our own logs are structured.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Concerns late acknowledgement only, which we have not; False warns at every loss of the connection.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        # No soft shutdown: at SIGTERM our runner ends the stage itself; Celery's acts only with REMAP_SIGTERM.
    )
    return app


class CeleryQueues:
    """The services' queues as the coordinator uses them. Every call returns within seconds or raises Unavailable."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, queue: Service, stage_id: str) -> None:
        """Tell the service's workers that a stage may be ready."""
        send_stage(self._app, queue, stage_id)

    def length(self, queue: Service) -> int:
        """How many hints lie on the queue unread."""
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                channel: Any = producer.channel
                return int(channel.queue_declare(queue=queue.value, passive=True).message_count)
        except ChannelError:
            return 0  # Redis forgets a queue that is empty
        except (OperationalError, RedisError, OSError) as error:
            raise _no_answer() from error


def send_stage(app: Celery, service: Service, stage_id: str) -> None:
    """Tell the service's workers that a stage may be ready. Returns within seconds or raises Unavailable."""
    try:
        app.send_task(
            TASK_NAME,
            kwargs={"stage_id": stage_id},
            queue=service.value,
            ignore_result=True,
            # No retry here: the outbox is the retry, and it must not wait behind one message.
            retry=False,
        )
    except (OperationalError, OSError) as error:
        raise _no_answer() from error


def _no_answer() -> Unavailable:
    return Unavailable("The message broker does not answer.", hint="Check that Valkey or Redis runs.")
