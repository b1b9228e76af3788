"""Checks the ONNX files of a model.

    check_onnx.py MODEL_DIR            a saved model: its pickle against its JSON, both graphs against numpy
    check_onnx.py --cases CASES_DIR    graphs against the outputs in cases.json that twotower itself computed
    check_onnx.py --guide GUIDE MODEL_DIR CASES_DIR
                                       the Python of docs/model-files.md against videos.json and user.json

Prints one line per check with the largest deviation; ends with a traceback and exit code 1 where one fails.
"""
import argparse
import io
import json
import os
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-5


class BuiltinsOnly(pickle.Unpickler):
    """Unpickles what needs no name looked up: dict, list, str, int, float, bool, None."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}")


def open_graph(path):
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path))
    assert model.ir_version <= 9, model.ir_version
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)], model.opset_import
    assert model.producer_name == "twotower" and model.producer_version, path
    assert all(value.doc_string for value in [*model.graph.input, *model.graph.output]), path
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[0] == "batch", session.get_inputs()[0].shape
    return session, metadata


def compare(name, expected, found):
    """The largest deviation; both must be finite and of one shape."""
    assert expected.shape == found.shape, f"{name}: expected shape {expected.shape}, found {found.shape}"
    assert np.isfinite(found).all(), f"{name}: not finite"
    deviation = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    assert deviation <= TOLERANCE, f"{name}: deviates by {deviation:.3e}"
    print(f"{name}: {deviation:.1e}")
    return deviation


def run_cases(folder):
    cases = json.loads((folder / "cases.json").read_text())
    assert cases, "no cases"

    def tensor(entry):
        return np.fromfile(folder / entry["file"], dtype={"f32": "<f4", "i64": "<i8"}[entry["type"]]).reshape(entry["shape"])

    sessions = {}
    largest = 0.0
    for case in cases:
        if case["graph"] not in sessions:
            sessions[case["graph"]] = open_graph(folder / case["graph"])[0]
        inputs = {name: tensor(entry) for name, entry in case["inputs"].items()}
        found = sessions[case["graph"]].run([case["output"]], inputs)[0]
        largest = max(largest, compare(f"{case['graph']} {case['name']}", tensor(case["expected"]), found))
    print(f"{len(cases)} cases, largest deviation {largest:.1e}")


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "F32", entry
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + length + begin : 8 + length + end], "<f4")
            tensors[name] = values.reshape(entry["shape"]).astype(np.float64)
    return tensors


def head(weights, tower, x):
    hidden = x @ weights[f"{tower}.hidden.weight"] + weights[f"{tower}.hidden.bias"]
    active = hidden / (1 + np.exp(-1.702 * hidden))
    z = active @ weights[f"{tower}.output.weight"] + weights[f"{tower}.output.bias"] + x @ weights[f"{tower}.residual"]
    return z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-6)


def item_tower(weights, video_row, term_rows, term_weights, numeric):
    terms = weights["item_tower.term_table"]
    terms = terms if len(terms) else np.zeros((1, terms.shape[1]))
    content = (terms[term_rows] * term_weights[:, :, None]).sum(axis=1)
    return head(weights, "item_tower", np.concatenate([weights["item_tower.id_table"][video_row], content, numeric], axis=1))


def user_tower(weights, decays, skip_decay, liked_vectors, liked_age, liked_mask, skipped_vectors, skipped_age, skipped_mask):
    def means(vectors, age, mask, decays):
        for decay in decays:
            weight = np.where(mask > 0, np.power(np.float64(decay), np.maximum(age, 0).astype(np.float64)), 0.0)
            total = weight.sum(axis=1, keepdims=True)
            yield (weight[:, :, None] * vectors).sum(axis=1) / np.where(total > 0, total, 1.0)

    x = [
        *means(liked_vectors, liked_age, liked_mask, decays),
        *means(skipped_vectors, skipped_age, skipped_mask, [skip_decay]),
        0.2 * np.log1p(liked_mask.sum(axis=1, keepdims=True, dtype=np.float64)),
        0.2 * np.log1p(skipped_mask.sum(axis=1, keepdims=True, dtype=np.float64)),
    ]
    return head(weights, "user_tower", np.concatenate(x, axis=1))


def random_events(random, prefix, batch, events, dim):
    """Histories of 0 to `events` events, some of them very old, in random order among padding of any age."""
    mask = (np.arange(events) < random.integers(0, events + 1, (batch, 1))).astype(np.float32)
    age = np.where(mask > 0, np.arange(events), random.integers(-3, 1000, (batch, events))).astype(np.float32)
    if events > 2:
        age = np.where((age == events - 1) & (mask > 0), np.float32(1e9), age)
    order = random.permuted(np.tile(np.arange(events), (batch, 1)), axis=1)
    return {
        f"{prefix}_vectors": random.normal(size=(batch, events, dim)).astype(np.float32),
        f"{prefix}_age": np.take_along_axis(age, order, axis=1),
        f"{prefix}_mask": np.take_along_axis(mask, order, axis=1),
    }


def check_model(folder):
    preprocessing = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    pickled = BuiltinsOnly(io.BytesIO((folder / "preprocessing.pkl").read_bytes())).load()
    assert pickled == preprocessing, "preprocessing.pkl and preprocessing.json differ"
    print("preprocessing.pkl: plain builtin types, equal to preprocessing.json")

    weights = read_safetensors(folder / "weights.safetensors")
    random = np.random.default_rng(7)
    item, item_metadata = open_graph(folder / "item_tower.onnx")
    user, user_metadata = open_graph(folder / "user_tower.onnx")
    videos, dim = weights["item_tower.id_table"].shape
    assert videos == len(preprocessing["videos"]) + 1, "the id table and preprocessing.json differ"
    assert item_metadata["embedding_dim"] == user_metadata["embedding_dim"] == str(dim)
    decays = [float(decay) for decay in user_metadata["decays"].split(",") if decay]
    decays, skip_decay = np.float32(decays), np.float32(user_metadata["skip_decay"])

    for batch, terms in [(1, 1), (1, 0), (3, 40), (1000, 120)]:
        inputs = {
            "video_row": random.integers(0, videos, batch),
            "term_rows": random.integers(0, max(len(weights["item_tower.term_table"]), 1), (batch, terms)),
            "term_weights": random.random((batch, terms), np.float32) * (random.random((batch, terms)) < 0.7),
            "numeric": np.clip(random.normal(size=(batch, 3)), -5, 5).astype(np.float32),
        }
        inputs["term_weights"] = inputs["term_weights"].astype(np.float32) / max(terms, 1) * 6
        found = item.run(["video_vector"], inputs)[0]
        compare(f"item_tower {batch} x {terms}", item_tower(weights, **inputs), found)
    for batch, likes, skips in [(1, 1, 1), (1, 0, 0), (2, 0, 3), (2, 3, 0), (1000, 30, 10), (10, 200, 200)]:
        inputs = {**random_events(random, "liked", batch, likes, dim), **random_events(random, "skipped", batch, skips, dim)}
        found = user.run(["user_vector"], inputs)[0]
        compare(f"user_tower {batch} x {likes} + {skips}", user_tower(weights, decays, skip_decay, **inputs), found)


def check_guide(guide, model, folder):
    """Runs the guide's Python in the model's folder, then its functions on rows whose vectors we know."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL))
    videos = json.loads((folder / "videos.json").read_text(encoding="utf-8"))
    user = json.loads((folder / "user.json").read_text())
    expected = np.fromfile(folder / "videos.f32", "<f4").reshape(len(videos), -1)
    os.chdir(model)
    guide = {}
    exec(compile(code, "guide", "exec"), guide)
    vectors = guide["embed"](videos)
    compare("guide: all videos at once", expected, vectors)
    compare("guide: one video", expected[:1], guide["embed"](videos[:1]))
    compare("guide: user", np.fromfile(folder / "user.f32", "<f4"), guide["embed_user"](vectors[user["liked"]], vectors[user["skipped"]]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", action="store_true")
    parser.add_argument("--guide", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    arguments = parser.parse_args()
    folders = [folder.resolve(strict=True) for folder in arguments.folders]
    if arguments.guide:
        check_guide(arguments.guide.resolve(strict=True), *folders)
    elif arguments.cases:
        run_cases(*folders)
    else:
        check_model(*folders)


if __name__ == "__main__":
    main()
