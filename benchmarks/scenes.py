"""Milliseconds to make a batch of scenes, with all captions and annotations, on one core:

    python benchmarks/scenes.py

Sets take turns in every round. The goal is 5 ms for 64 scenes of 16 x 16 pixels. Takes half a minute.
"""

import statistics

import torch
from _common import interleave, parser_of, prepare, publish

from flowlib.data.scenes import SETS, Scenes

GOAL = 5.0  # ms for 64 scenes of 16 x 16


def main() -> None:
    parser = parser_of(__doc__, batch_size=64, repetitions=100, threads=1, seed=0, write=None)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="which sets")
    arguments = parser.parse_args()
    prepare(arguments)
    sets, asked = {name: Scenes(*SETS[name]) for name in arguments.sets}, [0]

    def batch(name: str) -> None:
        asked[0] += arguments.batch_size
        sets[name].batch(torch.arange(asked[0], asked[0] + arguments.batch_size))

    seconds = interleave({name: lambda name=name: batch(name) for name in sets}, arguments.repetitions)
    rows = []
    for name, values in seconds.items():
        middle = 1e3 * statistics.median(values)
        goal = "" if sets[name].size != 16 or arguments.batch_size != 64 else "reached" if middle <= GOAL else "MISSED"
        rows.append({"set": name, "ms a batch": middle, "fastest": 1e3 * min(values), "goal": goal})
    publish(rows, "scenes.py", [], arguments.write)


if __name__ == "__main__":
    main()
