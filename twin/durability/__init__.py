"""How likely is the loss of data, and how available is the storage: from the copysets that really exist."""
