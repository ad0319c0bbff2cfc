"""SCHP (Li et al. 2019): the network as trained, and the part inference needs."""
