"""Grading: what a submission scores, found in a process that never ran the student's code.

## Two processes

For each submission two processes are forked from a third (`stage`), which has loaded torch and run the set-up cells:

- `answer` runs the student's cells, in a world of its own (`namespaces`, `confine`, `world`), and has no check.
- `checker` runs the checks, confined too (Landlock, seccomp). The names of the student's functions and classes are
  proxies there; a call is a message to the other process and its reply (`peer`), both of data alone (`data`, `wire`).

The verdict is what a check cell says in `checker`, by code that no student has touched, of values that it has read from
bytes: exact types, without methods or comparisons of the student's own. Checks are written as for a notebook, where
they run in the student's own process, at once.

## What a check may do

Arguments and results: tensors, numbers, texts, containers of them, generators (whose state goes both ways), None.
What an answer changes in place is changed in the check's tensors too, so that a check can see it (`links`). Besides:

- *Callbacks, networks and objects that a check passes* stay in `checker` and are called from the answer; so what they
  write down is true. The answer's side may rebuild schedules, fields and layers of the library from their data; and
  the checker's, fields, paths and schedules. Of objects the answer sees public attributes, where their class is the
  check's, the library's or torch's. Others, such as files and generators, it can only iterate, index, enter or call.
- *Generators of random numbers* (`draws`): an answer may seed them and draw from them, and not write their states.
- *Gradients* (`gradients`): a result that depends on what the check gave has a place in the check's graph, whose
  backward step asks `answer` for derivatives: tensors of the shapes that torch requires. They are compared here.
  `torch.func` works in both directions too (`transforms`).
- *Classes and modules of the student's* (`proxies`, `modules`): made and called in `answer`; parameters are on both
  sides. Their layers of `torch.nn` and `flowlib.nets` are rebuilt here from names and numbers. What a hook on a layer
  is told (`module_calls`) is what `answer` says of it, compared with what is computed here.
- `unaided`: what an answer calls is looked at in `answer`. This is a rule of the course and not a wall: whoever is
  set on it can defeat it there, or copy the library's lines, which no program would see.

So on the student's side run: the answers, their derivatives, the layers' reports, and the look at forbidden calls. None
of them says "right": they return numbers, and a number that passes the check is the answer.

## What is promised

| | Linux with namespaces | Linux with Landlock and seccomp | Linux without, macOS |
|---|---|---|---|
| No verdict but from `checker` | yes | yes | yes, unless the answer harms that process |
| Reads no other submission, solution, hidden test, environment | yes | yes | no |
| Changes no file, mode, owner outside; no network | yes | yes | no |
| Reaches no other process | yes | with Landlock 6 (Linux 6.12) | no |
| Leaves no process, file or shared memory | yes | processes and its folder | processes and its folder |
| Memory, disk and time bounded | yes | yes; disk looked at every second | yes, looked at ten times a second |
| Results of the others are kept, as they come | yes | yes | yes |

Whatever the system lacks is said in a line. Both hold for root and others; unprivileged users need a system that allows
user namespaces. On macOS nothing has been tried. Windows is refused: grade in WSL. Nowhere promised: that a bug in the
kernel, in torch or numpy is not used; that answers do not resemble each other; that `unaided` sees all.
"""
