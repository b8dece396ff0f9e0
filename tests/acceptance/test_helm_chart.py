"""The chart passes the real helm, asks for no rights, and names what the program really has."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from api.roles import ROLES
from api.routes import health
from api.server import DRAIN_S, STREAMS_END_S
from api.settings import RULES, load_settings

ROOT: Final = Path(__file__).parent.parent.parent
CHART: Final = ROOT / "helm" / "oubliette"
VALUES: Final = sorted((CHART / "ci").glob("*-values.yaml"))
SPARE_S: Final = 40  # after DRAIN_GRACE_S, until the kernel ends it
CLUSTER: Final = CHART / "ci" / "cluster-pkcs11-values.yaml"
SECRET: Final = {"OUBLIETTE_DATABASE_URI": "postgresql://x", "OUBLIETTE_OIDC_CLIENT_SECRET": "x"}

pytestmark = pytest.mark.needs_helm

Objects = list[dict[str, Any]]


def template(helm: Path, *values: Path) -> subprocess.CompletedProcess[str]:
    given = [word for one in values for word in ("--values", str(one))]
    return subprocess.run(
        [helm, "template", "calls", CHART, "--namespace", "vault", *given],
        capture_output=True,
        text=True,
        check=False,
    )


def rendered(helm: Path, *values: Path) -> Objects:
    done = template(helm, *values)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.fixture(scope="module", params=VALUES, ids=lambda path: path.stem)
def objects(request: pytest.FixtureRequest, helm: Path) -> Objects:
    return rendered(helm, request.param)


@pytest.fixture(scope="module")
def cluster(helm: Path) -> Objects:
    return rendered(helm, CLUSTER)


def of_kind(objects: Objects, kind: str) -> Objects:
    return [one for one in objects if one["kind"] == kind]


def named(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    [found] = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def pods(objects: Objects) -> dict[str, dict[str, Any]]:
    """Return every pod's spec by the name of what makes it."""
    makers = of_kind(objects, "Deployment") + of_kind(objects, "Job")
    return {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in makers}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def programs(objects: Objects) -> list[dict[str, Any]]:
    """Return every container that runs our program."""
    every = [one for pod in pods(objects).values() for one in containers(pod)]
    return [one for one in every if one["command"] == ["oubliette"]]


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value") or SECRET[one["name"]] for one in container["env"]}


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_helm_lint_is_content_and_strict(helm: Path, values: Path) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", CHART, "--values", values],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 chart(s) failed" in done.stdout


