"""Opens the users' stores from the settings, for the server and for commands that need no graph."""

from dataclasses import dataclass

from dialgraph.storage.cache import Cache, open_cache
from dialgraph.storage.database import Database
from dialgraph.users.accounts.accounts import Accounts
from dialgraph.users.accounts.secrets import SecretError, open_encryption, open_tokens
from dialgraph.users.conversations.conversations import Conversations
from dialgraph.users.conversations.copies import ConversationCache
from server.settings import Settings, SettingsError, ensure_data_dir


@dataclass(frozen=True, slots=True)
class UserStores:
    """Accounts, conversations and their cache."""

    accounts: Accounts
    conversations: Conversations
    copies: ConversationCache
    cache: Cache

    async def aclose(self) -> None:
        """Close everything except the database. The code that opened the database closes it."""
        await self.accounts.aclose()
        await self.cache.aclose()


def open_user_stores(settings: Settings, database: Database) -> UserStores:
    """Open the stores. Raises SettingsError for a secret or an address that cannot be used."""
    try:
        ensure_data_dir(settings)
        tokens = open_tokens(settings.token_secret.get_secret_value(), settings.data_dir)
        sealed = open_encryption(settings.encryption_keys.get_secret_value(), settings.data_dir)
        cache = open_cache(settings.redis_url.get_secret_value())
    except SecretError as error:
        raise SettingsError(str(error)) from None
    except ValueError as error:
        raise SettingsError(f"Setting {error}") from None
    copies = ConversationCache(cache, sealed)
    return UserStores(Accounts(database, tokens, sealed, cache), Conversations(database, sealed, copies), copies, cache)
