"""The course: what its notebooks import (`notebook`), how they are made (`authoring`) and graded (`grading`)."""
