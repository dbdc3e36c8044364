"""Commands: composition of the rooms below, nothing of their own."""
