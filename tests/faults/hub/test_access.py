"""What may not be seen, and what is elsewhere: each has its own error, and no token goes where it does not belong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.hub.scene import NOTHING, REPOSITORY, Here, Scene
from tests.hub_server.server import HubSite

LOGIN = "log in by 'hf auth login', or set HF_TOKEN"
RIGHTS = "your token needs the right to do this; see https://huggingface.co/settings/tokens"

Told = tuple[str, str, str | None]


def missing(site: HubSite) -> None:
    site.hub.repositories.clear()


def private(site: HubSite) -> None:
    site.hub.rename(REPOSITORY, "stranger/medical")
    site.repo("stranger/medical").is_private = True


def gated(site: HubSite) -> None:
    site.hub.rename(REPOSITORY, "stranger/medical")
    site.repo("stranger/medical").gated = "manual"


def renamed(site: HubSite) -> None:
    site.hub.rename(REPOSITORY, "team/medicine")


def disabled(site: HubSite) -> None:
    site.repo(REPOSITORY).is_disabled = True


def foreign(site: HubSite) -> None:
    site.hub.rename(REPOSITORY, "stranger/medical")


OTHER = "stranger/medical"
NO_REPOSITORY = (
    "hub-not-found",
    "there is no such repository, or it is private",
    "check the name; where it is private, your token must have access to it",
)
NO_RIGHT = (
    "hub-access",
    "the Hub forbids it: Authorization error. You have no right to write to stranger/medical.",
    RIGHTS,
)
PULLS: list[tuple[Callable[[HubSite], None], str, Told]] = [
    (missing, REPOSITORY, NO_REPOSITORY),
    (private, OTHER, NO_REPOSITORY),
    (
        gated,
        OTHER,
        (
            "hub-gated",
            "access must be asked for, and yours is not granted",
            "open {endpoint}/stranger/medical and ask for access",
        ),
    ),
    (renamed, REPOSITORY, ("hub-renamed", "its name is now team/medicine", "use hf:team/medicine")),
    (disabled, REPOSITORY, ("hub-disabled", "its owner or the Hub has disabled it", None)),
]
PUSHES: list[tuple[Callable[[HubSite], None], str, str, Told]] = [
    (private, OTHER, "read", NO_REPOSITORY),
    (gated, OTHER, "push to", NO_RIGHT),
    (foreign, OTHER, "push to", NO_RIGHT),
    (renamed, REPOSITORY, "read", PULLS[3][2]),
    (disabled, REPOSITORY, "read", PULLS[4][2]),
]


def name_of(value: object) -> str | None:
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("change", "repository", "told"), PULLS, ids=name_of)
def test_a_pull_tells_apart_why_it_may_not(
    scene: Scene, change: Callable[[HubSite], None], repository: str, told: Told
) -> None:
    commit = scene.fill()
    change(scene.site)
    result = scene.run("pull", repository)
    code, reason, hint = told
    said = (result.code, result.error["code"], result.error["message"], result.error["hint"])
    hint = hint and hint.format(endpoint=scene.site.endpoint)
    # What a gated repository holds can be seen; its files cannot.
    place = f"hf:{repository}" + (f"@{commit}:adapter.air" if change is gated else "")
    assert said == (9, code, f"cannot read {place}: {reason}", hint)
    assert scene.here() == NOTHING


@pytest.mark.parametrize(("change", "repository", "what", "told"), PUSHES, ids=name_of)
def test_a_push_tells_apart_why_it_may_not(
    scene: Scene, change: Callable[[HubSite], None], repository: str, what: str, told: Told
) -> None:
    scene.register()
    scene.site.put(REPOSITORY, {"notes.txt": "mine"})
    change(scene.site)
    before = {name: found.files() for name, found in scene.site.hub.repositories.items()}
    result = scene.run("push", "t", repository)
    code, reason, hint = told
    assert (result.code, result.error["code"]) == (9, code), result.out
    assert result.error["message"] == f"cannot {what} hf:{repository}@main: {reason}"
    assert result.error["hint"] == (hint and hint.format(endpoint=scene.site.endpoint))
    assert {name: found.files() for name, found in scene.site.hub.repositories.items()} == before
    digest = scene.material.digest
    assert scene.here() == Here(revisions=(("t", 1, digest),), blobs=(digest,))


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("hf_mistypedToken", ("hub-token", "the Hub does not accept the token")),
        (None, ("hub-not-found", "there is no such repository, or it is private")),
    ],
    ids=["a wrong token", "no token"],
)
def test_a_private_repository_without_the_right_token(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, token: str | None, told: tuple[str, str]
) -> None:
    scene.site.put(REPOSITORY, {"adapter.air": scene.material.air}, private=True)
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    result = scene.run("pull", REPOSITORY)
    assert (result.code, result.error["code"], result.error["message"]) == (
        9,
        told[0],
        f"cannot read hf:{REPOSITORY}: {told[1]}",
    )
    assert LOGIN in result.error["hint"]
    assert "hf_" not in result.out + result.err
    assert scene.here() == NOTHING


def test_a_granted_request_opens_a_gated_repository(scene: Scene) -> None:
    commit = scene.fill()
    gated(scene.site)
    assert scene.run("pull", OTHER).code == 9
    scene.site.repo(OTHER).granted.add("tester")
    result = scene.run("pull", OTHER)
    assert (result.code, result.document["commit"]) == (0, commit)
    assert [item["digest"] for item in result.document["adapters"]] == [scene.material.digest]
    assert scene.here().left == ()
