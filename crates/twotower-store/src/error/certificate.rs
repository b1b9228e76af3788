//! Certificates of the database's server that do not hold.

use super::StoreError;
use std::io;

impl StoreError {
    /// Why no connection to `address` was made.
    pub(crate) fn connecting(address: String, cause: sqlx::Error) -> Self {
        match &cause {
            sqlx::Error::Io(said) if refuses_certificate(said) => Self::Certificate {
                server: address,
                cause,
            },
            _ => Self::Connect { address, cause },
        }
    }

    /// Whether no connection was made since the server's certificate is not trusted, or not that of the host of the address.
    pub fn is_certificate(&self) -> bool {
        matches!(self, Self::Certificate { .. })
    }

    /// Whether an outage may end by itself, so that the same call is worth another try soon. A certificate that is refused is so until
    /// somebody has changed the address or the server.
    pub fn may_pass(&self) -> bool {
        self.is_outage() && !self.is_certificate()
    }
}

/// Whether a connection was ended since the server's certificate does not hold.
pub(super) fn refuses_certificate(said: &io::Error) -> bool {
    let Some(error) = said.get_ref() else {
        return false;
    };
    let error = error.downcast_ref::<rustls::Error>();
    matches!(error, Some(rustls::Error::InvalidCertificate(_)))
}

/// What is wrong, without what the driver puts before it.
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

    /// As the driver hands on what rustls has found.
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
            // A replica, or a primary, answers instead, and a server goes on with what it holds.
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
        // Any other fault of a handshake may be one of the way there.
        let cut = rustls::Error::DecryptError;
        let cut = sqlx::Error::from(io::Error::new(io::ErrorKind::InvalidData, cut));
        assert!(StoreError::from(cut).may_pass());
    }
}
