"""The asv dashboard, published from the committed results and opened in a headless browser.

asv's pages load their scripts from content delivery networks. Where these cannot be reached,
FASTMLP_DASHBOARD_SCRIPTS names a folder node_modules to take them from (.ci/run makes one).
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCRIPTS = os.environ.get("FASTMLP_DASHBOARD_SCRIPTS")
LOCAL = {
    "jquery-3.3.1.min.js": "jquery/dist/jquery.min.js",
    "jquery.flot.min.js": "flot/jquery.flot.js",
    "jquery.flot.time.min.js": "flot/jquery.flot.time.js",
    "jquery.flot.selection.min.js": "flot/jquery.flot.selection.js",
    "jquery.flot.categories.min.js": "flot/jquery.flot.categories.js",
    "jquery.flot.orderBars.js": "flot-orderbars/js/jquery.flot.orderBars.js",
    "stupidtable.min.js": "stupid-table-plugin/stupidtable.min.js",
    "md5.min.js": "blueimp-md5/js/md5.min.js",
    "bootstrap.min.js": "bootstrap/dist/js/bootstrap.min.js",
    "bootstrap.min.css": "bootstrap/dist/css/bootstrap.min.css",
}

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="asv publishes from a repository"),
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the published dashboard is served."""
    folder = tmp_path_factory.mktemp("dashboard")
    config = json.loads((ROOT / "benchmarks" / "asv.conf.json").read_text())
    config |= {
        "repo": str(ROOT),
        "benchmark_dir": str(ROOT / "benchmarks"),
        "results_dir": str(ROOT / "benchmarks" / "results"),
        "html_dir": str(folder / "html"),
        "env_dir": str(folder / "env"),
    }
    (folder / "asv.conf.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "asv", "--config", str(folder / "asv.conf.json"), "publish"]
    published = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert published.returncode == 0, published.stdout + published.stderr
    page = folder / "html" / "index.html"
    if SCRIPTS:
        address = r'(src|href)="https://[^"]*/([^"/]+)"( integrity="[^"]*")?'
        page.write_text(re.sub(address, local_copy(folder), page.read_text()))
    handler = functools.partial(Quiet, directory=str(folder / "html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
        server.shutdown()


def local_copy(folder):
    """A replacement for the address of a script: that of a copy beside the page."""

    def replace(match):
        attribute, name = match[1], match[2]
        if name not in LOCAL:
            return match[0]
        shutil.copy(Path(SCRIPTS) / LOCAL[name], folder / "html" / name)
        return f'{attribute}="{name}"'

    return replace


def opened(address, state=""):
    """The page's elements, as HTML, when its scripts have run."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    url = f"{address}#{urllib.parse.quote(state, safe='/?=&')}"
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=120)
    if not SCRIPTS and "failed to load" in done.stdout:
        pytest.skip("asv's scripts cannot be reached")
    return done.stdout


def test_grid_lists_every_question(address):
    page = opened(address)
    names = json.loads((ROOT / "benchmarks" / "results" / "benchmarks.json").read_text())
    titles = {b.get("pretty_name") or name for name, b in names.items() if name != "version"}
    assert len(titles) > 10
    for title in titles:
        assert title in page, title


@pytest.mark.parametrize(
    "state, axis",
    [
        ("epoch_time.Width.time_epoch?x-axis=units a layer&y-axis-scale=log", "units a layer"),
        ("epoch_time.BatchSize.time_epoch?x-axis=examples a minibatch&y-axis-scale=log", "examples a minibatch"),
        ("epoch_time.Networks.time_epoch?y-axis-scale=log", "commits"),
        ("estimators.Predict.time_predict?x-axis=rows&y-axis-scale=log", "rows"),
    ],
)
def test_graphs_show_peers_side_by_side(address, state, axis):
    """A graph is drawn, its axis named, with a line for each library."""
    page = opened(address, state)
    assert 'class="flot-base"' in page and axis in page
    lines = re.findall(r'class="legendLabel">(.*?)</td>', page)
    libraries = ("fastmlp", "sklearn") if "estimators" in state else ("fastmlp", "jax", "torch", "numpy", "sklearn")
    for library in libraries:
        assert any(library in line for line in lines), (library, lines)
