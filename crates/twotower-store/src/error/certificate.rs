//! Errors of server certificates.

use super::StoreError;
use std::io;

impl StoreError {
    /// The error for a failed connection to `address`.
    pub(crate) fn connecting(address: String, cause: sqlx::Error) -> Self {
        match &cause {
            sqlx::Error::Io(said) if refuses_certificate(said) => Self::Certificate {
                server: address,
                cause,
            },
            _ => Self::Connect { address, cause },
        }
    }

    /// Whether the connection failed because the server's certificate is not trusted or belongs to
    /// another host.
    pub fn is_certificate(&self) -> bool {
        matches!(self, Self::Certificate { .. })
    }

    /// Whether the fault is transient, so that an immediate retry is worthwhile. A refused
    /// certificate stays refused until somebody changes the address or the server.
    pub fn may_pass(&self) -> bool {
        self.is_outage() && !self.is_certificate()
    }
}

/// Whether a connection ended because of the server's certificate.
pub(super) fn refuses_certificate(said: &io::Error) -> bool {
    let Some(error) = said.get_ref() else {
        return false;
    };
    let error = error.downcast_ref::<rustls::Error>();
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

/// What is wrong, without the driver's prefix.
pub(super) fn fault(said: &sqlx::Error) -> String {
    match said {
        sqlx::Error::Io(said) => said.to_string(),
        said => said.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::CertificateError;

    /// The form in which the driver passes a rustls error on.
    fn refused() -> sqlx::Error {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        io::Error::new(io::ErrorKind::InvalidData, unknown).into()
    }

    #[test]
    fn a_refused_certificate_is_an_outage_that_does_not_pass() {
        let first = StoreError::connecting("postgresql://db.example/app".into(), refused());
        let later = StoreError::from(refused());
        for error in [&first, &later] {
            assert!(error.is_certificate() && !error.may_pass(), "{error}");
            // A replica or the primary answers instead, or a server continues with what it has
            // cached.
            assert!(error.is_outage() && error.is_transient() && !error.is_usage());
            for said in ["UnknownIssuer", "?sslrootcert=FILE", "sslmode=require"] {
                assert!(error.to_string().contains(said), "{said}: {error}");
            }
        }
        assert!(first.to_string().contains("db.example"), "{first}");
        let reset = || sqlx::Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        for error in [
            StoreError::connecting(String::new(), reset()),
            reset().into(),
        ] {
            assert!(error.may_pass() && !error.is_certificate(), "{error}");
        }
        // Any other handshake fault can be a network fault.
        let cut = rustls::Error::DecryptError;
        let cut = sqlx::Error::from(io::Error::new(io::ErrorKind::InvalidData, cut));
        assert!(StoreError::from(cut).may_pass());
    }
}
