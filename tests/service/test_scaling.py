"""deploy/kubernetes.yaml and the systemd units match docs/scaling.md, and its lines for several servers run."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from stdnum.br import cnpj as stdnum_cnpj
from support.compose import ROOT, services
from support.fakes import FakeSite
from support.ports import unused_port
from support.servers import redis_server

import scraperkit as sk
from scraperkit.cli.exits import CONFIG, INTERRUPTED
from scraperkit.cli.supervisor import SLACK
from scraperkit.config import Settings
from scraperkit.sources.politeness import LIVE_RATE

MANIFEST = ROOT / "deploy" / "kubernetes.yaml"
RESOURCES = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
SCALING = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
UNIT = (ROOT / "deploy" / "scraperkit-queue.service").read_text(encoding="utf-8")
UPDATE = (ROOT / "deploy" / "scraperkit-update.service").read_text(encoding="utf-8")
TIMER = (ROOT / "deploy" / "scraperkit-update.timer").read_text(encoding="utf-8")


def resource(kind: str, name: str) -> dict[str, Any]:
    return next(item for item in RESOURCES if item["kind"] == kind and item["metadata"]["name"] == name)


PODS = [item["metadata"]["name"] for item in RESOURCES if item["kind"] in ("Deployment", "CronJob")]


def pod_of(name: str) -> dict[str, Any]:
    """Return the pod of a deployment or of a job."""
    (spec,) = [
        item["spec"]
        for item in RESOURCES
        if item["kind"] in ("Deployment", "CronJob") and item["metadata"]["name"] == name
    ]
    return spec.get("jobTemplate", {"spec": spec})["spec"]["template"]["spec"]


def container(name: str) -> dict[str, Any]:
    (found,) = pod_of(name)["containers"]
    return found


class TestKubernetes:
    def test_the_manifest_is_valid(self):
        command = Path(sys.executable).parent / "kubernetes-validate"
        told = subprocess.run([command, "--strict", "--quiet", MANIFEST], capture_output=True, text=True)
        assert (told.returncode, told.stdout + told.stderr) == (0, "")

    @pytest.mark.parametrize("name", PODS)
    def test_pods_are_locked_down(self, name):
        pod = pod_of(name)
        (only,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert only["resources"]["limits"]["memory"]

    @pytest.mark.parametrize("name", PODS)
    def test_only_two_pods_may_write_the_archive(self, name):
        (mount,) = [each for each in pod_of(name)["containers"][0]["volumeMounts"] if each["name"] == "archive"]
        (volume,) = [each for each in pod_of(name)["volumes"] if each["name"] == "archive"]
        claim = volume["persistentVolumeClaim"]
        assert claim["claimName"] == resource("PersistentVolumeClaim", "archive")["metadata"]["name"]
        may_write = name in ("market", "update")
        assert (mount.get("readOnly", False), claim.get("readOnly", False)) == (not may_write, not may_write)
        assert mount["mountPath"] == resource("ConfigMap", "scraperkit")["data"]["SCRAPERKIT_ARCHIVE"]

    def test_the_downloader_runs_alone_without_redis(self):
        (only,) = pod_of("market")["containers"]
        assert only["args"] == services()["market"]["command"][:3]
        assert [variable["name"] for variable in only["env"]] == ["SCRAPERKIT_ARCHIVE"]
        assert "envFrom" not in only
        assert resource("CronJob", "market")["spec"]["concurrencyPolicy"] == "Forbid"

    @pytest.mark.parametrize("name", ["queue", "pricer"])
    def test_selectors_match_the_labels_of_pods(self, name):
        deployment, budget = resource("Deployment", name), resource("PodDisruptionBudget", name)
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert budget["spec"]["selector"]["matchLabels"] == labels
        if name == "pricer":
            assert resource("Service", name)["spec"]["selector"] == labels

    def test_commands_are_those_of_the_compose_file(self):
        for name in ("queue", "pricer", "market-queue"):
            assert container(name)["args"] == services()[name]["command"]
        assert container("queue")["livenessProbe"]["exec"]["command"] == services()["queue"]["healthcheck"]["test"][1:]

    @pytest.mark.parametrize("name", ["market", "update"])
    def test_jobs_run_once_the_daily_commands_of_the_compose_file(self, name):
        assert [*container(name)["args"], "--every", "24"] == services()[name]["command"]
        assert resource("CronJob", name)["spec"]["concurrencyPolicy"] == "Forbid"

    def test_an_update_is_retried_unless_that_cannot_help(self):
        (rule,) = resource("CronJob", "update")["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
        assert rule["onExitCodes"] == {"containerName": "update", "operator": "In", "values": [1, 2, CONFIG]}

    def test_the_stop_timeout_exceeds_that_of_a_worker(self):
        given = resource("ConfigMap", "scraperkit")["data"]
        deadline = float(given["SCRAPERKIT_STOP_DEADLINE"])
        grace = resource("Deployment", "queue")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace >= deadline + SLACK
        assert f"`terminationGracePeriodSeconds: {grace}`" in SCALING
        assert f"{deadline:.0f} s here" in SCALING
        assert f"{SLACK:.0f} s to store the last results" in re.sub(r"\s+", " ", SCALING)

    @pytest.mark.parametrize(
        ("name", "files"),
        [
            ("queue", ["redis-password"]),
            ("market-queue", ["redis-password"]),
            ("pricer", ["redis-password", "api-keys"]),
            ("update", ["redis-password"]),
        ],
    )
    def test_the_configuration_is_valid_and_each_pod_has_its_own_secrets(self, monkeypatch, name, files):
        own = {variable["name"]: variable["value"] for variable in container(name).get("env", [])}
        for variable, value in (resource("ConfigMap", "scraperkit")["data"] | own).items():
            assert variable == "REDIS_URL" or variable.removeprefix("SCRAPERKIT_").lower() in Settings.model_fields
            monkeypatch.setenv(variable, value)
        settings = Settings.load()
        read = [path for path in (settings.redis_password_file, settings.api_keys_file) if path]
        assert [path.name for path in read] == files
        (mount,) = [mount for mount in container(name)["volumeMounts"] if mount["name"] == "secrets"]
        assert mount["readOnly"]
        assert {str(path.parent) for path in read} == {mount["mountPath"]}
        volumes = pod_of(name)["volumes"]
        (secret,) = [volume["secret"]["secretName"] for volume in volumes if "secret" in volume]
        words = " ".join(f"--from-file={file}" for file in files)
        assert f"kubectl create secret generic {secret} {words}\n" in MANIFEST.read_text()

    def test_the_manifest_contains_no_secret(self):
        assert not [item for item in RESOURCES if item["kind"] == "Secret"]
        assert not re.search(r"://[^/\s]*:[^/\s]*@", MANIFEST.read_text())

    def test_the_autoscaler_uses_a_metric_of_the_pricer(self, redis_url, namespace):
        from scraperkit.api.backend import Backend
        from scraperkit.api.metrics import Metrics

        spec = resource("HorizontalPodAutoscaler", "queue")["spec"]
        assert "replicas" not in resource("Deployment", "queue")["spec"], "or each `apply` would undo the autoscaler"
        (metric,) = spec["metrics"]
        name = metric["external"]["metric"]["name"]
        source = metric["external"]["metric"]["selector"]["matchLabels"]["source"]
        assert source == "cvm_pages", "what waits for the workers of another source is none of theirs"
        assert f"`{name}`" in SCALING
        backend = Backend(Settings.load(redis_url=redis_url, namespace=namespace))
        try:
            backend.open()
            figures = Metrics().text(*backend.missing(), archive_age=None).decode()
        finally:
            backend.close()
        assert re.search(rf'^{name}{{source="{source}"}} 0\.0$', figures, re.MULTILINE)

    def test_workers_do_not_exceed_what_the_site_allows(self):
        spec = resource("HorizontalPodAutoscaler", "queue")["spec"]
        (metric,) = spec["metrics"]
        each = int(metric["external"]["target"]["averageValue"])
        assert f"**{each} messages for each worker, {spec['maxReplicas']} workers at most.**" in SCALING
        assert f"{each / LIVE_RATE:.0f} seconds at {LIVE_RATE:.0f} requests a second" in re.sub(r"\s+", " ", SCALING)


class TestSystemd:
    @pytest.mark.parametrize("text", [UNIT, UPDATE, TIMER], ids=["queue", "update", "timer"])
    def test_the_unit_is_valid(self, tmp_path, text):
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not installed here")
        (tmp_path / "scraperkit-update.service").write_text("[Service]\nExecStart=/bin/true\n")
        unit = tmp_path / ("scraperkit-update.timer" if text is TIMER else "scraperkit-update.service")
        unit.write_text(text.replace("/opt/scraperkit/bin", str(Path(sys.executable).parent)))
        told = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        assert (told.returncode, told.stderr) == (0, "")

    def test_the_unit_respects_exit_codes_and_the_stop_timeout(self):
        assert f"RestartPreventExitStatus=2 {CONFIG}" in UNIT
        assert float(re.search(r"TimeoutStopSec=(\d+)", UNIT)[1]) >= Settings.load().stop_deadline + SLACK
        assert "Type=notify" in UNIT

    def test_the_update_unit_respects_exit_codes_and_is_as_locked_down(self):
        assert f"RestartPreventExitStatus=2 {CONFIG}" in UPDATE
        assert f"SuccessExitStatus={INTERRUPTED}" in UPDATE
        (command,) = re.findall("^ExecStart=/opt/scraperkit/bin/(.*)$", UPDATE, re.MULTILINE)
        assert command.split() == container("update")["args"]
        locked = set(UNIT.partition("DynamicUser")[2].partition("[Install]")[0].split("\n")) - {""}
        assert locked <= {f"{line}" for line in UPDATE.replace("DynamicUser=yes", "=yes").split("\n")}
        assert "WantedBy" not in UPDATE, "the timer starts it"
        assert "Persistent=true" in TIMER


def test_the_documented_lines_for_several_servers_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRAPERKIT_NAMESPACE", "spread")
    (lines,) = re.findall(r"```python\n(.*?)```", SCALING, re.DOTALL)
    stems = [f"{number:08d}0001" for number in range(1, 7)]
    funds = [sk.Fund(stem + stdnum_cnpj.calc_check_digits(stem), "1") for stem in stems]
    with contextlib.ExitStack() as stack:
        for name in ("one", "two"):
            folder, port = tmp_path / name, unused_port()
            folder.mkdir()
            stack.enter_context(redis_server(folder, "--port", str(port)))
            assert f"redis://{name}:6379" in lines
            lines = lines.replace(f"redis://{name}:6379", f"redis://127.0.0.1:{port}")
            redis = stack.enter_context(sk.connect(f"redis://127.0.0.1:{port}"))
            stack.enter_context(sk.Subscriber(redis, FakeSite()))
        known: dict[str, Any] = {"funds": funds}
        exec(lines, known)
        for redis in known["servers"]:
            stack.enter_context(redis)
            of_here = {fund.cnpj for fund in funds if known["home"](fund) is redis}
            assert 0 < len(of_here) < len(funds), "choose funds that are divided"
            assert set(sk.TimeSeriesReader(redis).funds().index) == of_here
    assert set(known["prices"].columns) == {fund.cnpj for fund in funds}
    assert known["prices"].shape == (12, len(funds))
