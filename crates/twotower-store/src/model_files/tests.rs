use super::write::{Towers, save_with};
use super::{
    CARD, FILES, MANIFEST, ModelFilesError, ModelInfo, TrainedOn, USER_TOWER_WEIGHTS, WEIGHTS,
    load, load_user_tower, manifest, removable, remove, remove_rest,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use twotower_core::feature::{Catalogue, Preprocessing, PreprocessingOptions, Video};
use twotower_core::hyperparameters::Hyperparameters;
use twotower_core::model::Model;
use twotower_core::split::SplitKind;
use twotower_core::tower::UserTower;
use uuid::Uuid;

fn model() -> Model {
    let videos = (1..=3).map(|n| Video {
        id: Uuid::from_u128(n),
        tags: vec!["タグ".into(), "'quoted' \\".into()],
        price: Some(n as f32 * 0.1),
        ..Video::default()
    });
    let options = PreprocessingOptions {
        min_term_videos: 1,
        ngram_buckets: 8,
    };
    let catalogue = Catalogue::new(videos).unwrap();
    let preprocessing = Preprocessing::fit(&catalogue, |_| true, options);
    let hyperparameters = Hyperparameters {
        embedding_dim: 4,
        user_hidden: 3,
        item_hidden: 3,
        ..Hyperparameters::default()
    };
    let mut model = Model::zeros(hyperparameters, preprocessing);
    for (_, _, data) in model.tensors_mut() {
        for (n, x) in data.iter_mut().enumerate() {
            *x = (n as f32).sin();
        }
    }
    model
}

fn info(version: i64) -> ModelInfo {
    ModelInfo {
        version,
        created_at_us: 1,
        trained_on: TrainedOn {
            cut_off_us: Some(2),
            learned_until_us: Some(1),
            learned_since_us: None,
            fine_tuned_from: None,
            snapshot_sha256: "ab".into(),
            likes: 3,
            skips: 4,
            users: 5,
            videos: 6,
            split: SplitKind::Temporal,
            erasures_seen: Some(0),
            origin: None,
            max_age_days: None,
        },
        metrics: json!({"ndcg_at_10": 0.1 + 0.2}),
        training_log: json!([{"epoch": 1, "loss": 3.25}]),
        card: "# Model\n".into(),
    }
}

pub(crate) fn save(root: &Path, version: i64) -> (std::path::PathBuf, String) {
    let towers = Towers {
        user: b"user".to_vec(),
        item: b"item".to_vec(),
    };
    save_with(root, &model(), b"optimizer", &info(version), &towers).unwrap()
}

#[test]
fn what_is_saved_is_loaded() {
    let root = tempfile::tempdir().unwrap();
    let models = root.path().join("deep/models");
    let (path, sha256) = save(&models, 9);
    save(&models, 10);
    assert_eq!(path, models.join("9"));
    assert_eq!(
        sha256,
        crate::snapshot::sha256(&fs::read(path.join(MANIFEST)).unwrap())
    );
    let (loaded, manifest) = load(&path).unwrap();
    assert_eq!(loaded, model());
    assert_eq!(manifest.version, 9);
    assert_eq!(manifest.metrics, info(9).metrics);
    assert_eq!(manifest.files.len(), FILES.len());
    let (tower, same) = load_user_tower(&path).unwrap();
    assert_eq!((tower, same), (model().user_tower, manifest));
    // Sorted by number rather than by name. Reports and unfinished folders do not matter.
    fs::write(models.join("10/report.html"), "later").unwrap();
    fs::create_dir(models.join(".11.tmp-0")).unwrap();
    assert_eq!(load(&models).unwrap().1.version, 10);
    assert_eq!(super::manifest(&models).unwrap().version, 10);
    let again = fs::read_dir(&models).unwrap().count();
    assert_eq!(again, 3, "no temporary folder is left");
}

#[test]
fn both_towers_are_written_as_onnx() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = super::save(root.path(), &model(), b"optimizer", &info(1)).unwrap();
    for name in ["user_tower.onnx", "item_tower.onnx"] {
        let bytes = fs::read(path.join(name)).unwrap();
        assert!(bytes.len() > 100, "{name}");
    }
    load(&path).unwrap();
}

