//! Quotes, line ends and names.

use super::Database;

#[tokio::test]
async fn a_stray_quote_does_not_swallow_the_rest_of_the_file() {
    let database = Database::new().await;
    let rows = |n: u32| match n {
        5 => "5,\"Best of 5\n".to_owned(),
        n => format!("{n},title {n}\n"),
    };
    let content: String = (1..=1_000).map(rows).collect();
    let path = database.file("videos.csv", format!("id,title\n{content}"));
    let path = path.display().to_string();
    let error = database.import(&path).await.unwrap_err().to_string();
    let fault = "line 6: expected a closing quote, found a quote that is never closed, \
                 which makes one row of the rest of the file (lines 6 to 1001)";
    assert!(error.starts_with(&format!("{path}, {fault}\n")), "{error}");
    assert_eq!(database.store.counts().await.unwrap().videos, 4);
    // The number of hidden rows is unknown, so they do not count as one skipped row.
    let error = database.import(&format!("{path} --on-error skip")).await;
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{path}, {fault}\n")), "{error}");
    assert!(
        error.contains("the 4 rows before it are imported"),
        "{error}"
    );
    assert!(error.contains("does not pass over it"), "{error}");
    // The same for a quote that is closed, but only beyond the maximum length of a row.
    let text = "a,b\n".repeat((17 << 20) / 4);
    let content = format!("id,title,genre\n1,a,b\n2,\"{text}\",c\n3,a,b\n");
    let path = database.file("videos-2.csv", content);
    let path = path.display().to_string();
    let error = database.import(&format!("{path} --on-error skip")).await;
    let error = error.unwrap_err().to_string();
    let fault = "line 3: expected a closing quote, found none within 16 MiB of the quote of line 3";
    assert!(error.starts_with(&format!("{path}, {fault}\n")), "{error}");
}

#[tokio::test]
async fn two_stray_quotes_do_not_swallow_the_rows_between_them() {
    let database = Database::new().await;
    let rows = |n: u32| match n {
        9 => "9,\"Best of 9,drama\n".to_owned(),
        499 => "499,Screen of 27\",drama\n".to_owned(),
        n => format!("{n},title {n},drama\n"),
    };
    let content: String = (1..=1_000).map(rows).collect();
    let path = database.file("videos.csv", format!("id,title,genre\n{content}"));
    let path = path.display().to_string();
    let error = database.import(&path).await.unwrap_err().to_string();
    let fault = "line 10: expected one row, found whole rows between a quote of line 10 and one of line 500: \
                 both are stray, or are to be doubled";
    assert!(error.starts_with(&format!("{path}, {fault}\n")), "{error}");
    let report = database.import(&format!("{path} --on-error skip")).await;
    let report = report.unwrap();
    assert_eq!((report.files[0].rows, report.skipped()), (509, 1));
    assert_eq!(database.store.counts().await.unwrap().videos, 509);
}

/// Whatever format a file has, its texts are the same, and so is the video.
#[tokio::test]
async fn line_ends_inside_texts_stay_in_every_format() {
    let database = Database::new().await;
    let csv = "id,title,description,tags\r\n1,\"a\r\nb\",\"c\rd\ne\r\n\r\nf\",\"g\r\nh|i\"\r\n";
    let video = database.video_after("videos.csv", csv).await;
    assert_eq!(video.title, "a\r\nb");
    assert_eq!(video.description, "c\rd\ne\r\n\r\nf");
    assert_eq!(video.tags, ["g\r\nh", "i"]);
    let line = serde_json::json!({
        "id": 1, "title": &video.title, "description": &video.description, "tags": &video.tags,
    });
    for (name, content) in [
        ("videos.jsonl", line.to_string()),
        ("videos.csv", csv.to_owned()),
    ] {
        let path = database.file(name, content);
        let report = database.import(&path.display().to_string()).await.unwrap();
        assert_eq!(report.files[0].unchanged, 1, "{name}");
    }
}

#[tokio::test]
async fn a_name_that_no_database_takes_is_a_fault_of_its_row() {
    let database = Database::new().await;
    let long = "x".repeat(6_000);
    let content = format!("id,title,performers\n1,a,Ann\n2,b,Ann|{long}\n3,c,Ben\n");
    let path = database.file("videos.csv", content).display().to_string();
    let report = database.import(&format!("{path} --on-error skip")).await;
    let report = report.unwrap();
    assert_eq!((report.files[0].rows, report.skipped()), (2, 1));
    assert_eq!(
        report.files[0].faults[0].to_string(),
        format!(
            "{path}, line 3, column `performers`: expected names of at most 1,000 bytes, found `{}…`, which has 6000 bytes",
            "x".repeat(40)
        )
    );
}
