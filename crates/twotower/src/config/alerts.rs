use super::ConfigError;
use super::error::Section;
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use std::path::Path;
use twotower_core::time::DAY_MINUTES;

/// Section `[alerts]`: who is alerted, and when. Secret addresses come from the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alerts {
    /// Interval at which `twotower schedule` runs the checks, minutes; 0 leaves that to other
    /// programs.
    pub every_minutes: u32,
    /// A critical failure alerts after it has lasted this long, minutes.
    pub critical_after_minutes: u32,
    /// A warning alerts after it has lasted this long, minutes.
    pub warning_after_minutes: u32,
    /// A failure that recurs within this time of its recovery is flapping, and is resolved only
    /// after its check has passed for this long, minutes.
    pub flapping_minutes: u32,
    /// An alert that is still firing is repeated after this many hours; 0 never repeats it.
    pub repeat_hours: u32,
    /// Sender of mails.
    pub email_from: String,
    /// Recipients of mails.
    pub email_to: Vec<String>,
    /// Program and arguments; it gets the message as JSON on its standard input.
    pub command: Vec<String>,
    /// Prefix of links to the runbook.
    pub runbook: String,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            every_minutes: 5,
            critical_after_minutes: 0,
            warning_after_minutes: 10,
            flapping_minutes: 60,
            repeat_hours: 24,
            email_from: String::new(),
            email_to: Vec::new(),
            command: Vec::new(),
            runbook: "docs/runbook.md".into(),
        }
    }
}

impl Alerts {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let day = u32::from(DAY_MINUTES);
        let section = Section {
            path,
            name: "alerts",
        };
        section.within("every_minutes", self.every_minutes, 0..=day)?;
        section.within(
            "critical_after_minutes",
            self.critical_after_minutes,
            0..=day,
        )?;
        section.within("warning_after_minutes", self.warning_after_minutes, 0..=day)?;
        section.within("flapping_minutes", self.flapping_minutes, 0..=day)?;
        section.within("repeat_hours", self.repeat_hours, 0..=24 * 365)?;
        let sender = Some(&self.email_from).filter(|text| !text.is_empty());
        let senders = sender.map(|text| ("email_from", text));
        let recipients = self.email_to.iter().map(|text| ("email_to", text));
        for (key, text) in senders.into_iter().chain(recipients) {
            if text.parse::<Mailbox>().is_err() {
                return Err(ConfigError::Mailbox {
                    path: path.to_owned(),
                    key,
                    text: text.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let parse = |text: &str| Config::parse(&format!("[alerts]\n{text}"), Path::new("x.toml"));
        assert!(
            parse("email_from = \"Two Tower <a@b.example>\"\nemail_to = [\"c@d.example\"]").is_ok()
        );
        assert_eq!(
            parse("email_to = [\"nobody\"]").unwrap_err().to_string(),
            "configuration x.toml, section [alerts]: email_to has `nobody`, which is no mail address"
        );
        assert_eq!(
            parse("repeat_hours = 9000").unwrap_err().to_string(),
            "configuration x.toml, section [alerts]: repeat_hours is 9000, expected 0 to 8760"
        );
    }
}
