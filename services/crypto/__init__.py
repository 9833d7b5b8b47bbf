"""Encryption (sealing), key wrapping and server proofs. The database never stores a usable key or readable text."""

from services.crypto.credentials import Credentials as Credentials
from services.crypto.credentials import Factor as Factor
from services.crypto.credentials import FormerAddress as FormerAddress
from services.crypto.credentials import managed_password as managed_password
from services.crypto.credentials import open_credentials as open_credentials
from services.crypto.credentials import seal_credentials as seal_credentials
from services.crypto.keyring import AccountKeys as AccountKeys
from services.crypto.keyring import RootKeys as RootKeys
from services.crypto.keyring import StepKeys as StepKeys
from services.crypto.keyring import UserKey as UserKey
from services.crypto.keyring import UserKeys as UserKeys
from services.crypto.keyring import VaultRing as VaultRing
from services.crypto.keyring import new_key as new_key
from services.crypto.keyring import refuse_missing as refuse_missing
from services.crypto.password_hash import check_password as check_password
from services.crypto.password_hash import hash_password as hash_password
from services.crypto.plain import PlainKeys as PlainKeys
from services.crypto.proof import ServerProof as ServerProof
from services.crypto.proof import sha as sha
from services.crypto.vault import LARGEST_PIECE as LARGEST_PIECE
from services.crypto.vault import LARGEST_TEXT as LARGEST_TEXT
from services.crypto.vault import Head as Head
from services.crypto.vault import Place as Place
from services.crypto.vault import Vault as Vault
from services.crypto.vault import token_version as token_version
