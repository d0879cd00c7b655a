"""The netboot service of a node: what lets other machines boot from the network, and nobody else."""
