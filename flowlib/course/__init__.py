"""The course: building, checking and grading its notebooks, and what they import."""
