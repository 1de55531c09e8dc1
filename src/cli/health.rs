//! `health`: asks a running service whether it is ready.
//!
//! Over TLS, who it is that answers is verified by the system's certificates where `--url` names a service. The
//! service of the settings is asked at an address of this machine, for which its certificate is not made; there only
//! that it has the key of the certificate it shows is verified. Nothing secret is sent, and nobody but this machine can
//! answer.

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

use super::exit::Failure;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service, such as `https://gateway.example`; by default the one of the settings on this machine.
    #[arg(long)]
    url: Option<String>,
    /// Ask again for at most this long until it is ready, for scripts that have just started it.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=86_400))]
    wait: u64,
}

/// Prints what the service says of itself.
///
/// # Errors
///
/// With [`Failure::Unreachable`] if no service answers, with [`Failure::NotReady`] once waiting is over.
pub(super) async fn run(args: Args, local: String) -> Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let is_elsewhere = args.url.is_some();
    let url = args.url.unwrap_or(local);
    let url: Uri = format!("{}/readyz?verbose", url.trim_end_matches('/'))
        .parse()
        .with_context(|| format!("{url} is no URL"))?;
    let client = client(is_elsewhere && url.scheme() == Some(&Scheme::HTTPS))?;
    let end = Instant::now() + Duration::from_secs(args.wait);
    loop {
        match ask(&client, &url).await {
            Ok(said) => return Ok(writeln!(std::io::stdout(), "{said}")?),
            Err(error) if Instant::now() >= end => return Err(error.into()),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

type HttpsClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

async fn ask(client: &HttpsClient, url: &Uri) -> Result<String, Failure> {
    const PATIENCE: Duration = Duration::from_secs(3);
    const MOST: usize = 1 << 20;
    let asking = async {
        let answer = client.get(url.clone()).await.map_err(anyhow::Error::from)?;
        let status = answer.status();
        let said = Limited::new(answer.into_body(), MOST).collect().await;
        let said = said.map_err(anyhow::Error::from_boxed)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&said).into_owned()))
    };
    let answer = timeout(PATIENCE, asking).await;
    let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("nothing within {PATIENCE:?}")));
    match answer {
        Ok((status, said)) if status.is_success() => Ok(said),
        Ok((status, said)) => Err(Failure::NotReady(format!("not ready: {status} {said}"))),
        Err(error) => Err(Failure::Unreachable(format!("{url} does not answer: {error:#}"))),
    }
}

/// A client that may `verify` who answers.
fn client(verify: bool) -> Result<HttpsClient> {
    let provider = Arc::new(ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let tls = if verify {
        tls.with_native_roots()?.with_no_client_auth()
    } else {
        let anybody = Arc::new(AnybodyHere(provider));
        tls.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
    };
    let https =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    Ok(Client::builder(TokioExecutor::new()).build(https))
}

/// Whoever has the key of the certificate that it shows.
#[derive(Debug)]
struct AnybodyHere(Arc<CryptoProvider>);

impl ServerCertVerifier for AnybodyHere {
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
