"""Checks made when a store over tables is opened: its root key, its first admin, and the one user of a store without sign-in."""

from dataclasses import replace

from services.crypto import RootKeys
from services.errors import Misconfigured
from services.store.backend import StoredCredentials
from services.store.tables import schema
from services.store.tables.access import settings_of
from services.store.tables.administration import admins_of, has_accounts
from services.store.tables.protocol import AllTables, Block
from services.store.tables.schema import RootKeyTag


def stored_tag(block: Block, root_keys: RootKeys) -> RootKeyTag | None:
    """Return the store's tag; None for a new store. Raise Misconfigured unless it is the tag of one of *root_keys*."""
    stored = block.get(schema.ROOT_KEY, "root key")
    is_ours = stored and root_keys.store_tags().get(stored.version) == stored.tag
    if not is_ours and (stored or has_accounts(block)):
        raise Misconfigured(
            "The root key is not the one that this store was made with: put that one back, beside newer ones."
        )
    return stored


def check_root_key(tables: AllTables, root_keys: RootKeys, *, is_start: bool = True) -> None:
    """Raise Misconfigured unless one of *root_keys* belongs to the store.

    The store contains one tag, of the root key that was current when the app last started (*is_start*). An operator's
    command does not replace the tag, because the app may have another current key, and because a key that was never
    current may be removed again.
    """
    new = RootKeyTag(root_keys.current, root_keys.store_tags()[root_keys.current])

    def check(block: Block) -> None:
        stored = stored_tag(block, root_keys)
        if stored is None or (is_start and stored != new):
            block.put(schema.ROOT_KEY, new)

    tables.of(None).run(check)


def let_first_account_be_admin(tables: AllTables, *, is_let: bool) -> bool:
    """Set whether the first account becomes admin (*is_let*); return True if there is an admin already."""

    def let(block: Block) -> bool:
        settings, admins = settings_of(block), admins_of(block)
        if settings.first_account_is_admin is not is_let:
            block.put(schema.SETTINGS, replace(settings, first_account_is_admin=is_let))
        return bool(admins)

    return tables.of(None).run(let)


def only_account(tables: AllTables) -> StoredCredentials | None:
    """Return the credentials of the one account; None if there is no account.

    Raise Misconfigured if there are several accounts, or if the credentials are missing.
    """

    def read(block: Block) -> StoredCredentials | None:
        accounts = block.select(schema.ACCOUNTS, {"deleted_at": None}, limit=2)
        if len(accounts) > 1:
            raise Misconfigured(
                "This store has accounts of several people, who need passwords: set DAYBOOK_SIGN_IN=local."
            )
        if not accounts:
            return None
        credentials = block.get(schema.CREDENTIALS, accounts[0].id)
        if credentials is None:  # a new account would hide the old account's chats
            raise Misconfigured(
                "The credentials of this store's account are gone, and its chats open with them alone: put a backup back."
            )
        return credentials

    return tables.of(None).run(read)
