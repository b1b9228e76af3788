use super::fixture::{Fixture, service_token, token, user, video};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use twotower_client::{
    BatchRequest, BatchResult, ErrorCode, Event, EventKind, EventsRequest, Filter, Range, Reason,
    RecommendationsRequest, SimilarVideosRequest, Source, TwoTower, TwoTowerError,
};
use uuid::Uuid;

#[test]
fn the_types_of_the_clients_are_those_of_the_contract() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/generate.py");
    let output = Command::new("python3")
        .arg(script)
        .arg("--check")
        .output()
        .expect("python3 compares the clients with docs/openapi.json");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn client(address: &std::net::SocketAddr) -> TwoTower {
    TwoTower::new(&format!("http://{address}/"), Duration::from_secs(30))
}

#[test]
fn the_rust_client_asks_for_everything_an_application_can() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let client = client(&server.address);
    let token = token(user(100));

    let first = client
        .recommend(&token, &RecommendationsRequest::default())
        .unwrap();
    assert_eq!(first.body.source, Source::Popular);
    assert_eq!(first.body.recommendations[0].video_id, video(1));

    let mut like = Event::new(Uuid::from_u128(1), EventKind::Like, video(1));
    like.position = Some(1);
    like.request_id = first.request_id;
    let events = EventsRequest { events: vec![like] };
    let recorded = client.record_events(&token, &events).unwrap().body;
    assert_eq!((recorded.accepted, recorded.duplicates), (1, 0));
    let recorded = client.record_events(&token, &events).unwrap().body;
    assert_eq!((recorded.accepted, recorded.duplicates), (0, 1));

    let request = RecommendationsRequest {
        limit: Some(5),
        include_reasons: Some(true),
        filter: Some(Filter {
            price: Some(Range {
                max: Some(600.0),
                min: None,
            }),
            ..Filter::default()
        }),
        ..RecommendationsRequest::default()
    };
    let list = client.recommend(&token, &request).unwrap().body;
    assert_eq!(list.source, Source::TwoTower);
    assert!((1..=5).contains(&list.recommendations.len()));
    for shown in &list.recommendations {
        assert!(shown.video_id != video(1));
        assert!(shown.reason != Some(Reason::Unknown));
    }

    let request = SimilarVideosRequest {
        video_id: video(2),
        limit: Some(3),
        ..SimilarVideosRequest::default()
    };
    let similar = client.similar_videos(&token, &request).unwrap().body;
    assert_eq!(similar.recommendations.len(), 3);

    let request = BatchRequest {
        user_ids: vec![user(1), user(100)],
        ..BatchRequest::default()
    };
    let batch = client
        .batch_recommendations(&service_token(), &request)
        .unwrap();
    let [
        BatchResult::Recommendations(one),
        BatchResult::Recommendations(other),
    ] = batch.body.results.as_slice()
    else {
        panic!("{batch:?}");
    };
    assert_eq!((one.user_id, other.user_id), (user(1), user(100)));
}

#[test]
fn the_rust_client_tells_refusals_apart() {
    let fixture = Fixture::new();
    let server = fixture.serve();
    let client = client(&server.address);
    let refused = |token: &str, request: &RecommendationsRequest| match client
        .recommend(token, request)
        .unwrap_err()
    {
        TwoTowerError::Refused {
            status, details, ..
        } => (status, details),
        other => panic!("{other:?}"),
    };
    let (status, details) = refused("no.valid.token", &RecommendationsRequest::default());
    assert_eq!((status, details.code), (401, ErrorCode::Unauthorized));
    let request = RecommendationsRequest {
        limit: Some(1000),
        ..RecommendationsRequest::default()
    };
    let (status, details) = refused(&token(user(1)), &request);
    assert_eq!((status, details.code), (400, ErrorCode::InvalidRequest));
    assert!(details.message.contains("limit"), "{details:?}");
    let unknown = SimilarVideosRequest {
        video_id: Uuid::max(),
        ..SimilarVideosRequest::default()
    };
    let error = client
        .similar_videos(&token(user(1)), &unknown)
        .unwrap_err();
    assert!(
        matches!(error, TwoTowerError::Refused { status: 404, .. }),
        "{error}"
    );
}

/// The error of a call that a proxy answers, with `head` between status and body.
fn answered_by_a_proxy(head: &str) -> TwoTowerError {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = client(&listener.local_addr().unwrap());
    let answer = format!("HTTP/1.1 503 Service Unavailable\r\n{head}Content-Length: 4\r\n\r\nbusy");
    let proxy = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = BufReader::new(connection.try_clone().unwrap());
        let mut length = 0;
        loop {
            let mut line = String::new();
            request.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap();
            }
        }
        request.read_exact(&mut vec![0; length]).unwrap();
        connection.write_all(answer.as_bytes()).unwrap();
    });
    let error = client
        .recommend("a.user's.token", &RecommendationsRequest::default())
        .unwrap_err();
    proxy.join().unwrap();
    error
}

#[test]
fn the_rust_client_hears_when_to_try_again() {
    for (head, expected) in [
        ("Retry-After: 120\r\n", Some(120)),
        ("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n", None),
        ("", None),
    ] {
        let error = answered_by_a_proxy(head);
        assert_eq!(error.retry_after_s(), expected, "{error}");
        let TwoTowerError::Unexpected {
            status: 503, text, ..
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(text, "busy");
    }
}
