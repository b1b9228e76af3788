//! A stand-in for the REST API of Supabase Storage, over a folder of files; README.md lists its
//! limits.

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const BUCKET: &str = "models";
const SECRET_KEY: &str = "sb_secret_canary-of-the-project";
const PUBLISHABLE_KEY: &str = "sb_publishable_of-the-project";
/// A key that is a JWT.
const LEGACY_KEY: &str = "canary.service-role.key";
const PART: usize = 6 << 20;

/// The environment of a user of the project.
pub(crate) fn variables(name: &str) -> Option<String> {
    match name {
        "SUPABASE_SECRET_KEYS" => Some(json!({"default": SECRET_KEY}).to_string()),
        "SUPABASE_SERVICE_ROLE_KEY" => Some(LEGACY_KEY.into()),
        "SUPABASE_PUBLISHABLE_KEYS" => Some(json!({"web": PUBLISHABLE_KEY}).to_string()),
        _ => None,
    }
}

/// A key of another project.
pub(crate) fn wrong_key(name: &str) -> String {
    variables(name).unwrap().replace("canary", "canary-wrong")
}

/// Public access to the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    None,
    /// The bucket itself is public.
    Public,
    /// A policy allows reading with the key that apps contain.
    Policy,
}

#[derive(Debug)]
struct State {
    folder: PathBuf,
    /// Whether it is public; `None` if there is no bucket.
    bucket: Option<bool>,
    policy: bool,
    uploads: HashMap<String, Upload>,
    limit: usize,
    /// The connection is dropped at every n-th request; 0 for none.
    hang_up_each: usize,
    requests: usize,
    /// Number of downloads that break off in the middle.
    break_downloads: usize,
}

#[derive(Debug)]
struct Upload {
    key: String,
    total: usize,
    bytes: Vec<u8>,
}

/// A project with at most one bucket.
pub(crate) struct SupabaseServer {
    address: SocketAddr,
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
}

