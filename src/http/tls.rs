//! TLS on the service's own port, where no proxy in front ends it: by rustls, with a certificate that can be changed.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use parking_lot::RwLock;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig, crypto,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use super::Config;

/// The certificate in use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    /// Absent where none is configured.
    ///
    /// # Errors
    ///
    /// If certificate or key are none, or do not belong to each other.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>> {
        if !config.has_tls() {
            return Ok(None);
        }
        Ok(Some(Self(Arc::new(RwLock::new(server_config(config)?)))))
    }

    /// Takes over another certificate, for connections from now on.
    ///
    /// # Errors
    ///
    /// As [`Tls::new`]; then the present one stays.
    pub(crate) fn reload(&self, config: &Config) -> Result<()> {
        let fresh = server_config(config)?;
        *self.0.write() = fresh;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.read().clone().into()
    }
}

fn server_config(config: &Config) -> Result<Arc<ServerConfig>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(config.tls_cert.as_bytes())
        .collect::<Result<_, _>>()
        .context("server.tls_cert is no PEM text")?;
    ensure!(!certificates.is_empty(), "server.tls_cert holds no certificate");
    let key = PrivateKeyDer::from_pem_slice(config.tls_key.expose().as_bytes())
        .context("server.tls_key holds no private key as PEM text")?;
    let mut server =
        ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("server.tls_cert and server.tls_key")?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
