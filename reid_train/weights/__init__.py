"""Small models trained here, and the command that made each."""
