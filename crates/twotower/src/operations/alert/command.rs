//! A program that receives the message.

use super::channel::{DEADLINE, DeliveryError};
use super::message::Message;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Starts the program, writes the message as JSON to its standard input, and waits for success. Its
/// output goes where our log goes. At the deadline it is killed, with every process that it
/// started.
pub(super) async fn run(command: &[String], message: &Message) -> Result<(), DeliveryError> {
    run_within(command, message, DEADLINE).await
}

async fn run_within(
    command: &[String],
    message: &Message,
    deadline: Duration,
) -> Result<(), DeliveryError> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(());
    };
    let mut json = serde_json::to_vec(message).map_err(|error| DeliveryError::Unwritable {
        reason: error.to_string(),
    })?;
    // A line of its own, for programs that append messages to a file.
    json.push(b'\n');
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    // A process group of its own, so that its children can be killed with it.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| DeliveryError::Start {
        program: program.clone(),
        reason: error.kind(),
    })?;
    let outcome = tokio::time::timeout(deadline, async {
        if let Some(mut input) = child.stdin.take() {
            // A program may exit without reading its input.
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
                deadline.as_secs()
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
        // It may already have exited.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill().await;
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).into()
    }

    async fn refused(command: &[String]) -> String {
        let message = Message::test("db1", 0);
        let outcome = run_within(command, &message, Duration::from_secs(1)).await;
        outcome.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let script = format!("sleep 600 & echo $$ $! > {}; wait", pids.display());
        let said = refused(&shell(&script)).await;
        assert_eq!(said, "`/bin/sh` was killed: it took more than 1 s");
        let pids = std::fs::read_to_string(pids).unwrap();
        let gone = |pid: &str| {
            // A killed process that has not been reaped yet shows as a zombie.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        for pid in pids.split_whitespace() {
            while !gone(pid) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn what_fails_is_named() {
        assert_eq!(
            refused(&shell("exit 3")).await,
            "`/bin/sh` failed: exit status: 3"
        );
        assert_eq!(
            refused(&["/nowhere/page".into()]).await,
            "`/nowhere/page` cannot be started: entity not found"
        );
    }

    #[tokio::test]
    async fn it_gets_the_message_and_need_not_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("message");
        let message = Message::test("db1", 0);
        let command = shell(&format!("cat > {}", file.display()));
        run(&command, &message).await.unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(read, serde_json::to_value(&message).unwrap());
        run(&shell("exec 0<&-"), &message).await.unwrap();
    }
}
