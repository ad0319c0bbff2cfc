"""Features of one's own images, and ranked matches among them."""
