"""Grading: what a submission scores, found in a process of its own that can harm neither grader nor other answers."""
