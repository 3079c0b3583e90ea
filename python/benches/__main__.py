"""All figures of the package, beside the standard library's: `python python/benches`."""

import pathlib
import runpy

for bench in ("slots.py", "copies.py", "drop_ins.py"):
    runpy.run_path(str(pathlib.Path(__file__).with_name(bench)), run_name="__main__")
