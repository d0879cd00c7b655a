"""The real rack the core runs in: one file a technology. The drivers come next; today only the ports exist."""
