"""Holds deploy/kubernetes and deploy/container against the schemas of Kubernetes, the pod security standard, and each other.

    check_manifests.py               the files as they are
    check_manifests.py --rendered    what `kubectl kustomize` made of them, on standard input
"""

import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy/kubernetes"
# The oldest with the kubelet's own sleep before a pod ends, and the newest that the schemas know.
RELEASES = ["1.30", kubernetes_validate.latest_version()]
# Not Kubernetes' own kinds, and values of a chart.
FOREIGN = {"Kustomization", "ServiceMonitor", None}
# What would let its reader act as any user.
OF_SERVERS = {"TWOTOWER_JWT_SECRET", "SUPABASE_JWT_SECRET"}


def read(path):
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def pod_of(document):
    if document.get("kind") in ("Deployment", "Job"):
        return document["spec"]["template"]["spec"]
    return None


def against_schemas(document):
    if document.get("kind") in FOREIGN:
        return
    for release in RELEASES:
        try:
            kubernetes_validate.validate(document, release, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {release}: {'.'.join(map(str, error.path))}: {error.message}"


def against_security(document):
    """What namespaces with `enforce: restricted` ask, and a root that is not written to."""
    pod = pod_of(document)
    if pod is None:
        return
    asked = pod.get("securityContext", {})
    if not asked.get("runAsNonRoot") or asked.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "the pod may run as root, or without a seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token of the Kubernetes API"
    for container in pod["containers"]:
        context = container.get("securityContext", {})
        expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        if context != expected:
            yield f"container {container['name']}: securityContext is {context}"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"container {container['name']}: no limit of memory"


def against_secrets(document):
    """Each pod gets those keys of the Secret that it needs, and probes have connections of their own."""
    pod = pod_of(document)
    if pod is None:
        return
    serves = document["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "serve"
    for container in pod["containers"]:
        name = container["name"]
        if "envFrom" in container:
            yield f"container {name}: envFrom gives it every key there is"
        if not serves and OF_SERVERS & set(keys_of(container)):
            yield f"container {name}: gets what tokens are checked against"
        for probe in ("startupProbe", "livenessProbe"):
            if container.get(probe, {}).get("httpGet", {}).get("port", "metrics") != "metrics":
                yield f"container {name}: {probe} shares connections with clients"


def keys_of(container):
    """Keys of the Secret that become variables."""
    for variable in container.get("env", []):
        if "secretKeyRef" in variable.get("valueFrom", {}):
            yield variable["valueFrom"]["secretKeyRef"]["key"]


def selects_pods(documents):
    """A selector that fits no pod is accepted by Kubernetes without a word."""
    labels = [document["spec"]["template"]["metadata"]["labels"] for document in documents if pod_of(document)]
    for document in documents:
        spec = document.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector")) or {}
        wanted = selector.get("matchLabels", selector if document.get("kind") == "Service" else {})
        if document.get("kind") == "ServiceMonitor":
            continue
        if wanted and not any(wanted.items() <= pod.items() for pod in labels):
            yield f"{document['kind']} {document['metadata']['name']}: no pod has the labels {wanted}"


def together():
    """Files that name each other, and the version."""
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "([^"]+)"', manifest, re.M)[1]
    kustomization = read(FOLDER / "kustomization.yaml")[0]
    listed = set(kustomization["resources"])
    apart = {"kustomization.yaml", "migrate.yaml", "secret.example.yaml", "prometheus-adapter.yaml"}
    there = {path.name for path in FOLDER.glob("*.yaml")} - apart
    if listed != there:
        yield f"kustomization.yaml: resources differ from the files there: {sorted(listed ^ there)}"
    if kustomization["images"][0]["newTag"] != version:
        yield f"kustomization.yaml: the image's tag is not {version}"
    for name in ("deploy/kubernetes/migrate.yaml", "deploy/container/compose.yaml", "deploy/container/Containerfile"):
        tags = set(re.findall(r"twotower:(\d+\.\d+\.\d+)", (ROOT / name).read_text(encoding="utf-8")))
        if tags != {version}:
            yield f"{name}: the image's tags are {sorted(tags)}, not {version}"
    example = (FOLDER / "secret.example.yaml").read_text(encoding="utf-8")
    explained = set(re.findall(r"^  (?:# )?([A-Z_]+): ", example, re.M))
    pods = [pod_of(document) for path in FOLDER.glob("*.yaml") for document in read(path)]
    named = {key for pod in pods if pod for container in pod["containers"] for key in keys_of(container)}
    if named != explained:
        yield f"secret.example.yaml: keys differ from those that pods are given: {sorted(named ^ explained)}"
    metric = read(FOLDER / "autoscaler.yaml")[0]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    rule = read(FOLDER / "prometheus-adapter.yaml")[0]["rules"]["custom"][0]
    if rule["name"]["as"] != metric:
        yield f"autoscaler.yaml asks for {metric}, prometheus-adapter.yaml makes {rule['name']['as']}"


def main():
    problems, documents = [], []
    if sys.argv[1:] == ["--rendered"]:
        named = [("rendered", document) for document in yaml.safe_load_all(sys.stdin) if document]
    else:
        named = [(path.name, document) for path in sorted(FOLDER.glob("*.yaml")) for document in read(path)]
        problems += together()
    for name, document in named:
        documents.append(document)
        checks = [*against_schemas(document), *against_security(document), *against_secrets(document)]
        problems += [f"{name}, {document.get('kind')}: {problem}" for problem in checks]
    problems += selects_pods(documents)
    for problem in problems:
        print(f"error: {problem}")
    print(f"check_manifests: {len(documents)} documents against Kubernetes {' and '.join(RELEASES)}, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
