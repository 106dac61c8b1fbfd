"""Making the course: sources read into notebooks, lectures executed, checks tried on banks of answers."""
