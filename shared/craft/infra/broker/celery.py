"""The Celery application that the services and the coordinator share. It carries dispatch messages only.

A message need not be reliable: the database says which stages are ready, and the outbox sends a lost message again.
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
            # With early acknowledgement no message waits for redelivery; a short timeout would only repeat messages.
            "visibility_timeout": 86_400,
            # Seconds between searches for messages that a killed worker did not acknowledge; rare, because the outbox
            # sends them again. By default the throttle runs only every tenth one.
            "unacked_restore_interval": 30,
            "unacked_restore_throttle": 1,
            # Without it a publish to a frozen server would hang for ever.
            "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
            # Short, because a sender that waits for an absent server delays the outbox's other rows.
            "socket_connect_timeout": _CONNECT_TIMEOUT_SECONDS,
            # A worker's connection idles for hours; without keepalive a firewall may drop it silently.
            "socket_keepalive": True,
            # Seconds after which a worker notices that an open connection is dead.
            "health_check_interval": 25,
            # Other applications may use the same server.
            "global_keyprefix": "craft:",
        },
        # A worker outlives its broker: it waits for it at the start and after each lost connection.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # The lease in the database protects work; late acknowledgement would run long stages several times.
        task_acks_late=False,
        # One stage at a time: a message taken ahead waits behind a stage of hours while another worker idles.
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        # Results go to the coordinator; a result backend would be a second source of truth.
        result_backend=None,
        task_ignore_result=True,
        # Only JSON is read from a queue that others may write to.
        task_serializer="json",
        accept_content=["json"],
        # A misspelt queue is an error at the sender and not a queue without readers.
        task_create_missing_queues=False,
        task_queues=[Queue(service.value, routing_key=service.value) for service in Service],
        # Every message names its queue; Celery's own default would be a queue that is not declared.
        task_default_queue=Service.DATASETS.value,
        # The lease carries cancels; remote control and events would only cost connections.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        # Our own logs are structured.
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # This concerns late acknowledgement only, which is off; False would warn at each lost connection.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        # No soft shutdown: our runner ends the stage at SIGTERM; Celery's own works only with REMAP_SIGTERM.
    )
    return app


class CeleryQueues:
    """The coordinator's access to the services' queues. Each call returns within seconds or raises Unavailable."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, queue: Service, stage_id: str) -> None:
        """Send a dispatch message: a stage may be ready."""
        send_stage(self._app, queue, stage_id)

    def length(self, queue: Service) -> int:
        """The number of unread dispatch messages on the queue."""
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                channel: Any = producer.channel
                return int(channel.queue_declare(queue=queue.value, passive=True).message_count)
        except ChannelError:
            return 0  # Redis forgets a queue that is empty
        except (OperationalError, RedisError, OSError) as error:
            raise _no_answer() from error


def send_stage(app: Celery, service: Service, stage_id: str) -> None:
    """Send the service's workers a dispatch message: a stage may be ready.

    Returns within seconds or raises Unavailable.
    """
    try:
        app.send_task(
            TASK_NAME,
            kwargs={"stage_id": stage_id},
            queue=service.value,
            ignore_result=True,
            # The outbox retries; a retry here would make its other messages wait.
            retry=False,
        )
    except (OperationalError, OSError) as error:
        raise _no_answer() from error


def _no_answer() -> Unavailable:
    return Unavailable("The message broker does not answer.", hint="Check that Valkey or Redis runs.")
