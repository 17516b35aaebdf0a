"""What the emulated Azure knows and does: items, jobs, plans, the world, and where they are kept."""
