"""Secure join: how a machine that this rack booted exchanges its one-time token for a certificate of its own."""

REVOKED_FILE = "rack.crl"
"""The list of certificates that count no more, beside the authority's own certificate on each node."""
REVOKED_NAME = f"file:{REVOKED_FILE}"
"""What a certificate calls that list: by its bare name, so that each node looks into its own."""


def names_list(der: bytes) -> bool:
    """Whether a certificate (DER) says where the list of revoked ones is; a server that has a list refuses one without.

    Looks for the name alone: an agent, which asks this of its own certificate, loads no library for it.
    """
    return REVOKED_NAME.encode("ascii") in der
