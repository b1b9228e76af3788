//! A program that gets the message.

use super::channel::{DEADLINE, DeliveryError};
use super::message::Message;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Starts the program, writes the message as JSON to its standard input, and waits for it to end well. What it says goes where our log
/// goes. At the deadline it is killed, with all that it has started.
pub(super) async fn run(command: &[String], message: &Message) -> Result<(), DeliveryError> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let json = serde_json::to_vec(message).map_err(|error| DeliveryError::Unwritable {
        reason: error.to_string(),
    })?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    // A group of its own.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| DeliveryError::Start {
        program: program.clone(),
        reason: error.kind(),
    })?;
    let outcome = tokio::time::timeout(DEADLINE, async {
        if let Some(mut input) = child.stdin.take() {
            // One that does not read need not.
            let _ = input.write_all(&json).await;
        }
        child.wait().await
    });
    let failed = |outcome: String| {
        Err(DeliveryError::Program {
            program: program.clone(),
            outcome,
        })
    };
    match outcome.await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => failed(format!("failed: {status}")),
        Ok(Err(error)) => failed(format!("cannot be waited for: {}", error.kind())),
        Err(_) => {
            kill(&mut child).await;
            failed(format!(
                "was killed: it took more than {} s",
                DEADLINE.as_secs()
            ))
        }
    }
}

async fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = child
        .id()
        .and_then(|id| rustix::process::Pid::from_raw(id as i32))
    {
        // It may have ended just now.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill().await;
}
