"""Published parsing networks, plain: images in, logits out, no files and no devices."""
