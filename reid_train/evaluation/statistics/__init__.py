"""How sure the figures of an evaluation are: intervals, paired tests, chance, camera pairs."""
