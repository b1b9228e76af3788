//! Certificates of TLS servers.

use super::{doctor, finding, told, wrong};
use crate::support::Workplace;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// A TLS server with a self-signed certificate that expires at the end of `last_year`; it begins
/// with `greeting`.
fn server(last_year: i32, greeting: fn(&mut TcpStream)) -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(vec!["localhost".into()]).unwrap();
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(last_year, 12, 31);
    let certificate = parameters.self_signed(&key).unwrap();
    let private = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private.into())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            greeting(&mut stream);
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // Clients hang up once they have seen the certificate.
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        }
    });
    address
}

#[test]
fn certificates_that_expired_are_told_host_by_host() {
    let (old, good) = (server(2024, |_| ()), server(2999, |_| ()));
    let place = Workplace::on_sqlite();
    let hosts = [old, good].map(|address| format!("localhost:{}", address.port()));
    place.configure(&format!("[checks]\ncertificate_hosts = {hosts:?}"));
    let (code, value) = told(doctor(&place, "--only certificate"));
    assert_eq!(code, Some(1), "{value:#}");
    let (verdict, evidence, fix) = finding(&value, "certificate", Some(&hosts[0]));
    assert_eq!(verdict, "failed");
    assert!(
        evidence.starts_with("expired ") && fix.starts_with("renew it"),
        "{evidence} {fix}"
    );
    let (verdict, evidence, _) = finding(&value, "certificate", Some(&hosts[1]));
    assert_eq!(verdict, "passed", "{evidence}");
}

/// A stand-in for a Supabase database, whose certificate authority no machine knows: the client
/// requests encryption and sees the certificate.
fn database() -> Workplace {
    // A client requests encryption with eight bytes; PostgreSQL accepts with one.
    let database = server(2999, |stream| {
        if stream.read_exact(&mut [0; 8]).is_ok() {
            let _ = stream.write_all(b"S");
        }
    });
    let port = database.port();
    Workplace::on_postgres(format!(
        "postgresql://me@localhost:{port}/x?sslmode=verify-full"
    ))
}

#[test]
fn a_database_whose_authority_is_unknown_is_told_how_to_name_it() {
    wrong(
        &database(),
        "database-reachable",
        None,
        "invalid peer certificate",
        "?sslrootcert=FILE",
    );
}

/// An error that somebody must fix is reported at once, without the retries of an outage.
#[test]
fn a_certificate_that_is_refused_ends_a_job_at_once() {
    let mut place = database();
    for line in ["update", "run update"] {
        let said = place.refused(line, 1);
        for part in ["invalid peer certificate", "?sslrootcert=FILE", "sslmode="] {
            assert!(said.contains(part), "{line}: {said}");
        }
        for tried in ["try 1 of", "the next try is in"] {
            assert!(!said.contains(tried), "{line}: {said}");
        }
    }
    // A missing file is not retried either.
    place.url.push_str("&sslrootcert=authority.crt");
    let said = place.refused("update", 2);
    assert!(said.contains("the file of `sslrootcert`"), "{said}");
}
