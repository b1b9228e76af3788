//! The thread that keeps views current, so that reading and decoding take no time from the threads
//! that answer requests.

use super::{Records, Snapshots, background};
use crate::serve::limits::Limits;
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Ends the thread when dropped, as soon as that waits for something.
#[derive(Debug)]
pub(crate) struct Keeper {
    _stop: oneshot::Sender<()>,
}

impl Keeper {
    /// Loads the first views, and from then on keeps them current.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(crate) async fn start(
        snapshots: Arc<Snapshots>,
        records: Records,
        limits: Limits,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (loaded, first) = oneshot::channel();
        std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        tracing::error!(%error, "views of the catalogue cannot be loaded");
                        return;
                    }
                };
                runtime.block_on(async {
                    // No request is answered before the first view is there, so this one runs at
                    // normal priority.
                    snapshots.refresh(limits.catalogue_poll).await;
                    let _ = loaded.send(());
                    background::lower_priority();
                    tokio::select! {
                        () = snapshots.keep_current(limits) => {}
                        () = records.keep_current(&snapshots) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        first
            .await
            .map_err(|_| io::Error::other("the thread that loads views has ended"))?;
        Ok(Self { _stop: stop })
    }
}
