"""Targets of publishing: valid and refused names."""

import pytest
from pydantic import ValidationError

from craft.contracts.public.publishing import HubTarget


@pytest.mark.parametrize("repo", ["acme/support-qa", "a/b", "Acme-AI/qa_v1.2"])
def test_a_repository_is_an_owner_and_a_name(repo: str) -> None:
    assert HubTarget(kind="hub", repo=repo).repo == repo


@pytest.mark.parametrize(
    "repo", ["acme", "acme/a--b", "acme/a..b", "acme/model.git", "../etc", "acme/", "/qa", "a/b/c", ""]
)
def test_what_the_hub_would_refuse_is_refused_here(repo: str) -> None:
    with pytest.raises(ValidationError):
        HubTarget(kind="hub", repo=repo)
