"""Parts of the simulated rack: power, networks, coordination, storage, and what runs on the nodes."""
