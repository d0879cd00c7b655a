"""The system image that nodes boot: built from Debian packages and our own code, signed, checked, written to disks."""
