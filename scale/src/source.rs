//! Where videos, likes and skips are read from.

mod table;

pub(crate) use table::Table;

use anyhow::{Context, bail, ensure};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use url::Url;

/// The manifest of `twotower export`.
const EXPORT: &str = "export.json";

/// Ends the name of every file that is read.
const ENDING: &str = ".parquet";

/// End the names of what may stand beside them and holds no rows.
const BESIDE: [&str; 4] = [".crc", ".md5", ".sha256", "manifest.json"];

/// What was asked for.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SourceArguments {
    /// Folder with `videos/*.parquet`, `likes/*.parquet` and, if there are any, `skips/*.parquet`; or the
    /// likes alone, as a Parquet file or pattern, with --videos and perhaps --skips; or `postgres` for the database of
    /// `DATABASE_URL`
    #[arg(long, value_name = "FOLDER|PATTERN|postgres")]
    pub from: String,
    /// Skips: a Parquet file or pattern
    #[arg(long, value_name = "PATTERN")]
    pub skips: Option<String>,
    /// Videos: a Parquet file or pattern
    #[arg(long, value_name = "PATTERN")]
    pub videos: Option<String>,
}

/// Where the rows are, in a form that another process on another machine understands as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) videos: Files,
    pub(crate) likes: Files,
    pub(crate) skips: Option<Files>,
    /// Number of the last erasure that whoever wrote the files knew of; 0 where nothing says so.
    pub(crate) erasures_seen: i64,
    /// Whether users have numbers in place of their ids.
    pub(crate) pseudonyms: bool,
}

impl SourceArguments {
    /// Whether rows are to be fetched from a database first.
    pub(crate) fn is_database(&self) -> bool {
        self.from == "postgres"
            || self.from.starts_with("postgres://")
            || self.from.starts_with("postgresql://")
    }

    /// Decides which files hold what.
    ///
    /// # Errors
    /// If it is not said where the videos are, or a local file is missing.
    pub(crate) fn resolve(&self) -> anyhow::Result<Source> {
        let named = [Some(&self.from), self.skips.as_ref(), self.videos.as_ref()];
        if let Some(url) = named
            .into_iter()
            .flatten()
            .find(|name| name.contains("://"))
        {
            bail!(
                "{url}: files are read from a file system: copy the objects there, or mount the bucket"
            );
        }
        let from = self.from.trim_end_matches('/');
        if let Some(videos) = &self.videos {
            return Ok(Source {
                videos: Files::named(videos)?,
                likes: Files::named(&self.from)?,
                skips: self.skips.as_deref().map(Files::named).transpose()?,
                erasures_seen: 0,
                pseudonyms: false,
            });
        }
        ensure!(
            self.skips.is_none(),
            "--skips without --videos: with a folder as --from, its own skips are read; else name the videos as well"
        );
        Self::folder(Path::new(from))
    }

    fn folder(folder: &Path) -> anyhow::Result<Source> {
        let of = |name: &str| -> anyhow::Result<Option<Files>> {
            let files = folder.join(name);
            let file = folder.join(format!("{name}.parquet"));
            match (files.is_dir(), file.is_file()) {
                (true, true) => bail!(
                    "{} and {} are both there: keep one of them",
                    files.display(),
                    file.display()
                ),
                (true, false) => Files::of_folder(&files).map(Some),
                (false, true) => Files::of_file(&file).map(Some),
                (false, false) => Ok(None),
            }
        };
        let needed = |name: &str| {
            of(name)?.with_context(|| {
                format!(
                    "{} has neither {name}/ nor {name}.parquet: name a folder that has, or the likes as --from and the videos as --videos",
                    folder.display()
                )
            })
        };
        let Export {
            erasures_seen,
            pseudonyms,
        } = Export::read(&folder.join(EXPORT))?;
        Ok(Source {
            videos: needed("videos")?,
            likes: needed("likes")?,
            skips: of("skips")?,
            erasures_seen,
            pseudonyms,
        })
    }
}

/// What `twotower export` says of the database that it read, where it wrote the folder; nothing where somebody else did.
#[derive(Debug, Default, serde::Deserialize)]
struct Export {
    erasures_seen: i64,
    pseudonyms: bool,
}

impl Export {
    fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is not as `twotower export` writes it", path.display())
            }),
        }
    }
}

/// The files of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// For people.
    shown: String,
    /// Each file by its URL, in which no character has a meaning of its own; or a pattern.
    places: Vec<String>,
}

impl Files {
    /// What an argument names: a file, a folder, or what fits a pattern. What is there is no pattern, whatever its name.
    fn named(name: &str) -> anyhow::Result<Self> {
        let named = Path::new(name);
        if named.is_dir() {
            return Self::of_folder(named);
        }
        if named.exists() {
            return Self::of_file(named);
        }
        ensure!(
            name.contains(['*', '?', '[']),
            "{name}: no such file or folder"
        );
        // An executor works in another folder.
        let pattern = path(named)?;
        Ok(Self {
            shown: pattern.clone(),
            places: vec![pattern],
        })
    }

    fn of_file(file: &Path) -> anyhow::Result<Self> {
        let shown = path(file)?;
        ensure!(
            shown.ends_with(ENDING),
            "{shown}: files are read whose names end in {ENDING}: rename it if it is one"
        );
        Ok(Self {
            shown,
            places: vec![url(file)?],
        })
    }

