"""From an ordinary ``nn.Module`` to a tile program: what can be run on tiles, and how."""
