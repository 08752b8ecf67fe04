"""Publications in a terminal."""

from craft.contracts.public.publishing import MlflowTarget, PublicationView


def publication_line(view: PublicationView) -> str:
    """One line: the target, the status, and the address or the reason for a failure."""
    target = view.target
    name = target.model_name if isinstance(target, MlflowTarget) else target.repo
    detail = f"{view.url} ({view.version})" if view.url else ""
    if view.error is not None:
        detail = " ".join(filter(None, (f"{view.error.code}: {view.error.message}", view.error.hint)))
    return f"{view.id} {target.kind}:{name} {view.strategy} {view.status} {detail}".rstrip()
