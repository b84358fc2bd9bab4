"""Options that name a reference for each of several things."""

from __future__ import annotations

import click

__all__ = ["references_by_domain"]


def references_by_domain(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Turn ``DOMAIN=REF``, or what the option's metavar says, into references by domain."""
    found: dict[str, str] = {}
    for value in values:
        domain, equals, reference = value.partition("=")
        if not domain or not equals or not reference:
            raise click.BadParameter(f"{value!r}: expected {parameter.metavar}")
        if domain in found:
            raise click.BadParameter(f"{domain} is given twice")
        found[domain] = reference
    return found
