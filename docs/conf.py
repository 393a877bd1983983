"""The course as pages of a web site: `make web` has Sphinx build them from the saved notebooks.

The sources stay where they are (Sphinx reads the checkout itself), so that a link that works on
GitHub or in JupyterLab works here. Nothing is run, and the pages ask nothing of the net.
"""

import json
import re
import shutil
from pathlib import Path

from docutils import nodes

ROOT = Path(__file__).resolve().parents[1]

project = html_title = "The Redis Patterns Lab"
language = "en"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["*.md", "data/*.md", "docs/*.md", "notebooks/[0-9]*.ipynb"]
exclude_patterns = [".*", "labsupport", "tests", "tools"]  # else it looks through all of .venv

nb_execution_mode = "off"
nb_ipywidgets_js = {}  # would come from the net; a saved output holds no widget
myst_heading_anchors = 3

html_favicon = "icon.svg"
html_theme = "furo"
html_static_path = ["web.css", "web.js"]
html_css_files = ["web.css"]
html_js_files = ["web.js"]
html_use_index = False
html_copy_source = False
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-code-background": "#f4f5f7"},  # set off from the white
    "navigation_with_keys": True,
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


def _prepare(app, name, text):
    """Give the start page a list of all others; fit a notebook to its readers."""
    if name == root_doc:
        labs = re.findall(r"^\| \[(\d\d .*?)\]\((\S+)\.ipynb\)", text[0], re.MULTILINE)
        text[0] += TABLES.format("\n".join(f"{title} <{page}>" for title, page in labs))
    elif name.startswith("notebooks/"):
        notebook = json.loads(text[0])
        for cell in notebook["cells"]:
            if cell["metadata"]["slideshow"]["slide_type"] == "skip":  # installs, or cleans up
                cell["metadata"]["tags"] = ["remove-cell"]
            # JupyterLab's anchors keep the capitals, Sphinx's do not.
            cell["source"] = [
                re.sub(r"\.ipynb#[\w-]+", lambda link: link.group().lower(), line)
                for line in cell["source"]
            ]
        text[0] = json.dumps(notebook)


TABLES = """
```{{toctree}}
:caption: The labs
:hidden:

{}
```

```{{toctree}}
:caption: Beside them
:hidden:

The explorer <docs/explorer>
Glossary <docs/glossary>
Teaching <docs/teaching>
Sources <docs/sources>
The data <data/README>
How a lab is made <CONTRIBUTING>
What is new <CHANGELOG>
```
"""


def _describe(app, tree):
    """Give each picture of an output its own alt text; myst-nb has one for all of a cell."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    about = [one["metadata"]["image/png"] for one in outputs if "image/png" in one.get("data", {})]
    images = list(tree.findall(nodes.image))
    for image, known in zip(images, about, strict=True):
        image["alt"] = known["alt"]
        del image["height"]  # follows from the width, which is less on a phone


def _mend(app, name, template, context, tree):
    """Say of which level the headings of the list of pages are; Sphinx forgets it."""
    pages = context["furo_navigation_tree"]
    context["furo_navigation_tree"] = pages.replace("role=", 'aria-level="2" role=')


def _finish(app, error):
    """Bring what raw HTML refers to, and the name under which a server looks for the start page."""
    if error is None:
        target = Path(app.outdir)
        (target / "docs").mkdir(exist_ok=True)
        for picture in ("herd.png", "herd.webp"):
            shutil.copy(ROOT / "docs" / picture, target / "docs")
        shutil.copy(target / f"{root_doc}.html", target / "index.html")
    # Where MyST-NB unpacks the pictures; the pages have theirs in _images.
    shutil.rmtree(Path(app.outdir).parent / "jupyter_execute", ignore_errors=True)


def setup(app):
    app.connect("source-read", _prepare)
    app.connect("doctree-read", _describe)
    app.connect("html-page-context", _mend, priority=900)  # Furo's own comes before
    app.connect("build-finished", _finish)
