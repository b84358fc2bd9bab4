"""Who asks, and what they may see and change."""

from __future__ import annotations

from urllib.parse import urlencode

from tests.hub_server.messages import Refused, Request
from tests.hub_server.state import Account, Commit, Hub, Repository

__all__ = ["Access"]

_FORBIDDEN = "Authorization error."


class Access:
    """Finds what a request speaks of, as far as whoever asks may know of it.

    Args:
        hub: What there is.
        endpoint: Address of the hub origin, for messages.
    """

    def __init__(self, hub: Hub, endpoint: str) -> None:
        self._hub = hub
        self._endpoint = endpoint

    def account(self, request: Request) -> Account | None:
        """Give whoever asks; ``None`` without a token.

        Raises:
            Refused: The token is not known.
        """
        told = request.headers.get("authorization")
        if told is None:
            return None
        account = self._hub.accounts.get(told.removeprefix("Bearer "))
        if account is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        return account

    def signed_in(self, request: Request) -> Account:
        """Give whoever asks.

        Raises:
            Refused: There is no token, or it is not known.
        """
        account = self.account(request)
        if account is None:
            raise Refused(401, "Invalid username or password.")
        return account

    def repository(self, request: Request) -> Repository:
        """Give the repository of the path, to be looked at.

        Raises:
            Refused: There is none that this account may know of, or it has moved, or is disabled.
        """
        account, name = self.account(request), request.arguments["id"]
        if name in self._hub.moved:
            raise self._moved(request, name)
        found = self._hub.repositories.get(name)
        if found is None or (found.is_private and not (account and account.may_write(name))):
            raise Refused(404 if account else 401, "Repository not found", "RepoNotFound")
        if found.is_disabled:
            raise Refused(403, "Access to this resource is disabled.")
        return found

    def writable(self, request: Request) -> tuple[Repository, Account]:
        """Give the repository of the path, to be changed.

        Raises:
            Refused: As for :meth:`repository`, or this token may not change it.
        """
        found, account = self.repository(request), self.signed_in(request)
        if account.role != "write":
            raise Refused(403, f"{_FORBIDDEN} This token only allows to read.")
        if not account.may_write(found.id):
            raise Refused(403, f"{_FORBIDDEN} You have no right to write to {found.id}.")
        return found, account

    def content(self, request: Request) -> Repository:
        """Give the repository of the path, to read its files.

        Raises:
            Refused: As for :meth:`repository`, or it is gated and has not let this account in.
        """
        found, account = self.repository(request), self.account(request)
        is_in = account is not None and (account.may_write(found.id) or account.name in found.granted)
        if found.gated and not is_in:
            reason = "you are not in the authorized list" if account else "you must be authenticated"
            visit = f"Visit {self._endpoint}/{found.id} to ask for access."
            message = f"Access to model {found.id} is restricted and {reason}. {visit}"
            raise Refused(403 if account else 401, message, "GatedRepo")
        return found

    def commit(self, repository: Repository, revision: str) -> Commit:
        """Find a commit.

        Raises:
            Refused: There is no such revision.
        """
        found = repository.find(revision)
        if found is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def _moved(self, request: Request, name: str) -> Refused:
        """Say where a repository went; the rest of the address stays, and so does the query."""
        while name in self._hub.moved:
            name = self._hub.moved[name]
        path = request.path.replace(request.arguments["id"], name, 1)
        query = urlencode(request.query, doseq=True)
        location = f"{self._endpoint}{path}" + (f"?{query}" if query else "")
        return Refused(307, "Temporary Redirect", headers={"Location": location})