#[test]
fn a_version_is_written_once() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    let before = fs::read(path.join(WEIGHTS)).unwrap();
    let towers = Towers {
        user: Vec::new(),
        item: Vec::new(),
    };
    let error = save_with(root.path(), &model(), b"optimizer", &info(1), &towers).unwrap_err();
    assert!(matches!(error, ModelFilesError::Exists(_)), "{error}");
    assert_eq!(fs::read(path.join(WEIGHTS)).unwrap(), before);
}

#[test]
fn nothing_there_says_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    for dir in [root.path().to_owned(), root.path().join("no")] {
        let error = load(&dir).unwrap_err();
        assert!(error.to_string().contains("twotower train"), "{error}");
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    for name in FILES.into_iter().chain([MANIFEST]) {
        let file = path.join(name);
        let good = fs::read(&file).unwrap();
        let check = |path: &Path| match name {
            MANIFEST => manifest(path).map(drop),
            _ => refused(path),
        };
        // Every byte of the manifest, and enough places of each other file.
        let step = if name == MANIFEST {
            1
        } else {
            good.len() / 20 + 1
        };
        for position in (0..good.len()).step_by(step) {
            for flip in [0x01, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[position] ^= flip;
                fs::write(&file, &bad).unwrap();
                let error = check(&path).unwrap_err();
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        for bad in [&good[..good.len() - 1], &[good.as_slice(), b" "].concat()] {
            fs::write(&file, bad).unwrap();
            assert!(refused(&path).is_err());
        }
        fs::remove_file(&file).unwrap();
        assert!(refused(&path).is_err());
        fs::write(&file, good).unwrap();
        load(&path).unwrap();
    }
}

/// The error of both ways of loading. The user tower alone is refused where the whole model is.
fn refused(path: &Path) -> Result<(), ModelFilesError> {
    let model = load(path).map(drop);
    let tower = load_user_tower(path).map(drop);
    let said =
        |result: &Result<(), ModelFilesError>| result.as_ref().map_err(ToString::to_string).err();
    assert_eq!(said(&model), said(&tower));
    model
}

/// A claimed length of a terabyte is neither read nor allocated.
#[test]
fn a_file_of_another_length_is_refused_unread() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    for name in [CARD, WEIGHTS, USER_TOWER_WEIGHTS] {
        let file = fs::File::options().write(true).open(path.join(name));
        let file = file.unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(1 << 40).unwrap();
        let error = refused(&path).unwrap_err().to_string();
        let expected = format!("{name} has 1099511627776 bytes, and the manifest states {len}");
        assert!(error.contains(&expected), "{error}");
        file.set_len(len).unwrap();
        refused(&path).unwrap();
    }
}

#[test]
fn files_of_two_versions_do_not_mix() {
    let root = tempfile::tempdir().unwrap();
    let (one, _) = save(root.path(), 1);
    let (two, _) = save(root.path(), 2);
    fs::copy(two.join(MANIFEST), one.join(MANIFEST)).unwrap();
    let error = load(&one).unwrap_err();
    assert!(
        matches!(error, ModelFilesError::Version { version: 2, .. }),
        "{error}"
    );
}

#[test]
fn swapped_and_foreign_files_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    let read = |name: &str| fs::read(path.join(name)).unwrap();
    let names: Vec<_> = FILES.into_iter().chain([MANIFEST]).collect();
    for (n, one) in names.iter().enumerate() {
        let good = read(one);
        for other in &names[n + 1..] {
            let other_good = read(other);
            fs::write(path.join(one), &other_good).unwrap();
            fs::write(path.join(other), &good).unwrap();
            assert!(load(&path).is_err(), "{one} swapped with {other}");
            let tower = load_user_tower(&path);
            assert!(tower.is_err(), "{one} swapped with {other}");
            fs::write(path.join(other), &other_good).unwrap();
        }
        // The same file from another training.
        fs::write(path.join(one), [&good[..], b"x"].concat()).unwrap();
        assert!(refused(&path).is_err(), "{one} of another version");
        fs::write(path.join(one), good).unwrap();
    }
    load(&path).unwrap();
}

/// Writes a changed manifest with a valid checksum.
fn forge(path: &Path, change: impl FnOnce(&mut Value)) {
    let file = path.join(MANIFEST);
    let mut value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut value);
    value["checksum"] = "".into();
    // Our JSON objects sort their fields, and `checksum` is the first of them.
    let sum = crate::snapshot::sha256(&serde_json::to_vec_pretty(&value).unwrap());
    value["checksum"] = sum.into();
    let mut bytes = serde_json::to_vec_pretty(&value).unwrap();
    bytes.push(b'\n');
    fs::write(&file, bytes).unwrap();
}

