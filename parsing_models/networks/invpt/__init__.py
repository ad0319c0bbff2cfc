"""InvPT (Ye and Xu 2022): the network, and its inverted pyramid of transformers."""
