"""Access tokens and secrets: a forged token is refused, and a secret that can be guessed stops the start."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.fernet import Fernet

from dialgraph.users.accounts.tokens import Claims, TokenError, Tokens
from server.settings import USUAL_RATES, Settings, SettingsError
from server.state import open_state
from tests.server.test_backend_api import backend
from tests.server.test_settings import run
from tests.server.test_users_api import login
from tests.support.accounts import Somebody
from tests.support.serving import serving

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz-and-ABCDEFGHIJKLMNOPQRSTUVWXYZ-too"


def raw(header: dict[str, Any], claims: str, signature: str = "") -> str:
    """Return a token that is built by hand."""
    parts = (json.dumps(header), claims, signature)
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


def forged(user: str, session: str) -> dict[str, str]:
    """Return tokens of many kinds that this server did not issue."""
    now = int(time.time())
    good = {"sub": user, "sid": session, "iss": "dialgraph", "aud": "dialgraph", "iat": now, "exp": now + 60}

    def signed(algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return jwt.encode(claims, SECRET + "x" * 64, algorithm, headers=headers)

    def ours(headers: dict[str, Any] | None = None, **changes: Any) -> str:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return jwt.encode(claims, SECRET, "HS256", headers=headers)

    twice = json.dumps(good)[:-1] + f', "sub": "{user}"}}'
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    body = base64.urlsafe_b64encode(twice.encode()).decode().rstrip("=")
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(f"{head}.{body}".encode(), algorithm.prepare_key(SECRET))
    return {
        "another secret": signed(),
        "none": raw({"alg": "none", "typ": "JWT"}, json.dumps(good)),
        "nOnE": raw({"alg": "nOnE"}, json.dumps(good)),
        "another algorithm": jwt.encode(good, SECRET + "x" * 64, "HS512"),
        "our secret, another algorithm": jwt.encode(good, SECRET, "HS384"),
        "kid": ours({"kid": "../../dev/null"}),
        "jku": ours({"jku": "https://evil.example/keys"}),
        "crit": ours({"crit": ["exp"]}),
        "no end": ours(exp=None),
        "no beginning": ours(iat=None),
        "nobody": ours(sub=None),
        "no session": ours(sid=None),
        "another issuer": ours(iss="else"),
        "another audience": ours(aud="else"),
        "over": ours(exp=now - 1),
        "for ever": ours(exp=10**300),
        "for a year": ours(exp=now + 365 * 24 * 3600),
        "not yet": ours(nbf=now + 3600),
        "a number for a name": ours(sub=7),
        "a list for a session": ours(sid=["x"]),
        "another session": ours(sid="00000000-0000-4000-8000-000000000000"),
        "another user": ours(sub="00000000-0000-4000-8000-000000000000"),
        "a claim twice": f"{head}.{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}",
        "too long": "x" * 60_000 + ".y.z",
        "deep": raw({"alg": "HS256"}, "[" * 3000),
        "no parts": "..",
        "no token": "a.b.c",
    }


async def test_forged_tokens_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, token_secret=SECRET) as served:
        ann, session = await login(served)
        claims = jwt.decode(ann.token, options={"verify_signature": False})
        assert set(claims) == {"sub", "sid", "iss", "aud", "iat", "exp"}
        for kind, token in forged(claims["sub"], claims["sid"]).items():
            reply = await Somebody(served, token).get("/v1/me")
            assert (reply.status, reply.error["code"]) == (401, "invalid_token"), kind
        assert (await ann.get("/v1/me")).status == 200
        assert ann.token == session["access_token"]


def test_refusing_a_token_is_fast() -> None:
    tokens = Tokens(SECRET.encode())
    assert tokens.read(tokens.issue(Claims("u", "s"), 60)) == Claims("u", "s")
    for kind, token in forged("u", "s").items():
        if kind in ("another session", "another user"):
            continue  # only the database can refuse these
        began = time.process_time()
        with pytest.raises(TokenError):
            tokens.read(token)
        assert time.process_time() - began < 0.5, kind


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [
        ("short", "it has fewer than 32 bytes"),
        ("S3cureK3y#2024!AIsafety", "it has fewer than 32 bytes"),
        ("S3cureK3y#2024!AIsafety-and-more-of-it", "it can be guessed"),
        ("a" * 64, "it can be guessed"),
        ("secretsecretsecretsecretsecretsecret", "it can be guessed"),
        ("0123456789ab0123456789ab0123456789ab", "it can be guessed"),
    ],
)
def test_a_secret_that_can_be_guessed_stops_the_start(secret: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=sentence):
        open_state(Settings(data_dir=tmp_path, token_secret=secret))


def test_a_weak_secret_is_reported_in_one_line_without_it() -> None:
    stopped = run("serve", "--port", "0", DIALGRAPH_TOKEN_SECRET="S3cureK3y#2024!AIsafety")
    assert stopped.returncode == 1 and "fewer than 32 bytes" in stopped.stderr and "S3cure" not in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 1


def test_an_invalid_encryption_key_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a key must be 32 random bytes in URL-safe base64"):
        open_state(Settings(data_dir=tmp_path, encryption_keys="x"))


def test_secrets_are_created_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    tmp_path = tmp_path / "data"
    for _ in range(2):
        open_state(Settings(data_dir=tmp_path))
        for file in tmp_path.iterdir():
            file.chmod(0o666)  # as a careless copy would leave them
    open_state(Settings(data_dir=tmp_path))
    assert tmp_path.stat().st_mode & 0o077 == 0
    for name in ("access.token", "token.secret", "encryption.key", "stand-ins.key"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    assert len(list(tmp_path.glob("*"))) == 4


async def test_stored_keys_stay_readable_while_encryption_keys_change(tmp_path: Path) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    async with backend(tmp_path, encryption_keys=old) as (served, _):
        ann, _ = await login(served)
        chat = (await ann.post("/v1/conversations", {"api_key": "sk-1", "model": "gpt-4o"})).json()["id"]
    async with backend(tmp_path, encryption_keys=f"{new},{old}") as (served, up):
        ann = Somebody(served, ann.token)
        await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
        assert up.exchanges[-1].headers["authorization"] == "Bearer sk-1"
        assert await served.state.conversations.rotate() == (1, 0)
    async with backend(tmp_path, encryption_keys=new) as (served, up):
        ann = Somebody(served, ann.token)
        await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
        assert up.exchanges[-1].headers["authorization"] == "Bearer sk-1"
    async with backend(tmp_path, encryption_keys=old) as (served, up):
        ann = Somebody(served, ann.token)
        lost = await ann.post(f"/v1/conversations/{chat}/messages", {"content": "hi"})
        assert lost.error["code"] == "key_unreadable" and not up.exchanges, (
            "only this conversation must fail, and with a clear code"
        )
        fresh = (await ann.post("/v1/conversations", {})).json()["id"]
        assert (await ann.post(f"/v1/conversations/{fresh}/messages", {"content": "hi"})).status == 200


_PASSWORDS = [
    ("x" * 72, 201), ("x" * 73, 400), ("é" * 36, 201), ("é" * 37, 400), ("x" * 2000, 400), ("short", 400),
    ("        ", 400), ("", 400), ("correct\0horse battery", 400), ("🔐🔐🔐🔐🔐🔐🔐🔐", 201),
]  # fmt: skip


async def test_passwords_are_checked_for_length_and_content(tmp_path: Path) -> None:
    async with serving(tmp_path, rates=dict.fromkeys(USUAL_RATES, "")) as served:
        for at, (password, status) in enumerate(_PASSWORDS):
            credentials = {"name": f"ann-{at}", "password": password}
            assert (await served.post("/v1/users", credentials)).status == status, password
            if status == 201:
                for given, told in ((password, 201), (password + "x", 401), (password[:-1], 401)):
                    assert (await served.post("/v1/sessions", {**credentials, "password": given})).status == told


async def test_all_spellings_of_a_name_are_one_user(tmp_path: Path) -> None:
    async with serving(tmp_path, rates={"register": "", "login": ""}) as served:
        assert (await served.post("/v1/users", {"name": "Ännchen", "password": "Schlüssel-é"})).status == 201
        for name in ("ännchen", "ÄNNCHEN", "A\u0308nnchen", " Ännchen "):
            reply = await served.post("/v1/users", {"name": name, "password": "Schlüssel-é"})
            assert (reply.status, reply.error["code"]) == (409, "name_taken"), name
            session = await served.post("/v1/sessions", {"name": name, "password": "Schlu\u0308ssel-e\u0301"})
            assert session.status == 201, name


async def test_fifty_parallel_registrations_create_one_user(tmp_path: Path) -> None:
    async with serving(tmp_path, rates={"register": ""}) as served:
        credentials = {"name": "ann", "password": "correct horse battery"}
        replies = [
            await reply for reply in asyncio.as_completed([served.post("/v1/users", credentials) for _ in range(50)])
        ]
        statuses = [reply.status for reply in replies]
        assert statuses.count(201) == 1 and set(statuses) <= {201, 409, 429}
        assert await served.state.accounts.users.all() == [("ann", False)]
