"""Where the running API answers, left in the data folder for a second process of the same deployment."""

import json
from pathlib import Path

from services.embedded import keys
from services.embedded.lock import is_locked
from services.embedded.plan import Endpoints
from services.errors import Misconfigured

_NAME = "address.json"


def write_address(data: Path, url: str, key: str) -> None:
    keys.write_private(data / _NAME, json.dumps({"url": url, "key": key}))


def running_address(data: Path) -> Endpoints:
    """Where the API of the app over *data* answers. Raise Misconfigured if none is running."""
    path = data / _NAME
    if not (is_locked(data) and path.exists()):
        raise Misconfigured(f"No Daybook is running on {data}: start it first.")
    fields = json.loads(path.read_text())
    return Endpoints(supabase_url=fields["url"], publishable_key=fields["key"])
