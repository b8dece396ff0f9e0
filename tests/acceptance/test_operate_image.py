"""Dockerfile and compose file, without an engine: parsed, and compared with the program."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from api.routes import health
from api.settings import RULES, load_settings

ROOT: Final = Path(__file__).parents[2]
COMPOSE: Final = ROOT / "deploy" / "compose.yaml"
NGINX: Final = ROOT / "deploy" / "nginx-oubliette.conf"
FRONT: Final = ROOT / "deploy" / "compose-nginx.conf"
MADE_UP: Final = shlex.split(
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
    "-subj /CN=localhost"
)


def steps() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile: name and the rest, continued lines joined."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text())
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line for line in joined.splitlines() if line.strip()]
    found = [line.partition(" ") for line in lines]
    return [(name, rest.strip()) for name, _, rest in found]


def last(name: str) -> str:
    return [rest for one, rest in steps() if one == name][-1]


def image_environment() -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(last("ENV")))


def service(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"][name]
    return found


def test_the_image_is_built_in_stages_from_a_base_that_you_choose() -> None:
    assert steps()[0] == ("ARG", "BASE_IMAGE=python:3.13-slim-bookworm")
    stages = [rest for name, rest in steps() if name == "FROM"]
    assert stages == ["${BASE_IMAGE} AS build", "${BASE_IMAGE}"]
    known = {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE"}
    known |= {"STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in steps()} == known


def test_what_runs_is_nobody_special() -> None:
    assert last("USER") == "10001:10001"
    names = [name for name, _ in steps()]
    assert "RUN" not in names[names.index("USER") :]  # nothing is changed as somebody else later
    chart = (ROOT / "helm" / "oubliette" / "templates" / "_names.tpl").read_text()
    assert "runAsUser: 10001" in chart
    assert "pip uninstall" in [rest for name, rest in steps() if name == "RUN"][1]


def test_everything_copied_exists_and_nothing_else_reaches_the_build() -> None:
    kept = set(re.findall(r"(?m)^!(\S+)$", (ROOT / ".dockerignore").read_text()))
    copied: set[str] = set()
    for name, rest in steps():
        if name == "COPY" and not rest.startswith("--from"):
            copied |= set(rest.split()[:-1])
    assert copied == kept
    for one in copied:
        assert (ROOT / one).exists(), one
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    packages = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'"(\w+)\*"', packages.partition("packages.find")[2].partition("]")[0])
    assert set(listed) <= copied


def test_the_images_command_port_and_settings_are_the_programs() -> None:
    assert (last("ENTRYPOINT"), last("CMD")) == ('["oubliette"]', '["serve"]')
    settings = load_settings(image_environment())
    assert str(settings.listen_port) == last("EXPOSE")
    assert f":{settings.listen_port}/healthz" in last("HEALTHCHECK")
    assert "/healthz" in {getattr(route, "path", "") for route in health.router.routes}
    assert str(settings.data_dir) == last("WORKDIR")
    unit = (ROOT / "deploy" / "oubliette.service").read_text()
    for name, value in image_environment().items():
        if name.startswith("MALLOC_"):
            assert f"Environment={name}={value}" in unit


def test_the_try_outs_settings_are_the_programs_and_suit_production() -> None:
    known = {f"OUBLIETTE_{rule.name}" for rule in RULES}
    for name in ("migrate", "init", "service"):
        given = {key: str(value) for key, value in service(name)["environment"].items()}
        assert {key for key in given if key.startswith("OUBLIETTE_")} <= known
        filled = {key: re.sub(r"\$\{\w+(?::[-?].*)?\}", "https://i", v) for key, v in given.items()}
        settings = load_settings(image_environment() | filled)
        assert settings.production
        assert not settings.embedded_issuer


def test_the_try_outs_commands_exist_and_run_in_order() -> None:
    said = {name: service(name)["command"] for name in ("migrate", "init", "service")}
    assert said["service"] == ["serve"]
    assert said["migrate"] == ["migrate"]
    help_of_init = subprocess.run(
        [sys.executable, "-c", "from api.cli import main; main()", "init", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said["init"][:2] == ["init", "--controller"]
    assert "--controller" in help_of_init
    for later in ("init", "service"):
        waits = service(later)["depends_on"]["migrate"]["condition"]
        assert waits == "service_completed_successfully"
    for name in ("migrate", "init", "service"):
        assert service(name)["read_only"] is True
        assert service(name)["cap_drop"] == ["ALL"]


def directives(text: str) -> set[str]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {re.sub(r"\s+", " ", line) for line in lines if line.endswith(";")}


def test_the_try_outs_proxy_spools_no_clear_audio_either() -> None:
    where = re.compile(r"^(?:proxy_pass|error_log) ")
    wanted = {line for line in directives(NGINX.read_text()) if not where.match(line)}
    assert wanted <= directives(FRONT.read_text())
    assert "proxy_request_buffering off;" in wanted
    port = image_environment()["OUBLIETTE_LISTEN_PORT"]
    assert f"proxy_pass http://service:{port};" in directives(FRONT.read_text())


@pytest.mark.needs_nginx
def test_nginx_reads_it(nginx: str, tmp_path: Path) -> None:
    key, certificate = tmp_path / "tls.key", tmp_path / "tls.crt"
    subprocess.run(
        [*MADE_UP, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    text = FRONT.read_text().replace("/etc/nginx/tls", str(tmp_path))
    text = text.replace("http://service:", "http://127.0.0.1:")
    file = tmp_path / "nginx.conf"
    # what the machine's nginx would write where only root may
    paths = f"access_log {tmp_path}/access.log;\n" + "".join(
        f"{name}_temp_path {tmp_path}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    file.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{paths}{text}\n}}\n")
    done = subprocess.run(
        [nginx, "-t", "-c", file, "-p", tmp_path, "-e", tmp_path / "error.log"],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
