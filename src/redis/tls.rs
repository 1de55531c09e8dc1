//! TLS to Redis by rustls, which trusts the system's roots and, for a Redis with a private CA, further certificates.

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
/// If the text contains no certificate or an invalid one.
pub(super) fn config(pem: &str) -> Result<TlsConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.context("tls_ca")?).context("tls_ca")?;
        count += 1;
    }
    anyhow::ensure!(count > 0, "tls_ca contains no certificate");
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(client).into())
}