/// Corrupts a manifest.
type Spoil = fn(&mut Value);

#[test]
fn what_is_not_as_agreed_is_refused_by_name() {
    let cases: [(&str, Spoil); 9] = [
        ("format 9", |value| value["format"] = 9.into()),
        ("no format", |value| value["format"] = Value::Null),
        ("`surprise`", |value| value["surprise"] = 1.into()),
        ("does not list user_tower.onnx", |value| {
            value["files"]
                .as_object_mut()
                .unwrap()
                .remove("user_tower.onnx");
        }),
        ("lists `../x`", |value| value["files"]["../x"] = "00".into()),
        ("item_tower.id_table", |value| {
            value["hyperparameters"]["embedding_dim"] = 8.into();
        }),
        (
            "manifest.json states what no model is made with (embedding_dim is 2001, expected 1 to 2000)",
            |value| value["hyperparameters"]["embedding_dim"] = 2001.into(),
        ),
        (
            "unknown variant `random`, expected `temporal` or `llo`",
            |value| value["trained_on"]["split"] = "random".into(),
        ),
        ("named otherwise", |value| value["version"] = 3.into()),
    ];
    for (expected, change) in cases {
        let root = tempfile::tempdir().unwrap();
        let (path, _) = save(root.path(), 1);
        forge(&path, change);
        let error = load(&path).unwrap_err();
        assert!(format!("{error}").contains(expected), "{expected}: {error}");
    }
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    forge(&path, |_| ());
    manifest(&path).unwrap();
}

/// Adds a changed file to the manifest with a valid checksum.
pub(crate) fn exchange(path: &Path, name: &str, bytes: &[u8]) {
    fs::write(path.join(name), bytes).unwrap();
    forge(path, |value| {
        value["files"][name] = crate::snapshot::sha256(bytes).into();
        value["sizes"][name] = bytes.len().into();
    });
}

#[test]
fn the_user_tower_alone_is_that_of_the_model() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    let bytes = fs::read(path.join(USER_TOWER_WEIGHTS)).unwrap();
    let tower = UserTower::from_safetensors(&bytes).unwrap();
    assert_eq!(tower, model().user_tower);
    let mut other = tower.clone();
    other.skip_decay = 0.25;
    exchange(&path, USER_TOWER_WEIGHTS, &other.to_safetensors().unwrap());
    let error = refused(&path).unwrap_err();
    assert!(
        matches!(error, ModelFilesError::UserTower { .. }),
        "{error}"
    );
    let wider = UserTower::zeros(tower.decays.clone(), tower.skip_decay, 3, 8);
    exchange(&path, USER_TOWER_WEIGHTS, &wider.to_safetensors().unwrap());
    let error = refused(&path).unwrap_err();
    assert!(
        matches!(error, ModelFilesError::UserTower { .. }),
        "{error}"
    );
    exchange(&path, USER_TOWER_WEIGHTS, b"none");
    let error = refused(&path).unwrap_err();
    assert!(error.to_string().contains(USER_TOWER_WEIGHTS), "{error}");
    exchange(&path, USER_TOWER_WEIGHTS, &bytes);
    load(&path).unwrap();
}

#[test]
fn a_model_of_before_the_user_tower_had_a_file_is_one() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    fs::remove_file(path.join(USER_TOWER_WEIGHTS)).unwrap();
    forge(&path, |value| {
        for field in ["files", "sizes"] {
            let listed = value[field].as_object_mut().unwrap();
            listed.remove(USER_TOWER_WEIGHTS).unwrap();
        }
    });
    let (loaded, manifest) = load(&path).unwrap();
    assert_eq!(loaded, model());
    assert_eq!(load_user_tower(&path).unwrap().0, model().user_tower);
    assert_eq!(manifest.listed().count(), FILES.len() - 1);
    let checksum = manifest.checksum;
    assert_eq!(remove(root.path(), 1, &checksum).unwrap(), Some(path));
}

