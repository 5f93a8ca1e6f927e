"""What an Accept header wants, and the answer where it is not to be had (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.web.http_headers import Headers

from retirecluster.domain.errors import ClusterError

SHOWN_CHARS = 88


def check_accepts(asked: Headers, media_type: str, elsewhere: str) -> None:
    """Raises not_acceptable where the headers rule out the only media type that an address has. `elsewhere` is the
    address that has the same in other formats; empty if there is none."""
    accept = ", ".join(asked.getRawHeaders("Accept") or ())
    if accept not in ("", "*/*") and quality(media_type, accept) <= 0:
        raise not_acceptable(
            f"Accept: {accept}", [media_type, *([f"other formats at {elsewhere}"] if elsewhere else [])]
        )


def not_acceptable(what: str, there: Sequence[str]) -> ClusterError:
    """The error, with what there is instead."""
    said = what[:SHOWN_CHARS]
    shown = said if said.isprintable() and said.isascii() else ascii(said)
    return ClusterError("not_acceptable", f"{shown} is not served here; there is {', '.join(there)}")


def quality(media_type: str, accept: str) -> float:
    """How much an Accept header wants a media type, by its most specific range; 0 for not at all."""
    best, specific = 0.0, -1
    for part in accept.split(","):
        pieces = [piece.strip().lower() for piece in part.split(";")]
        rank = _rank(pieces[0], media_type)
        if rank > specific:
            specific, best = rank, _weight(pieces[1:])
    return best


def _rank(wanted: str, media_type: str) -> int:
    if wanted == media_type:
        return 2
    if wanted.endswith("/*") and wanted[:-1] == media_type[: len(wanted) - 1]:
        return 1
    return 0 if wanted == "*/*" else -1


def _weight(parameters: Sequence[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
