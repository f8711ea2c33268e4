"""Access tokens: JWTs that name a user and the session he is logged in with. One algorithm, every claim required."""

import json
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any

import jwt

ALGORITHM = "HS256"
ISSUER = "dialgraph"
LONGEST_TOKEN = 2048
"""Characters; ours have about 300."""
LONGEST_SECONDS = 31 * 24 * 3600
"""A token that claims to live longer is none of ours."""
FEWEST_SECRET_BYTES = 32


class TokenError(Exception):
    """The token opens nothing."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says."""

    user_id: str
    session_id: str


class Tokens:
    """Makes and reads tokens with one secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, claims: Claims, seconds: int) -> str:
        """A token that lives so long, if its session does."""
        now = int(time.time())
        said = {
            "sub": claims.user_id, "sid": claims.session_id, "iss": ISSUER, "aud": ISSUER,
            "iat": now, "exp": now + seconds,
        }  # fmt: skip
        return jwt.encode(said, self._secret, ALGORITHM)

    def read(self, token: str) -> Claims:
        """What it says. Raises TokenError for one that is not ours, or over."""
        if len(token) > LONGEST_TOKEN:
            raise TokenError("too long")
        try:
            if set(jwt.get_unverified_header(token)) - {"alg", "typ"}:
                raise TokenError("a header that we never write")
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
                raise TokenError("a claim that we never make")
        except (jwt.InvalidTokenError, ValueError, OverflowError, TypeError, RecursionError) as error:
            raise TokenError(type(error).__name__) from error
        return Claims(said["sub"], said["sid"])

    @staticmethod
    def names_us(token: str) -> bool:
        """Return whether a token says that we issued it, whatever its signature, age and session are."""
        try:
            said = json.loads(urlsafe_b64decode(token[:LONGEST_TOKEN].split(".")[1] + "=="))
        except (ValueError, IndexError, RecursionError):
            return False
        return isinstance(said, dict) and said.get("iss") == ISSUER


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise TokenError("a claim twice")
    return found
