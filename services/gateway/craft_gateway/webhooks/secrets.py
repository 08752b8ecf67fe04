"""Makes the secrets of webhooks, encrypts them, and signs as https://www.standardwebhooks.com says."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from craft.errors import Internal, Unavailable
from craft.infra.settings.settings import Settings

SECRET_PREFIX = "whsec_"  # noqa: S105 - the prefix of every secret
KEY_FILE = "webhook.key"
_SECRET_BYTES = 32


def new_secret() -> str:
    """256 random bits in the form that receivers' libraries take."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signatures(of: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: a signature by each of the valid secrets."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return " ".join(f"v1,{_signature(secret, signed)}" for secret in of)


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class SecretBox:
    """Encrypts with the newest key, and decrypts with any of them.

    Without a key in the settings it uses a file, which it makes at the first use.
    """

    def __init__(self, file: Path, *, key: SecretStr | None = None, old_key: SecretStr | None = None) -> None:
        self._file = file
        self._given = [each.get_secret_value() for each in (key, old_key) if each is not None]
        self._only_old = key is None
        self._made: MultiFernet | None = None

    def lock(self, secret: str) -> str:
        """Encrypt a secret for the database. Raises Unavailable."""
        return self._fernet().encrypt(secret.encode()).decode()

    def open(self, locked: str) -> str:
        """Decrypt a secret. Raises Internal if the key has changed, Unavailable."""
        try:
            return self._fernet().decrypt(locked.encode()).decode()
        except InvalidToken:
            raise Internal(
                "The webhook's secret cannot be read any more: the key of the installation has changed.",
                hint="Rotate its secret. Operators: CRAFT_WEBHOOKS__KEY must be the same for gateway and coordinator, "
                "and CRAFT_WEBHOOKS__OLD_KEY the one before.",
            ) from None

    def _fernet(self) -> MultiFernet:
        if self._made is None:
            given = [_file_key(self._file), *self._given] if self._only_old else self._given
            # A hash is enough to derive a key of any text, since settings ask for 32 characters or more.
            derived = (hashlib.sha256(text.encode()).digest() for text in given)
            self._made = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in derived])
        return self._made


def secret_box(settings: Settings) -> SecretBox:
    """The secret box of this installation."""
    return SecretBox(
        settings.state_dir.absolute() / KEY_FILE, key=settings.webhooks.key, old_key=settings.webhooks.old_key
    )


def _file_key(file: Path) -> str:
    """Read the file's key; make one where there is none. Two processes that make it at once agree on one of them."""
    try:
        if not file.exists():
            _make(file)
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Unavailable(
            f"The key of the webhooks cannot be read from {file.name}: {error.__class__.__name__}.",
            hint="Make the state folder writable, or set CRAFT_WEBHOOKS__KEY.",
        ) from error
    if not key:
        raise Unavailable(f"{file.name} is empty.", hint="Restore it, or set CRAFT_WEBHOOKS__KEY.")
    return key


def _make(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
            out.write(secrets.token_hex(_SECRET_BYTES))
            out.flush()
            os.fsync(out.fileno())
        # Whole or not at all, and never over an existing file.
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink(missing_ok=True)
