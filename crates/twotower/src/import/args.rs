use crate::import::{ColumnRule, FileKind, time};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Arguments of `twotower import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Files to import (.csv, .tsv, .parquet, .jsonl), or with --preset the data set's folder.
    ///
    /// What a file holds is told by the beginning of its name: `videos…`, `likes…` or `skips…`. Videos are always imported first.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// What the files hold, whatever their names.
    #[arg(long = "as", value_name = "KIND", conflicts_with = "preset")]
    pub kind: Option<FileKind>,

    /// Reads one of our columns from another one of the file, as `user_id=uid`, or for one kind as `likes.created_at=ts`. Repeatable.
    #[arg(
        long = "column",
        value_name = "[KIND.]COLUMN=NAME",
        conflicts_with = "preset"
    )]
    pub columns: Vec<ColumnRule>,

    /// Reads a published data set as it is distributed.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<Preset>,

    /// What to do with a row that cannot be imported.
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub on_error: OnError,

    /// Time of likes and skips that have none.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub default_time: Option<i64>,

    /// Names of the columns, in their order, of .csv and .tsv files that have no header: `user_id,video_id,created_at`. Others are ignored.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "preset"
    )]
    pub header: Vec<String>,

    /// Separator of the fields of .csv and .tsv files: one character, or `tab`.
    #[arg(long, value_name = "CHARACTER", value_parser = parse_delimiter)]
    pub delimiter: Option<u8>,
}

/// What to do with a row that cannot be imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OnError {
    /// Stop there. Rows before it stay imported; importing the repaired file again is safe.
    #[default]
    Stop,
    /// Leave it out, count it and go on; the first ones are listed at the end.
    Skip,
}

/// A data set whose files are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// A folder of `MovieLens`, of any size: ratings from 4 on are likes, up to 2 skips.
    #[value(name = "movielens", alias = "movielens-100k")]
    MovieLens,
}

fn parse_time(text: &str) -> Result<i64, String> {
    time::parse(text).ok_or_else(|| format!("expected {}", time::EXPECTED))
}

fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(*byte),
        b"tab" | b"\\t" => Ok(b'\t'),
        _ => Err("expected one ASCII character, or `tab`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        import: ImportArgs,
    }

    fn parse(line: &str) -> Result<ImportArgs, clap::Error> {
        Cli::try_parse_from(["import"].into_iter().chain(line.split(' '))).map(|cli| cli.import)
    }

    #[test]
    fn every_flag() {
        let args = parse(
            "a.csv b.csv --as likes --column user_id=uid --column likes.created_at=ts --on-error skip --default-time 2026-01-01 --delimiter tab --header uid,_,ts",
        )
        .unwrap();
        assert_eq!(args.files.len(), 2);
        assert_eq!(args.kind, Some(FileKind::Likes));
        assert_eq!(args.columns[1].kind, Some(FileKind::Likes));
        assert_eq!(args.on_error, OnError::Skip);
        assert_eq!(args.default_time, Some(1_767_225_600_000_000));
        assert_eq!(args.delimiter, Some(b'\t'));
        assert_eq!(args.header, ["uid", "_", "ts"]);
        for name in ["movielens", "movielens-100k"] {
            let preset = parse(&format!("--preset {name} ml")).unwrap().preset;
            assert_eq!(preset, Some(Preset::MovieLens));
        }
        assert_eq!(parse("likes.csv").unwrap().on_error, OnError::Stop);
    }

    #[test]
    fn what_is_refused() {
        for line in [
            "--as likes",
            "a.csv --as clicks",
            "a.csv --column x",
            "a.csv --column clicks.x=y",
            "a.csv --default-time soon",
            "a.csv --delimiter ;;",
            "a --preset movielens --as likes",
            "a --preset movielens --header x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
