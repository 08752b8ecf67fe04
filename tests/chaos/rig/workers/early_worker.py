"""`python early_worker.py early|late`: a scoring worker with toy stages and a visibility timeout of one second.

"late" is the mutant: it acknowledges a message when its stage is over.
"""

import sys

from celery import Celery

from craft.contracts.stages.kinds import Service
from craft.infra.broker.celery import celery_app
from craft.infra.settings.settings import Settings
from craft.infra.worker import worker

_REDELIVERED_SOON = {"visibility_timeout": 1, "unacked_restore_interval": 1}


def app(settings: Settings) -> Celery:
    """The product's application, whose unacknowledged messages come back within seconds."""
    made = celery_app(settings)
    options = {**made.conf.broker_transport_options, **_REDELIVERED_SOON}
    made.conf.update(broker_transport_options=options, task_acks_late=sys.argv[1] == "late")
    return made


if __name__ == "__main__":
    vars(worker)["celery_app"] = app
    worker.run(Service.SCORING, "toy_stages:stage_functions", Settings())
