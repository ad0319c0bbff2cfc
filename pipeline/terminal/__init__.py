"""How commands speak: one-line mistakes, options, tables, machine-readable results."""
