//! TLS to Redis by rustls: the system's roots of trust, and one more when Redis has a private CA.

use anyhow::{Context as _, Result};
use fred::{
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
    rustls_native_certs,
    types::config::{TlsConfig, TlsConnector},
};

/// Trusts the system's roots and the certificates in `pem`.
///
/// # Errors
///
/// If the text holds no certificate, or one that is none.
pub(super) fn config(pem: &str) -> Result<TlsConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut n_certificates = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.context("tls_ca")?).context("tls_ca")?;
        n_certificates += 1;
    }
    anyhow::ensure!(n_certificates > 0, "tls_ca holds no certificate");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(client).into())
}
