"""Access tokens: JWTs that name a user and their session. There is one algorithm, and every claim is required."""

import json
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from importlib import import_module
from typing import Any

ALGORITHM = "HS256"
ISSUER = "dialgraph"
LONGEST_TOKEN = 2048
"""In characters. The server's own tokens have about 300."""
LONGEST_SECONDS = 31 * 24 * 3600
"""The longest time until a token expires. A token that is valid for longer was not issued here."""
FEWEST_SECRET_BYTES = 32


class TokenError(Exception):
    """The token is invalid or expired."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a token: its user and its session."""

    user_id: str
    session_id: str


def load_libraries() -> None:
    """Import what the first token and the first encrypted value need, for a thread.

    The libraries take 8.6 MB and 80 ms. Only a server with users needs them.
    """
    import_module("jwt")
    import_module("cryptography.fernet")


class Tokens:
    """Makes and reads tokens with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, claims: Claims, seconds: int) -> str:
        """Return a token that is valid for this many seconds, as long as its session is."""
        import jwt

        now = int(time.time())
        said = {
            "sub": claims.user_id, "sid": claims.session_id, "iss": ISSUER, "aud": ISSUER,
            "iat": now, "exp": now + seconds,
        }  # fmt: skip
        return jwt.encode(said, self._secret, ALGORITHM)

    def read(self, token: str) -> Claims:
        """Return the claims of a token. Raises TokenError if it was not issued here or has expired."""
        import jwt

        if len(token) > LONGEST_TOKEN:
            raise TokenError("too long")
        try:
            if set(jwt.get_unverified_header(token)) - {"alg", "typ"}:
                raise TokenError("an unknown header")
            said: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                [ALGORITHM],
                issuer=ISSUER,
                audience=ISSUER,
                options={"require": ["sub", "sid", "iat", "exp"]},
            )
            json.loads(urlsafe_b64decode(token.split(".")[1] + "=="), object_pairs_hook=_once)
            if said["exp"] > time.time() + LONGEST_SECONDS or not isinstance(said["sid"], str):
                raise TokenError("an invalid claim")
        except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError, RecursionError) as error:
            raise TokenError(type(error).__name__) from error
        return Claims(said["sub"], said["sid"])

    @staticmethod
    def names_us(token: str) -> bool:
        """Return whether a token names this server as its issuer. Its signature, age and session are not checked."""
        try:
            said = json.loads(urlsafe_b64decode(token[:LONGEST_TOKEN].split(".")[1] + "=="))
        except (ValueError, IndexError, RecursionError):
            return False
        return isinstance(said, dict) and said.get("iss") == ISSUER


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise TokenError("a duplicate claim")
    return found
