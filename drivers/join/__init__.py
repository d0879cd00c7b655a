"""Secure join: how a machine that this rack booted exchanges its one-time token for a certificate of its own."""

REVOKED_FILE = "rack.crl"
"""The list of certificates that count no more, beside the authority's own certificate on each node."""
