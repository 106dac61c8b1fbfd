"""The pages that compute in the browser: their scripts, and the networks of two of them as scripts too.

A page that was opened from disk may load scripts but no other files; so graphs of networks and onnxruntime's
WebAssembly become scripts that hold them, packed by gzip, in base64. onnxruntime-web comes from npm
(docs/play/package.json).
"""

import base64
import gzip
import json
import shutil
import sys
from pathlib import Path

PLAY = Path(__file__).parents[1] / "play"
RUNTIME = PLAY / "node_modules" / "onnxruntime-web" / "dist"
MISSING = "*This page needs onnxruntime-web, which was not installed when the site was built (`make site` with npm).*"
# Pages with networks: the scripts that hold them, and of which run and which of its files each is.
NETWORKS = {
    "digits": {"digitsModel": ("digits", "")},
    "scenes": {"scenesPainter": ("scenes-text", ""), "samImage": ("sam", "-image"), "samMasks": ("sam", "-masks")},
}


def write(target: Path, kept: Path) -> None:
    """Copy pages and scripts into `target`; `kept` holds the exported graphs between two builds."""
    static = target / "_static"
    static.mkdir(exist_ok=True)
    (target / "play").mkdir()
    for path in PLAY.iterdir():
        if path.suffix in (".js", ".css"):
            shutil.copy(path, static)
        elif path.suffix == ".md":
            shutil.copy(path, target / "play")
    if not RUNTIME.is_dir():
        print("docs/play/node_modules is missing, so pages with networks are left out: npm ci", file=sys.stderr)
        for name in NETWORKS:
            page = target / "play" / f"{name}.md"
            text = page.read_text("utf-8")
            begin, end = text.index("```{raw}"), text.index("**What to try.**")
            page.write_text(text[:begin] + MISSING + "\n\n" + text[end:], "utf-8")
        return
    shutil.copy(RUNTIME / "ort.wasm.min.js", static)
    runtime = {"ortWasm": "ort-wasm-simd-threaded.wasm", "ortGlue": "ort-wasm-simd-threaded.mjs"}
    for script, file in runtime.items():
        hold(static, script, RUNTIME / file)
    for name, graphs in NETWORKS.items():
        for script, (run, which) in graphs.items():
            hold(static, script, graph(kept, run, which))
        page = target / "play" / f"{name}.md"
        scripts = [f'<script src="../_static/{one}.js"></script>' for one in ("ort.wasm.min", *runtime, *graphs)]
        page.write_text(page.read_text("utf-8").replace("SCRIPTS", "\n".join(scripts)), "utf-8")
    words = json.dumps(tokenizer(), separators=(",", ":"))
    (static / "scenesTokenizer.js").write_text(f'"use strict";\nconst scenesTokenizer = {words};\n', "utf-8")


def hold(static: Path, name: str, path: Path) -> None:
    """A script in which the constant `name` holds a file."""
    packed = base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()
    (static / f"{name}.js").write_text(f'"use strict";\nconst {name} = "{packed}";\n', "utf-8")


def graph(kept: Path, run: str, which: str) -> Path:
    """A graph of a run of the zoo, exported once for its weights."""
    from flowlib.runs import export_onnx, load_pretrained
    from flowlib.weights import describe_weights

    path = kept / f"{run}-{describe_weights(run)['sha256'][:16]}.onnx"
    made = path.with_stem(path.stem + which)
    if not made.exists():
        kept.mkdir(parents=True, exist_ok=True)
        export_onnx(load_pretrained(run, "cpu"), path)
    return made


def tokenizer() -> dict[str, object]:
    """The tokenizer of the painter, for docs/play/bpe.js."""
    from flowlib.runs import load_pretrained
    from flowlib.systems.graphs import described

    return described(load_pretrained("scenes-text", "cpu").module.net.tokenizer)
