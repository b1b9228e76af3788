//! A stand-in for S3: s3s, which checks AWS signatures (version 4) and conditional writes, over a
//! folder of files. It does not cover what a real provider adds or lacks: TLS, policies, limits of
//! size and rate, deviations in `If-None-Match`.

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(crate) const BUCKET: &str = "models";
pub(crate) const ACCESS_KEY_ID: &str = "test-access-key";
pub(crate) const SECRET_ACCESS_KEY: &str = "canary-secret-access-key";

#[derive(Debug, Default)]
struct Switches {
    /// Requests without credentials are allowed.
    public: AtomicBool,
    /// The connection is dropped at every n-th request; 0 for none.
    hang_up_each: AtomicUsize,
    requests: AtomicUsize,
    /// The second part of an upload is not answered.
    stall: AtomicBool,
    stalled: AtomicBool,
    /// The completion of a multipart upload is refused.
    refuse_completion: AtomicBool,
    /// The same after it was done.
    deny_completion: AtomicBool,
}

struct Access(Arc<Switches>);

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_some() || self.0.public.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(s3_error!(AccessDenied, "who is asking?"))
        }
    }
}

/// A server with one bucket.
pub(crate) struct S3Server {
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    switches: Arc<Switches>,
}

impl S3Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let switches = Arc::new(Switches::default());
        let files = s3s_fs::FileSystem::new(folder.path()).unwrap();
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        builder.set_access(Access(Arc::clone(&switches)));
        let service = builder.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let for_requests = Arc::clone(&switches);
        // In its own thread, since each test has its own runtime; it ends with the process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(answer_all(listener, service, for_requests));
        });
        Self {
            address,
            folder,
            switches,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set_public(&self, public: bool) {
        self.switches.public.store(public, Ordering::SeqCst);
    }

    pub(crate) fn hang_up_each(&self, requests: usize) {
        self.switches.hang_up_each.store(requests, Ordering::SeqCst);
    }

    pub(crate) fn stall_parts(&self) {
        self.switches.stall.store(true, Ordering::SeqCst);
    }

    /// Whether an answer to a part is awaited.
    pub(crate) fn has_stalled(&self) -> bool {
        self.switches.stalled.load(Ordering::SeqCst)
    }

    pub(crate) fn refuse_completion(&self, refuse: bool) {
        let switch = &self.switches.refuse_completion;
        switch.store(refuse, Ordering::SeqCst);
    }

    pub(crate) fn deny_completion(&self) {
        self.switches.deny_completion.store(true, Ordering::SeqCst);
    }

    /// Files of multipart uploads that were neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> usize {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".upload")).count()
    }

    /// The file behind a key.
    pub(crate) fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// Keys below a prefix, sorted.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.file(prefix)) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

async fn answer_all(listener: std::net::TcpListener, service: S3Service, switches: Arc<Switches>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    // s3s-fs is not atomic between checking a key and writing it; a provider is.
    let conditional = Arc::new(tokio::sync::Mutex::new(()));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (service, switches) = (service.clone(), Arc::clone(&switches));
        let conditional = Arc::clone(&conditional);
        let answer = service_fn(move |request: hyper::Request<Incoming>| {
            let number = switches.requests.fetch_add(1, Ordering::SeqCst) + 1;
            let each = switches.hang_up_each.load(Ordering::SeqCst);
            let alone = request.headers().contains_key("if-none-match");
            let query = request.uri().query().unwrap_or_default();
            let stall = query.contains("partNumber=2&") && switches.stall.load(Ordering::SeqCst);
            let completes = request.method() == "POST" && query.contains("uploadId=");
            let refuse = completes && switches.refuse_completion.load(Ordering::SeqCst);
            let deny = completes && switches.deny_completion.load(Ordering::SeqCst);
            let switches = Arc::clone(&switches);
            let conditional = Arc::clone(&conditional);
            let answer = Service::call(&service, request);
            let answer = async move {
                let _alone = if alone {
                    Some(conditional.lock().await)
                } else {
                    None
                };
                answer.await
            };
            async move {
                if stall {
                    switches.stalled.store(true, Ordering::SeqCst);
                    std::future::pending::<()>().await;
                }
                let forbidden = || {
                    let answer = hyper::Response::builder().status(403);
                    answer
                        .body(s3s::Body::empty())
                        .map_err(|error| error.to_string())
                };
                if refuse {
                    return forbidden();
                }
                let hang_up = each > 0 && number.is_multiple_of(each);
                // Alternately before and after it was done.
                if hang_up && (number / each).is_multiple_of(2) {
                    return Err("hung up".to_owned());
                }
                let answer = answer.await.map_err(|error| format!("{error:?}"));
                if hang_up {
                    return Err("hung up".to_owned());
                }
                if deny {
                    return forbidden();
                }
                answer
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}

/// The environment of a user of the bucket.
pub(crate) fn credentials(name: &str) -> Option<String> {
    match name {
        "AWS_ACCESS_KEY_ID" => Some(ACCESS_KEY_ID.into()),
        "AWS_SECRET_ACCESS_KEY" => Some(SECRET_ACCESS_KEY.into()),
        _ => None,
    }
}
