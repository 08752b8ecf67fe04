"""Settings of the scoring service."""

from craft.infra.settings.listen import Listen


class ScoringSettings(Listen):
    """The scoring service."""

    port: int = 8083
    embedder: str = "sentence-transformers/all-MiniLM-L6-v2"
    embedding_batch: int = 256
