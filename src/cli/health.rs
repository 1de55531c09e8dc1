//! `health`: checks whether a running service is ready.
//!
//! With `--url`, TLS certificates are verified against the system's certificates. Without it, the local service is
//! called by an address of this machine, for which its certificate was not issued; then only the handshake signature is
//! verified. The request contains no secret, and only this machine can answer it.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Uri, http::uri::Scheme};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::exit::CliError;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// URL of the service, such as `https://gateway.example`. Default: the service with these settings on this machine.
    #[arg(long)]
    url: Option<String>,
    /// Retry for at most this long until the service is ready.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
}

/// Prints the readiness report of the service.
///
/// # Errors
///
/// [`CliError::Unreachable`] if no service answers, [`CliError::NotReady`] if it is not ready in time.
pub(super) async fn run(args: Args, local: String) -> Result<()> {
    const POLL_INTERVAL: Duration = Duration::from_millis(100);
    let is_elsewhere = args.url.is_some();
    let url = args.url.unwrap_or(local);
    let url: Uri = format!("{}/readyz?verbose", url.trim_end_matches('/'))
        .parse()
        .with_context(|| format!("{url} is not a valid URL"))?;
    let client = client(is_elsewhere && url.scheme() == Some(&Scheme::HTTPS))?;
    let end = Instant::now() + Duration::from_secs(args.wait);
    loop {
        match ask(&client, &url).await {
            Ok(report) => return Ok(writeln!(std::io::stdout(), "{report}")?),
            Err(error) if Instant::now() >= end => return Err(error.into()),
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

type HttpsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

async fn ask(client: &HttpsClient, url: &Uri) -> Result<String, CliError> {
    const TIMEOUT: Duration = Duration::from_secs(3);
    const MAX_BYTES: usize = 1 << 20;
    let request = async {
        let response = client.get(url.clone()).await.map_err(anyhow::Error::from)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let answer = timeout(TIMEOUT, request).await;
    let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {TIMEOUT:?}")));
    match answer {
        Ok((status, report)) if status.is_success() => Ok(report),
        Ok((status, report)) => Err(CliError::NotReady(format!("not ready: {status} {report}"))),
        Err(error) => Err(CliError::Unreachable(format!("{url} does not answer: {error:#}"))),
    }
}

/// An HTTP client; `verify` enables verification of the server certificate.
fn client(verify: bool) -> Result<HttpsClient> {
    let provider = Arc::new(ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let tls = if verify {
        tls.with_native_roots()?.with_no_client_auth()
    } else {
        let verifier = Arc::new(NoCertVerification(provider));
        tls.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(https))
}

/// Accepts any certificate whose private key the server holds.
#[derive(Debug)]
struct NoCertVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoCertVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