    /// Every file that is there, or an error that names the one that would be left out.
    fn of_folder(folder: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        list(folder, &mut files)?;
        ensure!(
            !files.is_empty(),
            "{} has no file whose name ends in {ENDING}: correct the path, or write the files there",
            folder.display()
        );
        files.sort_unstable();
        Ok(Self {
            shown: format!("{}/", path(folder)?),
            places: files
                .iter()
                .map(|file| url(file))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Adds the files of a folder and of its partitions (`name=value/`).
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let failed = || format!("list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        // `.part.crc`, `_SUCCESS`: as every engine, what begins so is no data.
        if name.starts_with(['.', '_']) || BESIDE.iter().any(|ending| name.ends_with(ending)) {
            continue;
        }
        if path.is_dir() {
            ensure!(
                name.contains('='),
                "{}: of the folders in {} only those of partitions (`name=value`) are read, and this one would be left out: move its files up, \
                 or take it away",
                path.display(),
                folder.display()
            );
            list(&path, files)?;
        } else {
            ensure!(
                name.ends_with(ENDING),
                "{}: of the files in {} those are read whose names end in {ENDING}, and this one would be left out: rename it if it is one, \
                 or take it away",
                path.display(),
                folder.display()
            );
            files.push(path);
        }
    }
    Ok(())
}

fn url(file: &Path) -> anyhow::Result<String> {
    let path = path(file)?;
    match Url::from_file_path(&path) {
        Ok(url) => Ok(url.into()),
        Err(()) => bail!("{path}: the name cannot be read by the engine: rename it"),
    }
}

fn path(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("{}", path.display()))?;
    match absolute.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("{}: the name is not UTF-8", absolute.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(from: &str, videos: Option<&str>, skips: Option<&str>) -> SourceArguments {
        SourceArguments {
            from: from.to_owned(),
            skips: skips.map(str::to_owned),
            videos: videos.map(str::to_owned),
        }
    }

    #[test]
    fn a_folder_says_by_its_names_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let resolve = || arguments(root, None, None).resolve();
        let error = resolve().unwrap_err().to_string();
        assert!(
            error.contains("neither videos/ nor videos.parquet"),
            "{error}"
        );
        fs::create_dir(folder.path().join("likes")).unwrap();
        fs::write(folder.path().join("videos.parquet"), "").unwrap();
        let error = resolve().unwrap_err().to_string();
        assert!(error.contains("likes has no file"), "{error}");
        for name in ["b.parquet", "a.parquet", "_SUCCESS", ".a.parquet.crc"] {
            fs::write(folder.path().join("likes").join(name), "").unwrap();
        }
        let source = resolve().unwrap();
        assert_eq!(source.videos.to_string(), format!("{root}/videos.parquet"));
        assert_eq!(source.likes.to_string(), format!("{root}/likes/"));
        let places = ["a", "b"].map(|name| format!("file://{root}/likes/{name}.parquet"));
        assert_eq!(source.likes.places, places);
        assert_eq!(source.skips, None);
        fs::write(folder.path().join("likes.parquet"), "").unwrap();
        assert!(resolve().unwrap_err().to_string().contains("both"));
    }

    #[test]
    fn the_likes_alone_need_videos() {
        let error = |from, skips| {
            let arguments = arguments(from, None, skips);
            arguments.resolve().unwrap_err().to_string()
        };
        assert!(error("s3://bucket/app", None).contains("copy the objects"));
        assert!(error("x", Some("skips.parquet")).contains("--videos"));
        let all = arguments("likes/*.parquet", Some("v*.parquet"), None);
        let source = all.resolve().unwrap();
        let likes = &source.likes.places[0];
        assert!(likes.starts_with('/') && likes.ends_with("/likes/*.parquet"));
        assert!(arguments("postgres", None, None).is_database());
    }

    #[test]
    fn nothing_in_a_folder_is_left_out_without_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("2026 [a]*?");
        let partition = root.join("day=1");
        fs::create_dir_all(&partition).unwrap();
        let good = [root.join("part [0].parquet"), partition.join("0.parquet")];
        for file in &good {
            fs::write(file, "").unwrap();
        }
        for beside in [".part.crc", "_metadata", "manifest.json", "part.sha256"] {
            fs::write(root.join(beside), "").unwrap();
        }
        let name = root.to_str().unwrap();
        let files = Files::named(name).unwrap();
        let mut paths: Vec<_> = files
            .places
            .iter()
            .map(|url| Url::parse(url).unwrap().to_file_path().unwrap())
            .collect();
        paths.sort();
        let mut expected = good.to_vec();
        expected.sort();
        assert_eq!(paths, expected);
        for wrong in [
            "part.parquet.gz",
            "part.PARQUET",
            "part.csv",
            "000000_0",
            "more.json",
        ] {
            for folder in [&root, &partition] {
                let file = folder.join(wrong);
                fs::write(&file, "").unwrap();
                let error = Files::named(name).unwrap_err().to_string();
                assert!(error.contains(wrong), "{error}");
                fs::remove_file(&file).unwrap();
            }
        }
        fs::create_dir(root.join("older")).unwrap();
        let error = Files::named(name).unwrap_err().to_string();
        assert!(error.contains("older: of the folders"), "{error}");
    }

    #[test]
    fn a_file_has_the_ending_of_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("likes.pq");
        fs::write(&file, "").unwrap();
        let error = Files::named(file.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains("end in .parquet"), "{error}");
    }
}
