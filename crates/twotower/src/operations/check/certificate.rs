//! When the certificates of hosts expire.

use super::Finding;
use super::finding::span;
use super::round::Round;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use twotower_core::time::DAY_US;
use x509_cert::Certificate;
use x509_cert::der::Decode;

pub(super) async fn examine(round: &Round<'_>) -> Vec<Finding> {
    let check = "certificate";
    if !round.wants(check) {
        return Vec::new();
    }
    let hosts = &round.checks().certificate_hosts;
    if hosts.is_empty() {
        let fix = "set `certificate_hosts` of section [checks]: [\"api.example.com\"]";
        return vec![Finding::skipped(check, "no hosts are named", fix)];
    }
    let deadline = round.step();
    let looks = hosts.iter().map(async |host| {
        let name = host.clone();
        let seen = round.blocking(move || not_after_us(&name, deadline)).await;
        let finding = match seen {
            Ok(Ok(until_us)) => judge(until_us, round.now_us, round.checks().certificate_days),
            Ok(Err(error)) => Finding::skipped(
                check,
                error.to_string(),
                "look whether the host is up and speaks TLS on that port",
            ),
            Err(_) => Finding::skipped(check, "does not answer in time", ""),
        };
        finding.about(host.as_str())
    });
    futures_util::future::join_all(looks).await
}

fn judge(until_us: i64, now_us: i64, days: u32) -> Finding {
    let check = "certificate";
    let left = until_us - now_us;
    let fix = "renew it (`certbot renew`, or at whoever runs the proxy), then reload what shows it";
    if left <= 0 {
        return Finding::failed(check, format!("expired {} ago", span(-left)), fix);
    }
    let evidence = format!(
        "holds for {} more, at least {days} days are expected",
        span(left)
    );
    super::finding::judged(check, left >= i64::from(days) * DAY_US, evidence, fix)
}

/// Why a certificate could not be read.
#[derive(Debug, Error)]
enum CertificateError {
    #[error("`{0}` is no host: name one like api.example.com or api.example.com:8443")]
    Host(String),
    #[error(transparent)]
    Connection(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("shows no certificate that can be read")]
    Unreadable,
}

/// When the certificate of a host expires, microseconds since 1970. Blocks.
fn not_after_us(host: &str, deadline: Duration) -> Result<i64, CertificateError> {
    let no_host = || CertificateError::Host(host.to_owned());
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse::<u16>().map_err(|_| no_host())?),
        None => (host, 443),
    };
    let server = ServerName::try_from(name.to_owned()).map_err(|_| no_host())?;
    let mut addresses = (name, port).to_socket_addrs()?;
    let address = addresses.next().ok_or_else(no_host)?;
    let mut stream = TcpStream::connect_timeout(&address, deadline)?;
    stream.set_read_timeout(Some(deadline))?;
    stream.set_write_timeout(Some(deadline))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), server)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let shown = connection
        .peer_certificates()
        .and_then(|shown| shown.first());
    let shown = shown.ok_or(CertificateError::Unreadable)?;
    let certificate = Certificate::from_der(shown).map_err(|_| CertificateError::Unreadable)?;
    let until = certificate
        .tbs_certificate
        .validity
        .not_after
        .to_unix_duration();
    Ok(i64::try_from(until.as_micros()).unwrap_or(i64::MAX))
}

/// Accepts any certificate: nothing is sent over the connection, and expired ones must be read too.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::check::Verdict;

    #[test]
    fn a_certificate_must_hold_for_a_while() {
        let verdict = |days: i64| judge(days * DAY_US, 0, 14).verdict;
        assert_eq!(verdict(14), Verdict::Passed);
        assert_eq!(verdict(13), Verdict::Failed);
        assert_eq!(verdict(-1), Verdict::Failed);
    }

    #[test]
    fn what_is_no_host_is_named() {
        let error = not_after_us("a b:443", Duration::from_secs(1)).unwrap_err();
        assert!(
            error.to_string().contains("`a b:443` is no host"),
            "{error}"
        );
    }
}
