"""What is said of an id that names nothing, or something of another team: the two must not differ."""

from craft.errors import NotFound


def no_job() -> NotFound:
    """For `/jobs/{job_id}`."""
    return NotFound("There is no job with this id.", hint="`GET /craft/jobs` lists them.")


def no_dataset() -> NotFound:
    """For `/datasets/{dataset_id}`."""
    return NotFound("There is no dataset with this id.", hint="`GET /craft/datasets` lists them.")


def no_key() -> NotFound:
    """For `/api-keys/{key_id}`."""
    return NotFound("There is no key with this id.", hint="`GET /craft/api-keys` lists them.")


def no_webhook() -> NotFound:
    """For `/webhooks/{webhook_id}`."""
    return NotFound("There is no webhook with this id.", hint="`GET /craft/webhooks` lists them.")


def no_delivery() -> NotFound:
    """For `/webhooks/{webhook_id}/deliveries/{delivery_id}`."""
    return NotFound(
        "There is no delivery with this id.", hint="`GET /craft/webhooks/{id}/deliveries` lists them for some days."
    )


def no_team(name: str) -> NotFound:
    """For the team that a request names."""
    return NotFound(
        f"There is no team {name[:100]!r}.",
        hint="An operator makes it with `PUT /craft/teams/{team}`.",
        param="Craft-Team",
    )


def no_model(name: str) -> NotFound:
    """For a deployed adapter's name."""
    return NotFound(f"There is no deployed model {name[:100]!r}; GET /v1/models lists them.")


def no_file() -> NotFound:
    """For OpenAI's `/files/{file_id}`."""
    return NotFound("There is no file with this id.", hint="`GET /v1/files` lists them.", param="file_id")


def no_tuning_job() -> NotFound:
    """For OpenAI's `/fine_tuning/jobs/{fine_tuning_job_id}`."""
    hint = "`GET /v1/fine_tuning/jobs` lists them."
    return NotFound("There is no fine-tuning job with this id.", hint=hint, param="fine_tuning_job_id")
