"""The chart passes the real helm, asks for no rights, and names what the program really has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from api.routes import health
from api.settings import load_settings

ROOT: Final = Path(__file__).parent.parent.parent
CHART: Final = ROOT / "helm" / "oubliette"
VALUES: Final = CHART / "ci" / "values.yaml"

pytestmark = pytest.mark.needs_helm


def run(helm: Path, *words: str, values: Path = VALUES) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [helm, *words, CHART, "--values", values], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def objects(helm: Path) -> dict[str, dict[str, Any]]:
    done = run(helm, "template", "calls")
    assert done.returncode == 0, done.stderr
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout) if one}


@pytest.fixture(scope="module")
def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["initContainers"], *pod["containers"]]


def test_helm_lint_is_content_and_strict(helm: Path) -> None:
    done = run(helm, "lint", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize(
    "planted",
    [
        {"image": {"digest": "sha256:short"}},
        {"image": {"repository": ""}},
        {"settings": {"MODE": "demo"}},
        {"settings": {"OUBLIETTE_MODE": "production"}},
        {"settings": {"TOKEN": "a secret in clear"}},
        {"settings": {"LISTEN_PORT": 8080}},
        {"secrets": {"settings": {"DATABASE_URI": "postgresql://in-clear"}}},
        {"replicas": 3},
        {"misspelt": True},
    ],
    ids=json.dumps,
)
def test_values_that_cannot_work_are_refused(
    helm: Path, tmp_path: Path, planted: dict[str, Any]
) -> None:
    extra = tmp_path / "planted.yaml"
    extra.write_text(yaml.safe_dump(planted))
    done = subprocess.run(
        [helm, "template", "calls", CHART, "--values", VALUES, "--values", extra],
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0


def test_the_pod_has_no_rights_it_does_not_need(pod: dict[str, Any]) -> None:
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in containers(pod):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one["resources"]["limits"]["memory"]
        assert one["resources"]["requests"]["cpu"]
        assert "@sha256:" in one["image"]


def test_secrets_are_referred_to_and_never_shown(
    objects: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    assert "Secret" not in objects
    for one in containers(pod):
        [database] = [entry for entry in one["env"] if entry["name"] == "OUBLIETTE_DATABASE_URI"]
        assert "value" not in database
        assert database["valueFrom"]["secretKeyRef"]["name"] == "oubliette-database"
        assert one["envFrom"] == [{"secretRef": {"name": "oubliette-s3"}}]


def test_no_two_processes_share_the_folder_and_nothing_passes_through_a_disk(
    objects: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    assert objects["Deployment"]["spec"]["replicas"] == 1
    assert objects["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["tmp"]["emptyDir"]["medium"] == "Memory"
    name = objects["PersistentVolumeClaim"]["metadata"]["name"]
    assert volumes["data"]["persistentVolumeClaim"]["claimName"] == name
    kept = objects["PersistentVolumeClaim"]["metadata"]["annotations"]
    assert kept == {"helm.sh/resource-policy": "keep"}


def test_the_settings_exist_and_suit_production(pod: dict[str, Any]) -> None:
    for one in containers(pod):
        given = {entry["name"]: entry.get("value") or "postgresql:///x" for entry in one["env"]}
        settings = load_settings(given)
        assert settings.production
        mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
        assert mounts == {"data": str(settings.data_dir), "tmp": "/tmp"}  # noqa: S108  # a mount inside the pod


def test_ports_and_probes_meet_the_program(
    objects: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    [service] = pod["containers"]
    given = {entry["name"]: entry.get("value") or "postgresql:///x" for entry in service["env"]}
    [port] = service["ports"]
    assert port["containerPort"] == load_settings(given).listen_port
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"].items() <= labels.items()
    routes = {getattr(route, "path", "") for route in health.router.routes}
    for probe, path in (
        ("startup", "/healthz"),
        ("liveness", "/healthz"),
        ("readiness", "/readyz"),
    ):
        assert service[f"{probe}Probe"]["httpGet"] == {"path": path, "port": port["name"]}
        assert path in routes


def test_the_commands_exist(pod: dict[str, Any]) -> None:
    words = [(one["command"], one["args"]) for one in containers(pod)]
    assert words == [(["oubliette"], ["migrate"]), (["oubliette"], ["serve"])]
    for _, [command] in words:
        done = subprocess.run(
            [sys.executable, "-c", "from api.cli import main; main()", command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
