"""`make bench`: runs all benchmarks and prints their tables; `--write` puts them into benchmarks/README.md."""

import argparse
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks import hot_path, outlets, parts, questions, records, retrieval, search, sound

README = Path(__file__).parent / "README.md"
_SIZES = (10_000, 100_000, 1_000_000)
MARK = "<!-- figures: written by `python -m benchmarks --write` -->"


def main() -> None:
    """Run the benchmarks, and print or write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--questions", type=Path, help="a folder of SQuAD-format files")
    parser.add_argument("--write", action="store_true", help="write the figures into benchmarks/README.md")
    parser.add_argument(
        "--full", action="store_true", help="also measure a million passages, which takes a quarter of an hour"
    )
    arguments = parser.parse_args()
    asked = questions.sets(arguments.questions)
    lines = ["## Answers", "", *questions.measure(asked), ""]
    lines += ["## Retrieval", "", *retrieval.measure(asked), ""]
    lines += ["## Search at scale", "", *search.measure(_SIZES if arguments.full else _SIZES[:2]), ""]
    lines += ["## The hot path", "", *hot_path.measure(), ""]
    lines += ["## The outlets of a voice", "", *outlets.measure(), ""]
    lines += ["## Records of calls", "", *records.measure(), ""]
    lines += ["## The parts of a wait", "", *parts.measure(), ""]
    lines += ["## Sound", "", *sound.measure(), ""]
    machine = (
        f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total // 2**30} GiB, Python {platform.python_version()}"
    )
    lines = [f"{datetime.now(UTC):%Y-%m-%d}, {machine}.", "", *lines]
    if arguments.write:
        text = README.read_text(encoding="utf-8").partition(MARK)[0]
        README.write_text("\n".join([text + MARK, "", *lines]), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
