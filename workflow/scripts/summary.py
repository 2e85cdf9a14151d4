"""Say where the report is and what it found, one line a model. Called by `make run` when the workflow has ended."""

from polygate import scripting

scripting.begin()

import sys

from polygate.files import read_json

if __name__ == "__main__":
    findings, report = sys.argv[1:]
    for answers in read_json(findings)["models"].values():
        print(answers["summary"])
    print(f"The report: {report}")
