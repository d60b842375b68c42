"""Helm's own library on the chart, in a process of its own: Go's runtime takes signals and threads.

    python -m tests.helm < ORDERS

Reads a JSON list of values and writes a list of what came: objects, or why there are none.
"""

import json
import subprocess
import sys
from typing import Any

import yaml

from tests.support import ROOT

CHART = ROOT / "deploy" / "helm" / "gsop"
NAMESPACE = "default"


def rendered(*values: dict[str, Any], name: str = "gsop") -> list[Any]:
    """For each of these values the objects of a release, or the text of the error."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helm", name],
        input=json.dumps(values),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return list(json.loads(done.stdout))


def main() -> None:
    """Render the chart as told."""
    import helm_python as helm

    found: list[Any] = []
    with helm.Chart.load(CHART) as chart:
        for values in json.load(sys.stdin):
            try:
                chart.validate_schema(values)
                texts = chart.render(values, name=sys.argv[1], namespace=NAMESPACE)
            except helm.HelmError as error:
                found.append(str(error))
                continue
            findings = helm.lint(CHART, values, strict=True)
            assert not findings["errors"], findings
            files = [text for path, text in sorted(texts.items()) if path.endswith(".yaml")]
            found.append([each for text in files for each in yaml.safe_load_all(text) if each])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
