//! TLS termination by the service itself, without a proxy: rustls with a reloadable certificate.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use arc_swap::ArcSwap;
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
pub(crate) struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// `None` if no certificate is configured.
    ///
    /// # Errors
    ///
    /// If the certificate or the key is invalid, or they do not match.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>> {
        if !config.has_tls() {
            return Ok(None);
        }
        Ok(Some(Self(Arc::new(ArcSwap::new(server_config(config)?)))))
    }

    /// Replaces the certificate for new connections.
    ///
    /// # Errors
    ///
    /// As [`Tls::new`]; the current certificate then stays in use.
    pub(crate) fn reload(&self, config: &Config) -> Result<()> {
        self.0.store(server_config(config)?);
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.load_full().into()
    }
}

fn server_config(config: &Config) -> Result<Arc<ServerConfig>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(config.tls_cert.as_bytes())
        .collect::<Result<_, _>>()
        .context("server.tls_cert is not PEM text")?;
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