/// Python reads the same content as the JSON, with types that need no import.
#[test]
fn python_reads_the_pickle() {
    let root = tempfile::tempdir().unwrap();
    let (path, _) = save(root.path(), 1);
    let script = "
import io, json, pickle, sys
class Plain(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(f'{module}.{name}')
one = Plain(open('preprocessing.pkl', 'rb')).load()
other = json.load(open('preprocessing.json', encoding='utf-8'))
sys.exit(0 if one == other and type(one) is dict and one['tags'] else f'{one} != {other}')
";
    let output = Command::new("python3")
        .args(["-c", script])
        .current_dir(&path)
        .output()
        .expect("this test needs python3 on the path");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn what_a_killed_process_has_left_is_cleared_away_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let towers = Towers {
        user: vec![1],
        item: vec![2],
    };
    let folder = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(WEIGHTS), "half").unwrap();
        path
    };
    let abandoned = folder(".3.tmp-00000000deadbeef");
    let of_others = folder(".cache.tmp-1");
    let at_work = folder(".4.tmp-00000000cafecafe");
    let lock = fs::File::open(&at_work).unwrap();
    lock.lock().unwrap();
    save_with(root.path(), &model(), &[], &info(5), &towers).unwrap();
    assert!(!abandoned.exists());
    assert!(of_others.exists() && at_work.exists() && root.path().join("5").exists());
}

/// Together with the registry's data.
fn save_registered(root: &Path, version: i64) -> (std::path::PathBuf, String) {
    let (path, _) = save(root, version);
    let checksum = manifest(&path).unwrap().checksum;
    (path, checksum)
}

#[test]
fn the_very_model_is_removed_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let (path, checksum) = save_registered(root, 3);
    let (other, other_checksum) = save_registered(root, 4);
    assert_eq!(remove(root, 5, &checksum).unwrap(), None);
    assert_eq!(remove(root, 4, &checksum).unwrap(), None, "another model");
    assert_eq!(
        removable(root, 3, &checksum).unwrap().as_deref(),
        Some(&*path)
    );
    fs::write(path.join("notes"), "").unwrap();
    let error = remove(root, 3, &checksum).unwrap_err();
    assert!(
        matches!(&error, ModelFilesError::Foreign { name, .. } if name == "notes"),
        "{error}"
    );
    fs::rename(path.join("notes"), path.join("report.html")).unwrap();
    for beside in [
        "manifest.json.sig",
        ".manifest.json.sig.tmp",
        "report-temporal.html",
        "report-llo.html",
        "report-against.html",
        ".report-against.html.tmp",
    ] {
        fs::write(path.join(beside), "").unwrap();
    }
    assert_eq!(remove(root, 3, &checksum).unwrap(), Some(path.clone()));
    assert!(!path.exists());
    // A partial model is none, whoever left it there.
    fs::remove_file(other.join(MANIFEST)).unwrap();
    assert_eq!(remove(root, 4, &other_checksum).unwrap(), None);
    assert!(other.join(WEIGHTS).exists());
}

#[cfg(unix)]
#[test]
fn a_link_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = root.path().join("elsewhere");
    let (path, checksum) = save_registered(&elsewhere, 3);
    std::os::unix::fs::symlink(&path, root.path().join("3")).unwrap();
    assert_eq!(remove(root.path(), 3, &checksum).unwrap(), None);
    assert!(path.join(MANIFEST).exists());
}

/// Interrupted after any file, the removal is finished later, even if the same version was trained
/// and loaded again meanwhile.
#[test]
fn a_removal_that_was_cut_off_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for left in 0..=FILES.len() {
        let (path, _) = save(root, 3);
        let doomed = root.join(".pruned-3");
        fs::rename(&path, &doomed).unwrap();
        fs::remove_file(doomed.join(MANIFEST)).unwrap();
        for file in &FILES[..left] {
            fs::remove_file(doomed.join(file)).unwrap();
        }
        assert!(load(root).is_err(), "nobody takes it for a model");
        let (path, checksum) = save_registered(root, 3);
        if left % 2 == 0 {
            remove_rest(root).unwrap();
            assert!(path.exists());
        }
        remove(root, 3, &checksum).unwrap();
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    }
    fs::create_dir(root.join(".pruned-by-me")).unwrap();
    remove_rest(root).unwrap();
    assert!(root.join(".pruned-by-me").exists());
    remove_rest(&root.join("nowhere")).unwrap();
}
