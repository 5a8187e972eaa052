"""Gene ids, aliases and marker programmes: one name for one gene everywhere."""
