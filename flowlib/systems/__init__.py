"""Published systems, one file each, composed from the core."""
