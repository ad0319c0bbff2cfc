"""Images: decoded by content, resized, packed into one array."""
