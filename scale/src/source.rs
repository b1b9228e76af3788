//! Where videos, likes and skips are read from.

use anyhow::{Context, bail, ensure};
use datafusion::dataframe::DataFrame;
use datafusion::execution::options::ParquetReadOptions;
use datafusion::prelude::{Expr, SessionContext, ident};
use std::path::Path;

/// The manifest of `twotower export`.
const EXPORT: &str = "export.json";

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

/// Files and patterns in a form that another process on another machine understands as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) videos: String,
    pub(crate) likes: String,
    pub(crate) skips: Option<String>,
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
                videos: absolute(videos)?,
                likes: absolute(&self.from)?,
                skips: self.skips.as_deref().map(absolute).transpose()?,
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
        let of = |name: &str| -> anyhow::Result<Option<String>> {
            let files = folder.join(name);
            let file = folder.join(format!("{name}.parquet"));
            match (files.is_dir(), file.is_file()) {
                (true, true) => bail!(
                    "{} and {} are both there: keep one of them",
                    files.display(),
                    file.display()
                ),
                (true, false) => Ok(Some(format!("{}/", path(&files)?))),
                (false, true) => Ok(Some(path(&file)?)),
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

/// A local pattern as an absolute one: an executor works in another folder.
fn absolute(pattern: &str) -> anyhow::Result<String> {
    ensure!(
        pattern.contains(['*', '?', '[']) || Path::new(pattern).exists(),
        "{pattern}: no such file or folder"
    );
    let slash = if Path::new(pattern).is_dir() && !pattern.ends_with('/') {
        "/"
    } else {
        ""
    };
    Ok(format!("{}{slash}", path(Path::new(pattern))?))
}

fn path(path: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(path).with_context(|| format!("{}", path.display()))?;
    match absolute.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => bail!("{}: the name is not UTF-8", absolute.display()),
    }
}

/// One table of Parquet files, and its columns by our names for them.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) rows: DataFrame,
    /// What it is called in errors.
    pub(crate) name: &'static str,
}

impl Table {
    pub(crate) async fn open(
        context: &SessionContext,
        files: &str,
        name: &'static str,
    ) -> anyhow::Result<Self> {
        let rows = context
            .read_parquet(files, ParquetReadOptions::default())
            .await
            .with_context(|| format!("read the {name} of {files}"))?;
        ensure!(
            !rows.schema().fields().is_empty(),
            "{files} has no Parquet file with columns (names end in .parquet): correct the path of the {name}"
        );
        Ok(Self { rows, name })
    }

    /// The column of this name. Letter case counts only if two differ in nothing else.
    pub(crate) fn column(&self, name: &str) -> Option<Expr> {
        let fields = self.rows.schema().fields();
        let exact = fields.iter().find(|field| field.name() == name);
        let found = exact.or_else(|| {
            let mut alike = fields
                .iter()
                .filter(|f| f.name().eq_ignore_ascii_case(name));
            let first = alike.next();
            first.filter(|_| alike.next().is_none())
        });
        found.map(|field| ident(field.name()))
    }

    /// As [`Table::column`], for one that must be there.
    pub(crate) fn needed(&self, name: &str) -> anyhow::Result<Expr> {
        self.column(name).with_context(|| {
            let fields = self.rows.schema().fields().iter();
            let names: Vec<String> = fields.map(|field| format!("`{}`", field.name())).collect();
            format!(
                "{} need a column `{name}`, and the files have {}: rename the column where the files are written",
                self.name,
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
        let source = resolve().unwrap();
        assert_eq!(source.videos, format!("{root}/videos.parquet"));
        assert_eq!(source.likes, format!("{root}/likes/"));
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
        assert!(source.likes.starts_with('/') && source.likes.ends_with("/likes/*.parquet"));
        assert!(arguments("postgres", None, None).is_database());
    }
}
