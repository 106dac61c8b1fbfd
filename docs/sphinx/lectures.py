"""Lectures for the site: the notebooks as they are stored, with their pictures' texts, links and downloads."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import api

Cell = dict[str, Any]
TITLES = {  # of tables that have none themselves
    "08_likelihood": "Bits/dim of a flow that knows in which bins pixels lie, by the variational bound: MNIST",
    "08_ode": "Bits/dim of the same flow by its ODE, by the steps of the solver and the probe: MNIST",
    "08_variants": "Bits/dim with a network that knows the bins of pixels and with plain ones, by times: MNIST",
    "08_where": "Where the bits go: errors of the noise by log SNR, on black pixels and on the others: MNIST",
    "12_disco": "Disco Diffusion's claims, one change at a time, and another CLIP as the guide: scenes",
    "12_semantic": "Guidance by text, content, edges and style: scenes, three encoders",
    "13_guidance": "Classifier-free guidance against guidance by CLIP: scenes from captions",
    "13_networks": "A painter of captions with phrases and without: scenes",
    "13_speed": "Seconds of what paints scenes, on two quiet cores",
    "14_bits": "The bound of both stages of DALL·E in bits: scenes",
    "14_cache": "DALL·E's sampling with and without a cache of keys and values: scenes",
    "14_choosing": "DALL·E, the best of N by CLIP, by its own probability and by an oracle: scenes",
    "14_cold": "DALL·E, the best of N at temperature 0.5: scenes",
    "14_drawing": "DALL·E by temperature and top-k: scenes",
    "14_flow": "A flow of the same scenes in bits/dim, beside the bound of DALL·E",
    "14_patterns": "Sparse against full attention in DALL·E: scenes",
    "15_between": "What lies between two pictures, by the part of the way: scenes",
    "15_binding": "Colours bound to digits, by what carries the caption: scenes",
    "15_blends": "Painters trained on blends of synthetic and given captions: scenes",
    "15_captions": "Painters trained on given and on synthetic captions, by how prompts are written: scenes",
    "15_priors": "Priors of DALL·E 2: scenes from captions",
    "15_systems": "GLIDE, DALL·E, DALL·E 2 and DALL·E 3 on the same captions: scenes",
    "15_variations": "What variations of a picture keep, by eta: scenes",
    "16_images": "ControlNet by the number of images and by what is trained: scenes",
    "16_lora": "LoRA by rank, and full fine-tuning, on twenty striped scenes",
    "16_steps": "ControlNet on the way of one training: scenes",
    "16_strength": "ControlNet by its strength: scenes",
    "16_two": "Two controls, alone and together: scenes",
    "16_two_loras": "Two LoRAs on one painter: scenes",
    "17_variants": "SAM with one mask and with three, with and without pre-training: scenes",
    "17_engine": "SAM after three rounds of a data engine: scenes",
    "17_prompts": "SAM by kind of prompt: scenes",
    "17_together": "SAM, an inpainter, a ControlNet and a LoRA on one picture: scenes",
}


def copy(root: Path, target: Path, uses: Mapping[str, Sequence[str]]) -> list[str]:
    """Copy all lectures, their images, tables and exercises to `target`; the lectures' names in order.

    Args:
        root: the repository.
        target: the source folder of the site.
        uses: for each lecture the paths of the names in the API reference that it uses.
    """
    names = sorted(path.stem for path in (root / "lectures").glob("*.ipynb"))
    (target / "lectures").mkdir(parents=True)
    for name in names:
        book = json.loads((root / "lectures" / f"{name}.ipynb").read_text("utf-8"))
        book["cells"] = [part for cell in book["cells"] for part in dressed(cell)]
        book["cells"].append(markdown("code-of-this-lecture", end_of_page(name, uses.get(name, []))))
        (target / "lectures" / f"{name}.ipynb").write_text(json.dumps(book), "utf-8")
    shutil.copytree(root / "lectures" / "images", target / "lectures" / "images")
    shutil.copytree(root / "exercises", target / "exercises")
    for table in sorted((root / "lectures" / "tables").glob("*.md")):
        text = table.read_text("utf-8")
        title = "" if text.startswith("# ") else f"# {TITLES.get(table.stem, table.stem)}\n\n"
        place = target / "lectures" / "tables" / table.name
        place.parent.mkdir(exist_ok=True)
        place.write_text(title + text, "utf-8")
    return names


def dressed(cell: Cell) -> list[Cell]:
    """A cell with myst-nb's tags, in as many cells as it has pictures, since each picture's text is a cell's there."""
    if cell["cell_type"] == "markdown":
        return [cell | {"source": linked(unbroken("".join(cell["source"])))}]
    outputs = cell["outputs"]
    pictures = [i for i, output in enumerate(outputs) if "image/png" in output.get("data", {})]
    tags = ["hide-input"] if "draw" in cell["metadata"].get("tags", []) else []
    bounds = [0, *(i + 1 for i in pictures[:-1]), len(outputs)]
    parts = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        shown = outputs[begin:end]
        alt = [text for output in shown if (text := output.get("metadata", {}).get("image/png", {}).get("alt"))]
        metadata = {"tags": tags if number == 0 else ["remove-input"]}
        metadata |= {"mystnb": {"image": {"alt": alt[0]}}} if alt else {}
        name = cell["id"] + (f"-{number}" if number else "")
        parts.append(cell | {"id": name, "metadata": metadata, "outputs": [shorn(output) for output in shown]})
        if number:
            parts[-1]["source"] = ""
    return parts


