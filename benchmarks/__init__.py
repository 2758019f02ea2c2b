"""The benchmarks: an asv suite, one file a question, and scripts that compare in turn (see CONTRIBUTING.md).

asv imports this folder as a package, the scripts are run as files: both find the modules beside them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
