"""Engines that execute the graph: this process, local processes, a cluster."""
