"""Secure join: how a machine that this rack booted exchanges its one-time token for a certificate of its own."""
