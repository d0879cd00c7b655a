"""Timer advice: what each setting of the protocol's timers costs in false alarms and in failover time."""
