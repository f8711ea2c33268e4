"""What is kept of users, opened from the settings: for the server, and for commands that need no graph."""

from dataclasses import dataclass

from dialgraph.storage.cache import Cache, open_cache
from dialgraph.storage.database import Database
from dialgraph.users.accounts.accounts import Accounts
from dialgraph.users.accounts.secrets import SecretError, open_sealed, open_tokens
from dialgraph.users.conversations.conversations import Conversations
from dialgraph.users.conversations.copies import Copies
from server.settings import Settings, SettingsError, ensure_data_dir


@dataclass(frozen=True, slots=True)
class Kept:
    """Accounts and conversations, and the cache before them."""

    accounts: Accounts
    conversations: Conversations
    copies: Copies
    cache: Cache

    async def aclose(self) -> None:
        """Give back what is open, but for the database, which is the caller's."""
        await self.accounts.aclose()
        await self.cache.aclose()


def open_kept(settings: Settings, database: Database) -> Kept:
    """Raises SettingsError for a secret or an address that cannot be used."""
    try:
        ensure_data_dir(settings)
        tokens = open_tokens(settings.token_secret.get_secret_value(), settings.data_dir)
        sealed = open_sealed(settings.encryption_keys.get_secret_value(), settings.data_dir)
        cache = open_cache(settings.redis_url.get_secret_value())
    except SecretError as error:
        raise SettingsError(str(error)) from None
    except ValueError as error:
        raise SettingsError(f"Setting {error}") from None
    copies = Copies(cache, sealed)
    return Kept(Accounts(database, tokens, sealed, cache), Conversations(database, sealed, copies), copies, cache)