@pytest.mark.parametrize(
    "planted",
    [
        {"layout": "both"},
        {"image": {"digest": "sha256:short"}},
        {"image": {"repository": ""}},
        {"settings": {"MODE": "embedded"}},
        {"settings": {"OUBLIETTE_MODE": "production"}},
        {"settings": {"TOKEN": "a secret in clear"}},
        {"settings": {"OIDC_CLIENT_SECRET": "in clear"}},
        {"settings": {"LISTEN_PORT": 8080}},
        {"settings": {"PUBLIC_URL": "http://calls.example"}},
        {"settings": {"DATABASE_URI": "postgresql://user:password@host/vault"}},
        {"settings": {"STORE_URI": "file:///recordings"}},
        {"settings": {"LEDGER_URI": None}},
        {"settings": {"KEYS_URI": "local:/keys"}},
        {"settings": {"BLOB_PLACES": "database: file:///blobs s3://b?offsite=1"}},
        {"secrets": {"settings": {"DATABASE_URI": "postgresql://in-clear"}}},
        {"secrets": {"signing": ""}},
        {"api": {"replicas": 0}},
        {"worker": {"replicas": 50}},
        {"api": {"resources": {"requests": {"cpu": "much", "memory": "1Gi"}}}},
        {"ingress": {"annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "on"}}},
        {"ingress": {"host": ""}},
        {"extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        {"migrate": {"deadlineSeconds": 0}},
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
    assert template(helm, CLUSTER, extra).returncode != 0


def test_no_pod_has_rights_it_does_not_need(objects: Objects) -> None:
    assert pods(objects)
    for name, pod in pods(objects).items():
        assert pod["enableServiceLinks"] is False, name
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 10_000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for one in containers(pod):
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert one["resources"]["limits"]["memory"]
            assert one["resources"]["requests"]["cpu"]
            assert "@sha256:" in one["image"]
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"} & {
        one["kind"] for one in objects
    }


def test_secrets_are_referred_to_and_never_shown(objects: Objects) -> None:
    assert not of_kind(objects, "Secret")
    for one in programs(objects):
        [database] = [entry for entry in one["env"] if entry["name"] == "OUBLIETTE_DATABASE_URI"]
        assert "value" not in database
        assert database["valueFrom"]["secretKeyRef"]["name"] == "oubliette-database"


def test_nothing_passes_through_a_disk_and_no_two_processes_share_a_folder(
    objects: Objects,
) -> None:
    for name, pod in pods(objects).items():
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert volumes["tmp"]["emptyDir"]["medium"] == "Memory", name
        claimed = "persistentVolumeClaim" in volumes["data"]
        assert claimed == name.endswith("-single")
        if "keyring" in volumes:
            assert volumes["keyring"]["emptyDir"]["medium"] == "Memory"
    for deployment in of_kind(objects, "Deployment"):
        if deployment["metadata"]["name"].endswith("-single"):
            assert deployment["spec"]["replicas"] == 1
            assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    for claim in of_kind(objects, "PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_settings_exist_and_suit_production(objects: Objects) -> None:
    known = {rule.name for rule in RULES}
    for one in programs(objects):
        given = environment(one)
        assert {name.removeprefix("OUBLIETTE_") for name in given if "OUBLIETTE_" in name} <= known
        settings = load_settings(given)
        assert settings.production
        mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
        assert mounts["data"] == str(settings.data_dir)
        assert mounts["tmp"] == "/tmp"  # noqa: S108  # a mount inside the pod
        if "keyring" in mounts:
            assert settings.signing_key_uri == f"local:{mounts['keyring']}"


def test_ports_and_probes_meet_the_program(objects: Objects) -> None:
    routes = {getattr(route, "path", "") for route in health.router.routes}
    for deployment in of_kind(objects, "Deployment"):
        [server] = deployment["spec"]["template"]["spec"]["containers"]
        [port] = server["ports"]
        assert port["containerPort"] == load_settings(environment(server)).listen_port
        for probe, path in (
            ("startup", "/healthz"),
            ("liveness", "/healthz"),
            ("readiness", "/readyz"),
        ):
            assert server[f"{probe}Probe"]["httpGet"] == {"path": path, "port": port["name"]}
            assert path in routes
    for service in of_kind(objects, "Service"):
        assert service["spec"]["ports"][0]["targetPort"] == "http"
    for monitor in of_kind(objects, "ServiceMonitor"):
        [end] = monitor["spec"]["endpoints"]
        assert end["path"] in routes
        watched = named(objects, "Service", monitor["metadata"]["name"])
        assert monitor["spec"]["selector"]["matchLabels"].items() <= (
            watched["metadata"]["labels"].items()
        )
        assert end["port"] == watched["spec"]["ports"][0]["name"]


def test_every_selector_finds_its_pods_and_only_them(objects: Objects) -> None:
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in of_kind(objects, "Deployment") + of_kind(objects, "Job")
    }

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, those in labels.items() if selector.items() <= those.items()}

    for one in of_kind(objects, "Deployment"):
        assert found(one["spec"]["selector"]["matchLabels"]) == {one["metadata"]["name"]}
    front = named(objects, "Service", "calls-oubliette")
    [fronted] = found(front["spec"]["selector"])
    assert fronted in {"calls-oubliette-api", "calls-oubliette-single"}
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert found(budget["spec"]["selector"]["matchLabels"]) == {budget["metadata"]["name"]}
    for policy in of_kind(objects, "NetworkPolicy"):
        assert found(policy["spec"]["podSelector"]["matchLabels"]) == set(labels)


def test_the_commands_exist(objects: Objects) -> None:
    said = {tuple(one["args"]) for one in programs(objects)}
    assert said <= {
        ("migrate",),
        ("serve",),
        ("serve", "--role", "api"),
        ("serve", "--role", "worker"),
        ("init", "--controller", "acme"),
    }
    for words in said:
        for role in words[2:3] if words[0] == "serve" else ():
            assert role in ROLES
        manual = help_of(words[0])
        for option in [word for word in words if word.startswith("--")]:
            assert option in manual


@functools.cache
def help_of(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_cluster_migrates_before_it_changes_and_is_made_once(cluster: Objects) -> None:
    migrate = named(cluster, "Job", "calls-oubliette-migrate")["metadata"]["annotations"]
    init = named(cluster, "Job", "calls-oubliette-init")["metadata"]["annotations"]
    assert migrate["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert init["helm.sh/hook"] == "pre-install"
    assert int(migrate["helm.sh/hook-weight"]) < int(init["helm.sh/hook-weight"])
    account = named(cluster, "ServiceAccount", "calls-oubliette-hooks")["metadata"]["annotations"]
    assert int(account["helm.sh/hook-weight"]) < int(migrate["helm.sh/hook-weight"])


def test_how_long_a_migration_may_take_is_a_value(helm: Path, tmp_path: Path) -> None:
    given = tmp_path / "longer.yaml"
    given.write_text("migrate: {deadlineSeconds: 604800}")
    job = named(rendered(helm, CLUSTER, given), "Job", "calls-oubliette-migrate")
    assert job["spec"]["activeDeadlineSeconds"] == 604800


def test_a_cluster_rolls_without_a_gap_and_keeps_the_proxy_from_spooling(cluster: Objects) -> None:
    for one in of_kind(cluster, "Deployment"):
        assert one["spec"]["replicas"] >= 2
        assert one["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 5 + SPARE_S
    [ingress] = of_kind(cluster, "Ingress")
    annotations = ingress["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io"
    for name, value in (
        ("proxy-request-buffering", "off"),
        ("proxy-buffering", "off"),
        ("proxy-max-temp-file-size", "0"),
        ("proxy-body-size", "0"),
        ("enable-access-log", "false"),
    ):
        assert annotations[f"{prefix}/{name}"] == value


def test_a_pod_has_longer_to_end_than_the_program_takes(helm: Path, tmp_path: Path) -> None:
    """Also when it goes on for longer; what no program takes is refused."""
    longer = tmp_path / "longer.yaml"
    longer.write_text("settings: {DRAIN_GRACE_S: '20'}")
    for one in of_kind(rendered(helm, CLUSTER, longer), "Deployment"):
        pod = one["spec"]["template"]["spec"]
        [server] = pod["containers"]
        settings = load_settings(environment(server))
        assert settings.drain_grace_s == 20
        assert pod["terminationGracePeriodSeconds"] == 20 + SPARE_S > 20 + DRAIN_S + STREAMS_END_S
        assert "lifecycle" not in server  # the program waits by itself
    longer.write_text("settings: {DRAIN_GRACE_S: '61'}")
    assert template(helm, CLUSTER, longer).returncode != 0


def test_replicas_that_follow_the_load_are_not_set_twice(helm: Path) -> None:
    made = rendered(helm, CHART / "ci" / "cluster-kms-values.yaml")
    api = named(made, "Deployment", "calls-oubliette-api")
    assert "replicas" not in api["spec"]
    [scaler] = of_kind(made, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == api["metadata"]["name"]


@pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem)
def test_the_notes_tell_a_person_what_to_do(helm: Path, values: Path) -> None:
    done = subprocess.run(
        [helm, "install", "calls", CHART, "--dry-run=client", "--values", values],
        capture_output=True,
        text=True,
        check=False,
    )
    _, found, notes = done.stdout.partition("NOTES:")
    assert found, done.stderr
    assert "oubliette doctor" in notes
    assert "<no value>" not in notes
    for path in re.findall(r"(?:docs|deploy)/[a-z./-]+[a-z]", notes):
        assert (ROOT / path).exists(), path


@pytest.mark.prove
@pytest.mark.needs_chart_tools
def test_others_find_nothing_wrong_with_it(helm: Path, chart_tools: Path, tmp_path: Path) -> None:
    for values in VALUES:
        (tmp_path / f"{values.stem}.yaml").write_text(template(helm, values).stdout)
    schema = validated(chart_tools, *tmp_path.glob("*.yaml"))
    assert schema.returncode == 0, schema.stdout + schema.stderr
    report = looked_at(chart_tools, tmp_path)
    assert {one["check_id"] for one in report["results"]["failed_checks"]} == set()
    assert report["summary"]["passed"] > 300


@pytest.mark.prove
@pytest.mark.needs_chart_tools
def test_what_is_wrong_is_found(helm: Path, chart_tools: Path, tmp_path: Path) -> None:
    text = template(helm, CLUSTER).stdout
    careless = tmp_path / "careless.yaml"
    careless.write_text(text.replace("readOnlyRootFilesystem: true", "privileged: true"))
    report = looked_at(chart_tools, tmp_path)
    # a privileged container
    assert "CKV_K8S_16" in {one["check_id"] for one in report["results"]["failed_checks"]}
    careless.write_text(text.replace("terminationGracePeriodSeconds", "terminationGraceSeconds"))
    assert validated(chart_tools, careless).returncode != 0


def validated(tools: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tools / "kubernetes-validate", "--strict", "-k", "1.34", *files],
        capture_output=True,
        text=True,
        check=False,
    )


def looked_at(tools: Path, folder: Path) -> dict[str, Any]:
    """Return what checkov says, asking nobody outside.

    CKV_K8S_35 is left out: settings are variables; what can be a file (PINs, tokens) is one.
    """
    how = ["--framework", "kubernetes", "--skip-check", "CKV_K8S_35", "--output", "json"]
    done = subprocess.run(
        [tools / "checkov", "--directory", folder, "--skip-download", *how],
        capture_output=True,
        text=True,
        check=False,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report
