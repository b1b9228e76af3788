"""Holds deploy/kubernetes and deploy/container against the schemas of Kubernetes, the pod security standard, and each other.

    check_manifests.py                      the files as they are
    check_manifests.py --rendered FOLDER    what `kubectl kustomize deploy/kubernetes/FOLDER` made of them, on standard input
    check_manifests.py --applied            the names of the folders that are applied
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
FOREIGN = {"Kustomization", "Component", "ServiceMonitor", None}
# What is applied, in this order.
APPLIED = ["migrate", "."]
# What would let its reader act as any user.
OF_SERVERS = {"TWOTOWER_JWT_SECRET", "SUPABASE_JWT_SECRET"}
# What would let whoever breaks into a server do anything to the tables.
OF_OWNER = {"DATABASE_URL"}


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
        if serves and OF_OWNER & set(keys_of(container)):
            yield f"container {name}: logs in to the database as the owner of the tables"
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
    apart = {"kustomization.yaml", "secret.example.yaml", "prometheus-adapter.yaml"}
    for folder in APPLIED:
        kustomization = read(FOLDER / folder / "kustomization.yaml")[0]
        listed = set(kustomization["resources"])
        there = {path.name for path in (FOLDER / folder).glob("*.yaml")} - apart
        if listed != there:
            yield f"{folder}/kustomization.yaml: resources differ from the files there: {sorted(listed ^ there)}"
        taken = [(FOLDER / folder / component).resolve() for component in kustomization["components"]]
        if taken != [FOLDER / "image"] or "images" in kustomization:
            yield f"{folder}/kustomization.yaml: the image is not that of image/kustomization.yaml"
    image = read(FOLDER / "image/kustomization.yaml")[0]["images"][0]
    if image["newTag"] != version:
        yield f"image/kustomization.yaml: the image's tag is not {version}"
    for name in ("deploy/container/compose.yaml", "deploy/container/Containerfile"):
        tags = set(re.findall(r"twotower:(\d+\.\d+\.\d+)", (ROOT / name).read_text(encoding="utf-8")))
        if tags != {version}:
            yield f"{name}: the image's tags are {sorted(tags)}, not {version}"
    example = (FOLDER / "secret.example.yaml").read_text(encoding="utf-8")
    explained = set(re.findall(r"^  (?:# )?([A-Z_]+): ", example, re.M))
    pods = [pod_of(document) for path in FOLDER.rglob("*.yaml") for document in read(path)]
    for container in (container for pod in pods if pod for container in pod["containers"]):
        if container["image"] != image["name"]:
            yield f"container {container['name']}: image {container['image']} is not the one that image/kustomization.yaml names"
    named = {key for pod in pods if pod for container in pod["containers"] for key in keys_of(container)}
    if named != explained:
        yield f"secret.example.yaml: keys differ from those that pods are given: {sorted(named ^ explained)}"
    metric = read(FOLDER / "autoscaler.yaml")[0]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    rule = read(FOLDER / "prometheus-adapter.yaml")[0]["rules"]["custom"][0]
    if rule["name"]["as"] != metric:
        yield f"autoscaler.yaml asks for {metric}, prometheus-adapter.yaml makes {rule['name']['as']}"


def listed(value):
    """What compose takes as a list, or as one string."""
    return {value} if isinstance(value, str) else set(value)


def of_compose():
    """The server has an address of the database of its own, and cannot log in without a password as anybody else."""
    services = read(ROOT / "deploy/container/compose.yaml")[0]["services"]
    files = {name: listed(service.get("env_file", [])) for name, service in services.items()}
    for name in ("migrate", "schedule"):
        if not files["serve"] or files["serve"] & files[name]:
            yield f"compose.yaml: serve and {name} log in to the database alike"
    initdb = services["postgres"]["environment"].get("POSTGRES_INITDB_ARGS", "")
    if "--auth=scram-sha-256" not in initdb:
        yield "compose.yaml: whoever reaches the database's socket is let in without a password"


def as_pushed(named):
    """Every pod has the image that is pushed, the migration's too."""
    image = read(FOLDER / "image/kustomization.yaml")[0]["images"][0]
    pushed = f"{image['newName']}:{image['newTag']}"
    pods = [pod for pod in (pod_of(document) for _, document in named) if pod]
    images = {container["image"] for pod in pods for container in pod["containers"]}
    if images != {pushed}:
        yield f"{named[0][0]}: the images are {sorted(images)}, not {pushed} alone"


def main():
    problems, documents = [], []
    if sys.argv[1:] == ["--applied"]:
        print("\n".join(APPLIED))
        return 0
    if sys.argv[1:2] == ["--rendered"]:
        folder = sys.argv[2]
        named = [(f"{folder}, rendered", document) for document in yaml.safe_load_all(sys.stdin) if document]
        problems += as_pushed(named)
    else:
        named = [(str(path.relative_to(FOLDER)), document) for path in sorted(FOLDER.rglob("*.yaml")) for document in read(path)]
        problems += [*together(), *of_compose()]
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
