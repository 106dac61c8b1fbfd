"""The pages that compute in the browser: their scripts, and the network of the page of digits as scripts too.

A page that was opened from disk may load scripts but no other files; so the graph of the network and onnxruntime's
WebAssembly become scripts that hold them, packed by gzip, in base64. onnxruntime-web comes from npm
(docs/play/package.json).
"""

import base64
import gzip
import shutil
import sys
from pathlib import Path

PLAY = Path(__file__).parents[1] / "play"
RUNTIME = PLAY / "node_modules" / "onnxruntime-web" / "dist"
MISSING = "*This page needs onnxruntime-web, which was not installed when the site was built (`make site` with npm).*"


def write(target: Path, kept: Path) -> None:
    """Copy pages and scripts into `target`; `kept` holds the exported graph between two builds."""
    static = target / "_static"
    static.mkdir(exist_ok=True)
    (target / "play").mkdir()
    for path in PLAY.iterdir():
        if path.suffix in (".js", ".css"):
            shutil.copy(path, static)
        elif path.suffix == ".md":
            shutil.copy(path, target / "play")
    page = target / "play" / "digits.md"
    text = page.read_text("utf-8")
    if not RUNTIME.is_dir():
        print("docs/play/node_modules is missing, so the page of digits is left out: npm ci", file=sys.stderr)
        begin, end = text.index("```{raw}"), text.index("**What to try.**")
        page.write_text(text[:begin] + MISSING + "\n\n" + text[end:], "utf-8")
        return
    shutil.copy(RUNTIME / "ort.wasm.min.js", static)
    held = {
        "ortWasm": RUNTIME / "ort-wasm-simd-threaded.wasm",
        "ortGlue": RUNTIME / "ort-wasm-simd-threaded.mjs",
        "digitsModel": graph(kept),
    }
    for name, path in held.items():
        packed = base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()
        (static / f"{name}.js").write_text(f'"use strict";\nconst {name} = "{packed}";\n', "utf-8")
    scripts = [f'<script src="../_static/{name}.js"></script>' for name in ("ort.wasm.min", *held)]
    page.write_text(text.replace("SCRIPTS", "\n".join(scripts)), "utf-8")


def graph(kept: Path) -> Path:
    """The graph of the zoo's `digits`, exported once for its weights."""
    from flowlib.runs import export_onnx, load_pretrained
    from flowlib.weights import describe_weights

    path = kept / f"digits-{describe_weights('digits')['sha256'][:16]}.onnx"
    if not path.exists():
        kept.mkdir(parents=True, exist_ok=True)
        export_onnx(load_pretrained("digits", "cpu"), path)
    return path
