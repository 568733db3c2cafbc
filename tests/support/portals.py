"""A plain client of the replica's portal, which shares no code with the kit."""

from __future__ import annotations

import csv
import io
import zipfile

import requests

from scraperkit.replica import Replica


class Client:
    """A plain HTTP client of a replica's portal."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.get(self.replica.open_data_url + path, headers=named, timeout=60, allow_redirects=False)

    def file(self, what: str) -> requests.Response:
        return self.get(self.replica.portal.path(what))

    def members(self, what: str) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(self.file(what).content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def rows(self, what: str) -> list[dict[str, str]]:
        return [row for content in self.members(what).values() for row in table(content)]


def table(content: bytes) -> list[dict[str, str]]:
    text = io.StringIO(content.decode("iso-8859-1"), newline="")
    return list(csv.DictReader(text, delimiter=";", quoting=csv.QUOTE_NONE))
