"""How anything trains: the task interface, the one loop, devices, checkpoints. Knows no method."""
