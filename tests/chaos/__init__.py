"""What is killed, crowded and starved of disk ends as what was left in peace."""
