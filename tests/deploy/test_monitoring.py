"""Rules and dashboards: they parse, their alerts fire when they should, and they name metrics that exist."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tilestream.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian package prometheus): RULES AND EXPRESSIONS ARE NOT CHECKED",
)
OTHERS = {"up"}  # of Prometheus itself


def dashboard() -> dict:
    return json.loads((GRAFANA / "dashboards" / "tilestream.json").read_text())


def rules() -> list[dict]:
    (group,) = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    return group["rules"]


def expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return panels + [rule["expr"] for rule in rules()]


def names_and_labels() -> tuple[set[str], set[str]]:
    metrics = Metrics()
    names, labels = set(OTHERS), {"le", "job", "instance"}
    names.update(sample.name for family in metrics.registry.collect() for sample in family.samples)
    for collector, own in metrics.registry._collector_to_names.items():
        names.update(own)
        labels.update(getattr(collector, "_labelnames", ()))
    return names, labels


def test_every_expression_names_metrics_and_labels_that_exist():
    names, labels = names_and_labels()
    for expression in expressions():
        used = set(re.findall(r"\b(?:tilestream|grpc|process)_\w+|\bup\b", expression))
        used -= {name for name in used if name in labels}
        assert used and used <= names, expression
        grouped = {word for by in re.findall(r"by \(([^)]*)\)", expression) for word in re.split(r", *", by)}
        matched = set(re.findall(r"(\w+) ?(?:=~|!~|!=|=(?!=))", "".join(re.findall(r"{[^}]*}", expression))))
        assert grouped | matched <= labels, expression


@needs_promtool
def test_promtool_takes_every_expression(tmp_path):
    file = tmp_path / "expressions.yml"
    recorded = [{"record": f"check:{i}", "expr": e} for i, e in enumerate(expressions())]
    file.write_text(yaml.safe_dump({"groups": [{"name": "check", "rules": recorded}]}))
    promtool("check", "rules", str(file))
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


@needs_promtool
def test_alerts_fire_when_they_should():
    promtool("test", "rules", str(PROMETHEUS / "rules_test.yml"))


def test_every_alert_is_tested_and_has_a_runbook():
    tested = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    fired = {
        case["alertname"] for test in tested for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules()}
    operations = (ROOT / "docs" / "operations.md").read_text()
    for rule in rules():
        assert f"\n### {rule['alert']}\n" in operations
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_the_dashboard_uses_the_provisioned_data_source():
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())
    (source,) = sources["datasources"]
    panels = dashboard()["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in panels}) == len(panels)


def promtool(*words: str) -> None:
    result = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
