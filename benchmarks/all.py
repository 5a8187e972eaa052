"""Every benchmark but that of 41 patients (benchmarks.cohort), one after the other; exit code 1 when a target was missed.

python -m benchmarks.all [--out benchmarks.json] [--data FOLDER_OR_MANIFEST]
"""

from __future__ import annotations

import sys

from benchmarks import distances, prepare, sampling, stain, windows
from benchmarks.common import arguments, missed
from stainglass.files import write_json


def main() -> int:
    """Run all, print what was missed on stderr."""
    parser = arguments(__doc__)
    parser.add_argument("--data", help="sections for benchmarks.prepare; by default simulated")
    options = parser.parse_args()
    seed = ["--seed", str(options.seed)]
    records = [
        windows.main(seed),
        sampling.main(seed),
        stain.main(seed),
        distances.main(seed),
        prepare.main(seed + ([] if options.data is None else ["--data", options.data])),
    ]
    if options.out is not None:
        write_json(options.out, {"benchmarks": records})
    for name in missed(records):
        print(f"missed: {name}", file=sys.stderr)
    return 1 if missed(records) else 0


if __name__ == "__main__":
    sys.exit(main())