def shorn(output: Cell) -> Cell:
    """An output without the text of a picture, which readers get as its `alt`, and with links into the site."""
    data = output.get("data", {})
    if "image/png" in data:
        return output | {"data": {"image/png": data["image/png"]}}
    if "text/markdown" in data:
        text = linked("".join(data["text/markdown"])).replace(".rst)", ".html)")
        return output | {"data": {"text/markdown": text}}
    return output


def unbroken(text: str) -> str:
    """Prose whose formulas stand on one line each.

    Jupyter takes formulas out before it reads the rest as Markdown. MyST does not: to it a line of a formula that
    begins with a minus begins a list.
    """
    code_or_formula = r"```.*?```|`[^`\n]+`|(\$\$.+?\$\$|\$(?:[^$\n]|\n(?!\s*\n))+\$)"
    return re.sub(code_or_formula, lambda m: re.sub(r"\s*\n[>\s]*", " ", m[1]) if m[1] else m[0], text, flags=re.DOTALL)


def linked(text: str) -> str:
    """Prose whose links to the library's code lead to its page in the reference, and to exercises to the file."""
    text = text.replace("](../exercises/", "](path:../exercises/")
    return re.sub(r"\]\(\.\./flowlib/(\w+)(?:/\w+)?(?:\.py|/)?\)", reference, text)


def reference(link: re.Match[str]) -> str:
    """The page of a file or folder of the library; the start of the reference for what has none."""
    known = link[1] in api.MATHEMATICS or link[1] in api.FOLDERS
    return f"](../api/{link[1] if known else 'index'}.rst)"


def markdown(name: str, text: str) -> Cell:
    """A cell of prose."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def end_of_page(name: str, paths: Sequence[str]) -> str:
    """What stands below a lecture: its exercise, and where the names that it uses are explained."""
    names = ", ".join(f"{{any}}`{path.rpartition('.')[2]} <{path}>`" for path in sorted(paths))
    lines = [
        "---",
        f"**The exercise of this lecture:** {{download}}`{name}.ipynb <../exercises/{name}.ipynb>`; or, in a clone, "
        f"`flowlib start {name[:2]}`. [How it is graded](../grading.md).",
        "",
        f"**In the reference:** {names}." if names else "",
    ]
    return "\n".join(lines)