impl SupabaseServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(Mutex::new(State {
            folder: folder.path().to_owned(),
            bucket: None,
            policy: false,
            uploads: HashMap::new(),
            limit: usize::MAX,
            hang_up_each: 0,
            requests: 0,
            break_downloads: 0,
        }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let for_requests = Arc::clone(&state);
        // In its own thread, since each test has its own runtime; it ends with the process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(answer_all(listener, for_requests));
        });
        Self {
            address,
            folder,
            state,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    pub(crate) fn make_bucket(&self) {
        self.set(|state| state.bucket = Some(false));
    }

    pub(crate) fn is_public(&self) -> Option<bool> {
        self.state.lock().unwrap().bucket
    }

    pub(crate) fn open(&self, opening: Opening) {
        self.set(|state| {
            state.bucket = Some(opening == Opening::Public);
            state.policy = opening == Opening::Policy;
        });
    }

    /// Size of the largest object.
    pub(crate) fn limit(&self, bytes: usize) {
        self.set(|state| state.limit = bytes);
    }

    pub(crate) fn hang_up_each(&self, requests: usize) {
        self.set(|state| state.hang_up_each = requests);
    }

    pub(crate) fn break_downloads(&self, downloads: usize) {
        self.set(|state| state.break_downloads = downloads);
    }

    /// The file behind a key.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(key)
    }

    /// Names in a folder, sorted.
    pub(crate) fn keys(&self, folder: &str) -> Vec<String> {
        names(&self.file(folder))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

type Body = BoxBody<Bytes, io::Error>;
type Answer = Result<Response<Body>, Refusal>;

/// A status, for the document, an error and a message.
struct Refusal(u16, &'static str, String);

const NOT_FOUND: (u16, &str, &str) = (404, "not_found", "Object not found");
const DUPLICATE: (u16, &str, &str) = (409, "Duplicate", "The resource already exists");

fn refuse<T>((status, error, message): (u16, &'static str, &str)) -> Result<T, Refusal> {
    Err(Refusal(status, error, message.to_owned()))
}

fn full(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    *response.status_mut() = status;
    response
}

fn document(value: &Value) -> Response<Body> {
    full(StatusCode::OK, value.to_string())
}

async fn answer_all(listener: std::net::TcpListener, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let state = Arc::clone(&state);
        let answer = service_fn(move |request: Request<Incoming>| {
            let state = Arc::clone(&state);
            async move {
                let (number, each) = {
                    let mut state = state.lock().unwrap();
                    state.requests += 1;
                    (state.requests, state.hang_up_each)
                };
                let hang_up = each > 0 && number.is_multiple_of(each);
                // Alternately before and after it was done.
                if hang_up && (number / each).is_multiple_of(2) {
                    return Err("hung up".to_owned());
                }
                let answer = answer(request, &state).await;
                if hang_up {
                    return Err("hung up".to_owned());
                }
                Ok(answer.unwrap_or_else(|Refusal(status, error, message)| {
                    let text = json!({"statusCode": status.to_string(), "error": error, "message": message});
                    full(StatusCode::BAD_REQUEST, text.to_string())
                }))
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Stranger,
    App,
    Service,
}

fn role(request: &Request<Incoming>) -> Result<Role, Refusal> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|text| text.to_str().unwrap())
    };
    let bearer = format!("Bearer {LEGACY_KEY}");
    match (header("apikey"), header("authorization")) {
        (None, None) => Ok(Role::Stranger),
        (Some(SECRET_KEY), None) => Ok(Role::Service),
        (Some(PUBLISHABLE_KEY), None) => Ok(Role::App),
        (Some(LEGACY_KEY), Some(token)) if token == bearer => Ok(Role::Service),
        // The message quotes the key, as a careless proxy might.
        (key, token) => refuse((401, "Unauthorized", &format!("not {key:?} {token:?}"))),
    }
}

async fn answer(request: Request<Incoming>, state: &Mutex<State>) -> Answer {
    let role = role(&request)?;
    let path = request.uri().path().to_owned();
    let Some(path) = path.strip_prefix("/storage/v1/") else {
        return refuse((404, "not_found", "no such route"));
    };
    let (route, rest) = path.split_once('/').unwrap_or((path, ""));
    if route == "object"
        && request.method() == Method::GET
        && let Some(answer) = download(&request, rest, role, state)
    {
        return answer;
    }
    if let (Role::App, Some(folder)) = (role, rest.strip_prefix("list/")) {
        assert_eq!(folder, BUCKET);
        let seen = state.lock().unwrap().policy;
        return list(request, state, seen).await;
    }
    if role != Role::Service {
        return refuse((
            403,
            "Unauthorized",
            "new row violates row-level security policy",
        ));
    }
    match (request.method().clone(), route, rest) {
        (Method::GET, "bucket", BUCKET) => match state.lock().unwrap().bucket {
            Some(public) => Ok(document(
                &json!({"id": BUCKET, "name": BUCKET, "public": public}),
            )),
            None => refuse((404, "Bucket not found", "Bucket not found")),
        },
        (Method::POST, "bucket", "") => {
            let asked = body(request).await;
            let asked: Value = serde_json::from_slice(&asked).unwrap();
            assert_eq!(
                asked,
                json!({"id": BUCKET, "name": BUCKET, "public": false})
            );
            match state.lock().unwrap().bucket.replace(false) {
                Some(_) => refuse(DUPLICATE),
                None => Ok(document(&json!({"name": BUCKET}))),
            }
        }
        (Method::POST, "object", "list/models") => list(request, state, true).await,
        (Method::POST, "object", key) => upload(request, key_of(key)?, state).await,
        (Method::DELETE, "object", key) => {
            let file = state.lock().unwrap().folder.join(key_of(key)?);
            match fs::remove_file(file) {
                Ok(()) => Ok(document(&json!({"message": "Successfully deleted"}))),
                Err(_) => refuse(NOT_FOUND),
            }
        }
        (method, "upload", rest) => resumable(method, rest, request, state).await,
        _ => refuse((404, "not_found", "no such route")),
    }
}

async fn body(request: Request<Incoming>) -> Bytes {
    request.into_body().collect().await.unwrap().to_bytes()
}

/// The key after the bucket's name.
fn key_of(path: &str) -> Result<String, Refusal> {
    match path
        .strip_prefix(BUCKET)
        .and_then(|rest| rest.strip_prefix('/'))
    {
        Some(key) => Ok(key.to_owned()),
        None => refuse((404, "Bucket not found", "Bucket not found")),
    }
}

/// `None` if the route is none of downloads.
fn download(
    request: &Request<Incoming>,
    rest: &str,
    role: Role,
    state: &Mutex<State>,
) -> Option<Answer> {
    let mut state = state.lock().unwrap();
    let routes = ["public/", "authenticated/", ""];
    let (route, path) = routes
        .iter()
        .find_map(|route| Some((*route, rest.strip_prefix(route)?)))?;
    let public = state.bucket == Some(true);
    let allowed = match role {
        Role::Service => true,
        Role::App => public || state.policy && route != "public/",
        Role::Stranger => public && route != "authenticated/",
    };
    if !allowed {
        return Some(refuse((400, "Bucket not found", "Bucket not found")));
    }
    let file = match key_of(path) {
        Ok(key) => state.folder.join(key),
        Err(refusal) => return Some(Err(refusal)),
    };
    let Ok(bytes) = fs::read(file) else {
        return Some(refuse(NOT_FOUND));
    };
    let range = request.headers().get("range").map(|range| {
        let range = range.to_str().unwrap().strip_prefix("bytes=").unwrap();
        range.strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let bytes = Bytes::from(bytes).slice(range.unwrap_or(0)..);
    let status = match range {
        Some(_) => StatusCode::PARTIAL_CONTENT,
        None => StatusCode::OK,
    };
    if state.break_downloads == 0 || bytes.len() < 2 {
        return Some(Ok(full(status, bytes)));
    }
    state.break_downloads -= 1;
    let pieces = [
        Ok(Frame::data(bytes.slice(..bytes.len() / 2))),
        Err(io::Error::other("broken off")),
    ];
    let body = StreamBody::new(futures_util::stream::iter(pieces));
    let mut response = Response::new(BodyExt::boxed(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-length", bytes.len().into());
    Some(Ok(response))
}

async fn list(request: Request<Incoming>, state: &Mutex<State>, seen: bool) -> Answer {
    let asked: Value = serde_json::from_slice(&body(request).await).unwrap();
    let state = state.lock().unwrap();
    if state.bucket.is_none() || !seen {
        return Ok(document(&json!([])));
    }
    let folder = state.folder.join(asked["prefix"].as_str().unwrap());
    let number = |name: &str, default| asked[name].as_u64().unwrap_or(default) as usize;
    let entries: Vec<Value> = names(&folder)
        .into_iter()
        .skip(number("offset", 0))
        .take(number("limit", 100))
        .map(|name| {
            let metadata = fs::metadata(folder.join(&name)).unwrap();
            if metadata.is_dir() {
                return json!({"name": name, "id": null, "updated_at": null, "metadata": null});
            }
            json!({
                "name": name,
                "id": "00000000-0000-4000-8000-000000000000",
                "updated_at": "2026-11-26T12:00:00.000Z",
                "metadata": {"size": metadata.len(), "mimetype": "application/octet-stream"},
            })
        })
        .collect();
    Ok(document(&Value::Array(entries)))
}

fn may_begin(state: &State, key: &str, upsert: Option<&str>) -> Result<(), Refusal> {
    if state.bucket.is_none() {
        return refuse((404, "Bucket not found", "Bucket not found"));
    }
    if upsert != Some("true") && state.folder.join(key).exists() {
        return refuse(DUPLICATE);
    }
    Ok(())
}

fn too_large<T>() -> Result<T, Refusal> {
    let message = "The object exceeded the maximum allowed size";
    refuse((413, "Payload too large", message))
}

/// Atomically, over an existing file.
fn put(state: &State, key: &str, bytes: &[u8]) {
    let file = state.folder.join(key);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

/// The key is checked only at the start.
async fn upload(request: Request<Incoming>, key: String, state: &Mutex<State>) -> Answer {
    let upsert = request.headers().get("x-upsert").cloned();
    let upsert = upsert.as_ref().map(|text| text.to_str().unwrap());
    may_begin(&state.lock().unwrap(), &key, upsert)?;
    let bytes = body(request).await;
    let state = state.lock().unwrap();
    if bytes.len() > state.limit {
        return too_large();
    }
    put(&state, &key, &bytes);
    Ok(document(&json!({"Key": format!("{BUCKET}/{key}")})))
}

/// The tus protocol, whose refusals are plain text with their own statuses.
async fn resumable(
    method: Method,
    rest: &str,
    request: Request<Incoming>,
    state: &Mutex<State>,
) -> Answer {
    let headers = request.headers().clone();
    let header = |name: &str| headers.get(name).map(|text| text.to_str().unwrap());
    assert_eq!(header("tus-resumable"), Some("1.0.0"));
    let plain =
        |status: u16, text: &'static str| Ok(full(StatusCode::from_u16(status).unwrap(), text));
    let id = rest.strip_prefix("resumable").unwrap_or_default();
    if method == Method::POST && id.is_empty() {
        let mut state = state.lock().unwrap();
        let key = object_name(header("upload-metadata").unwrap());
        let total: usize = header("upload-length").unwrap().parse().unwrap();
        if let Err(Refusal(status, _, _)) = may_begin(&state, &key, header("x-upsert")) {
            return plain(status, "The resource already exists");
        }
        if total > state.limit {
            return plain(413, "Maximum size exceeded");
        }
        let id = format!("upload-{}", state.uploads.len());
        // An address of another host, which must not be called.
        let location = format!("http://192.0.2.1/storage/v1/upload/resumable/{id}");
        let bytes = Vec::new();
        state.uploads.insert(id, Upload { key, total, bytes });
        let mut response = full(StatusCode::CREATED, "");
        response
            .headers_mut()
            .insert("location", location.parse().unwrap());
        return Ok(response);
    }
    let sent = body(request).await;
    let mut state = state.lock().unwrap();
    let id = id.trim_start_matches('/');
    if method == Method::DELETE {
        return match state.uploads.remove(id) {
            Some(_) => plain(204, ""),
            None => plain(404, "The file for this url was not found"),
        };
    }
    let folder = state.folder.clone();
    let Some(upload) = state.uploads.get_mut(id) else {
        return plain(404, "The file for this url was not found");
    };
    if method == Method::PATCH {
        if folder.join(&upload.key).exists() {
            return plain(409, "The resource already exists");
        }
        if header("upload-offset") != Some(upload.bytes.len().to_string().as_str()) {
            return plain(409, "Upload-Offset conflict");
        }
        let last = upload.bytes.len() + sent.len() == upload.total;
        assert!(last || sent.len() == PART, "a part of {} bytes", sent.len());
        upload.bytes.extend_from_slice(&sent);
    }
    let (offset, complete) = (upload.bytes.len(), upload.bytes.len() == upload.total);
    if method == Method::PATCH && complete {
        let upload = state.uploads.remove(id).unwrap();
        put(&state, &upload.key, &upload.bytes);
    }
    let mut response = full(StatusCode::NO_CONTENT, "");
    response
        .headers_mut()
        .insert("upload-offset", offset.into());
    Ok(response)
}

fn object_name(metadata: &str) -> String {
    use base64::Engine;
    let text = |name: &str| {
        let found = metadata.split(',').find_map(|pair| pair.strip_prefix(name));
        let bytes = base64::engine::general_purpose::STANDARD.decode(found.unwrap().trim());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    assert_eq!(text("bucketName"), BUCKET);
    text("objectName")
}
